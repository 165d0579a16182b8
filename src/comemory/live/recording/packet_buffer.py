"""The last seconds of a camera as it sent them, and clips of events cut from them."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from comemory.errors import SourceError
from comemory.video.image_folder import upright
from comemory.video.writer import VideoWriter

AS_SENT = ("h264", "av1")
"""Codecs that browsers play from an mp4; pictures of others are encoded anew."""

AHEAD_S = 2.0
"""An event never ends so long after the newest packet: one that does was timed before this machine's clock was set."""

HOLE_S = 5.0
"""A stamp that leaps so much farther than the packets lay apart is of a clock that was set: a clip goes on without a hole."""

LIBRARY_ERRORS = (av.FFmpegError, ValueError, OverflowError, MemoryError, OSError)


@dataclass(frozen=True, slots=True)
class Sent:
    """One packet as the camera sent it.

    Attributes:
        time: Unix time of its picture.
    """

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
    time: float


class Feed:
    """What the packets of one connection need to be written or decoded later, when the connection may be gone."""

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self.codec = context.name if context.name not in ("libdav1d", "libaom-av1") else "av1"
        self.time_base = stream.time_base or Fraction(1, 90_000)
        self.rate_hz = float(stream.average_rate) if stream.average_rate else None
        self._decoder = context.codec.name
        self._extradata, self._size, self._format = context.extradata, (context.height, context.width), context.pix_fmt
        self.template: VideoStream | None = None
        if self.codec in AS_SENT:
            with suppress(*LIBRARY_ERRORS):
                self._holder = av.open(io.BytesIO(), "w", format="mp4")
                self.template = self._holder.add_stream_from_template(stream)

    def decoder(self) -> Any:
        """A decoder of its own, for packets from a keyframe on."""
        decoder: Any = av.CodecContext.create(self._decoder, "r")
        if self._extradata:
            decoder.extradata = self._extradata
        if self._decoder == "rawvideo":
            decoder.height, decoder.width = self._size
            decoder.pix_fmt = self._format
        decoder.thread_count = 1
        return decoder

    def packet(self, sent: Sent) -> Any:
        """The packet for a muxer or a decoder."""
        packet: Any = av.Packet(sent.data)
        packet.pts, packet.dts, packet.duration = sent.pts, sent.dts, sent.duration
        packet.time_base, packet.is_keyframe = self.time_base, sent.keyframe
        return packet


class Film:
    """A clip being written: as it was sent where browsers play that, else encoded anew.

    Raises:
        SourceError: from every method, where it cannot be written, such as on a full disk; nothing is left behind.
    """

    def __init__(self, path: Path, feed: Feed) -> None:
        self.path, self.feed = path, feed
        self.n_packets = 0
        self._part = path.with_name(f".{path.name}.part")
        self._output: Any = None
        self._stream: Any = None
        self._writer: VideoWriter | None = None
        self._decoder: Any = None
        self._reformatter = VideoReformatter()
        self._last: Sent | None = None
        self._shift = self._newest = 0

    def write(self, sent: Sent) -> None:
        """Add the next packet; those before the first keyframe are left out."""
        if self.n_packets == 0 and not sent.keyframe:
            return
        try:
            if self.feed.template is not None:
                self._remux(sent)
            else:
                self._encode(sent)
        except LIBRARY_ERRORS as error:
            self.discard()
            raise SourceError(
                f"cannot write the clip {self.path}: {getattr(error, 'strerror', None) or error}"
            ) from error
        self.n_packets += 1

    def close(self) -> Path | None:
        """Finish the file and give it its name; None where there was nothing to write."""
        try:
            if self._output is not None:
                self._output.close()
                self._output = None
                self._part.replace(self.path)
                return self.path
            if self._writer is not None:
                for picture in self._decoder.decode(None):
                    self._add(picture, None)
                writer, self._writer = self._writer, None
                writer.close()
                return self.path
        except LIBRARY_ERRORS as error:
            self.discard()
            raise SourceError(
                f"cannot write the clip {self.path}: {getattr(error, 'strerror', None) or error}"
            ) from error
        return None

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._output is not None:
            with suppress(*LIBRARY_ERRORS):
                self._output.close()
            self._output = None
        if self._writer is not None:
            self._writer.__exit__(SourceError, None, None)
            self._writer = None
        with suppress(OSError):
            self._part.unlink()

    def _remux(self, sent: Sent) -> None:
        if self._output is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._output = av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
            self._stream = self._output.add_stream_from_template(self.feed.template)
            self._stream.time_base = self.feed.time_base
        packet = self.feed.packet(sent)
        dts = self._placed(packet.dts if packet.dts is not None else packet.pts, sent)
        packet.pts = dts if packet.pts is None else max(packet.pts + self._shift, dts)
        packet.dts = dts
        packet.stream = self._stream
        self._output.mux(packet)

    def _placed(self, stamp: int | None, sent: Sent) -> int:
        """Where a packet lies in the clip: after the one before, as far as its stamps say, whose clock may be set."""
        if self._last is None:
            self._shift, dts = -(stamp or 0), 0
        else:
            passed = round((sent.time - self._last.time) / self.feed.time_base)
            hole = round(HOLE_S / self.feed.time_base)
            expected = self._newest + max(1, sent.duration)
            dts = expected if stamp is None else stamp + self._shift
            if stamp is not None and (dts >= self._newest + passed + hole or dts <= self._newest - hole):
                dts = max(expected, self._newest + passed)
                self._shift = dts - stamp
            dts = dts if dts > self._newest else expected
        self._last, self._newest = sent, dts
        return dts

    def _encode(self, sent: Sent) -> None:
        if self._decoder is None:
            self._decoder = self.feed.decoder()
        for picture in self._decoder.decode(self.feed.packet(sent)):
            self._add(picture, sent.time)

    def _add(self, picture: av.VideoFrame, time: float | None) -> None:
        image = upright(picture, None, self._reformatter)
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = VideoWriter(self.path, (image.shape[0], image.shape[1]), self.feed.rate_hz)
            self._writer.__enter__()
        self._writer.write(image, time)


@dataclass(slots=True, eq=False)
class Take:
    """A clip in the making: `until` is set when the event is over."""

    event_id: str
    film: Film
    until: float | None = None


class Footage:
    """The packets of a camera: the newest seconds in memory, and the clips that want those that follow.

    Disk work is handed to `submit`, which runs it elsewhere, in order.

    Args:
        before_s, after_s: seconds of a clip before and after its event.
        largest_bytes: of the seconds in memory.
        on_clip: called, from where the disk work runs, with the event and its clip.
        on_trouble: called with one line where a clip could not be written.
    """

    def __init__(
        self,
        before_s: float,
        after_s: float,
        largest_bytes: int,
        submit: Callable[[Callable[[], None]], bool],
        on_clip: Callable[[str, Path], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.before_s, self.after_s, self.largest_bytes = before_s, after_s, largest_bytes
        self._submit, self._on_clip, self._on_trouble = submit, on_clip, on_trouble
        self._lock = threading.RLock()
        self._feed: Feed | None = None
        self._groups: deque[list[Sent]] = deque()
        self._n_bytes = 0
        self._takes: list[Take] = []
        self._hurried = False

    @property
    def n_bytes(self) -> int:
        """Held in memory."""
        return self._n_bytes

    def open(self, feed: Feed | None) -> None:
        """A connection begins: what is held belongs to the one before, and clips of that end."""
        with self._lock:
            self._end_takes(lambda take: True)
            self._feed = feed
            self._groups.clear()
            self._n_bytes = 0

    def push(self, sent: Sent) -> None:
        """Take the next packet."""
        with self._lock:
            if sent.keyframe or not self._groups:
                self._groups.append([])
            self._groups[-1].append(sent)
            self._n_bytes += len(sent.data)
            self._trim(sent.time)
            for take in self._takes:
                self._write(take, sent)
            self._end_takes(
                lambda take: take.until is not None and not -self.after_s - AHEAD_S <= sent.time - take.until <= 0
            )

    def begin(self, event_id: str, path: Path, start: float) -> None:
        """Begin the clip of an event with the packets held, from the last keyframe before its start."""
        with self._lock:
            if self._feed is None:
                return
            groups = list(self._groups)
            while len(groups) > 1 and groups[1][0].time <= start - self.before_s:
                groups.pop(0)
            take = Take(event_id, Film(path, self._feed))
            self._takes.append(take)
            for group in groups:
                for sent in group:
                    self._write(take, sent)

    def end(self, event_id: str, end: float) -> None:
        """The event is over: its clip ends `after_s` later."""
        with self._lock:
            for take in self._takes:
                if take.event_id == event_id:
                    take.until = end + self.after_s

    def finish(self, now: float | None = None) -> None:
        """End the clips whose time has come, where no packets follow; all of them without a time."""
        with self._lock:
            self._end_takes(lambda take: now is None or (take.until is not None and now > take.until + 1))

    def hurry(self) -> None:
        """Let the clips end with what is written of them."""
        self._hurried = True

    def _trim(self, now: float) -> None:
        while len(self._groups) > 1 and (
            self._groups[1][0].time <= now - self.before_s or self._n_bytes > self.largest_bytes
        ):
            self._n_bytes -= sum(len(sent.data) for sent in self._groups.popleft())
        if self._n_bytes > self.largest_bytes:
            self._groups.clear()
            self._n_bytes = 0

    def _write(self, take: Take, sent: Sent) -> None:
        if not self._submit(lambda: self._guarded(take, lambda: self._shoot(take, sent))):
            self._takes = [other for other in self._takes if other is not take]
            self._submit(take.film.discard)
            self._on_trouble(f"the clip {take.film.path} is given up: too much waits to be written")

    def _shoot(self, take: Take, sent: Sent) -> None:
        if not self._hurried:
            take.film.write(sent)

    def _end_takes(self, is_over: Callable[[Take], bool]) -> None:
        for take in [take for take in self._takes if is_over(take)]:
            self._takes.remove(take)
            self._submit(lambda take=take: self._guarded(take, lambda: self._close(take)))  # type: ignore[misc]

    def _close(self, take: Take) -> None:
        if (path := take.film.close()) is not None:
            self._on_clip(take.event_id, path)

    def _guarded(self, take: Take, act: Callable[[], None]) -> None:
        try:
            act()
        except SourceError as error:
            with self._lock:
                self._takes = [other for other in self._takes if other is not take]
            self._on_trouble(str(error))
