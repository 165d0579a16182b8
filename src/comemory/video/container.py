"""Video files, and streams at a URL: decoded to upright RGB frames with the times of their own clock."""

from __future__ import annotations

import bisect
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from comemory.errors import SourceError, mask_password
from comemory.types import Frame
from comemory.video.formats import FILE_FORMATS as FILE_FORMATS
from comemory.video.formats import error_reason, open_file
from comemory.video.image_folder import DEFAULT_RATE_HZ, upright_rgb, upright_size
from comemory.video.resize import MAX_PIXELS

URL_PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,rtsp,rtsps,rtp,srtp,udp,rtmp,rtmps,srt"
"""Protocols that a stream may use. Without `file`, a camera's playlist cannot read files of this machine."""

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
MAX_RATE_HZ = 1000.0
JUMP_S = 1.0
"""A timestamp that goes back by more than this starts a new time line; see `_Clock`."""

DECODE_STAMPED = ("avi",)
"""Containers that stamp packets in decoding order: with B-frames a frame carries the stamp of a neighbour."""

MAX_REORDERED = 16
"""Most frames by which decoding order and display order differ; H.264 and H.265 allow 16."""

_LIBRARY_ERRORS = (av.FFmpegError, ValueError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class StartFrame:
    """Where the reading of a file begins, if not at its first frame.

    Attributes:
        index: of a key frame, counted from the first frame of the file.
        stamp: its time stamp, in the stream's own units.
        origin_s: time of the file's first frame on the stream's clock, seconds.
    """

    index: int
    stamp: int
    origin_s: float


class Video:
    """A source: a video file, or a stream at a URL.

    The constructor opens a file and decodes its first frame, so that a file that is no video is refused at once. A URL is
    contacted when it is iterated. Nothing stays open between iterations.

    Damage in a file does not end its iteration. Frames that cannot be decoded completely are skipped and keep their index;
    frames that the container itself lost cannot be counted. A truncated file ends early. Each of these is one line in
    `problems`. A stream that breaks raises an error.

    Reading may begin at a key frame inside a file. Indices and times are those of the whole file, if nothing before it is
    damaged; whether the file is truncated is not found out then.

    Attributes:
        name: short and safe for file names.
        rate_hz: average rate as the container states it, else the rate given, else None.
        n_frames: as the header of a file states it; None where it does not.
        size: (height, width) of the first frame, upright, before any resize; None for a URL that was never read.
        problems: what went wrong in the newest iteration, one line each, starting with the path.
        restarts: indices of the frames before which the clock started again, in the newest iteration.
        time_base: seconds of a unit of the time stamps; None before the first iteration.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        name: str,
        size: tuple[int, int] | None = None,
        rate_hz: float | None = None,
        start: StartFrame | None = None,
    ) -> None:
        self.name = name
        self._start = start
        self.rate_hz = rate_hz
        self.n_frames: int | None = None
        self.size: tuple[int, int] | None = None
        self.problems: list[str] = []
        self.restarts: list[int] = []
        self.time_base: Fraction | None = None
        self._is_stream = isinstance(location, str)
        self._location = str(location)
        self._display_name = mask_password(self._location).partition("?")[0] if self._is_stream else self._location
        self._target_size = size
        if not self._is_stream:
            self._read_header()
            with closing(iter(self)) as frames:
                next(frames)

    def __iter__(self) -> Generator[Frame, None, None]:
        """Yield the frames from the first on.

        Raises:
            SourceError: it cannot be opened, or nothing in it can be decoded; the image size changes and no size was asked
                for; a stream breaks, or sends nothing for `READ_TIMEOUT_S`.
        """
        reformatter = VideoReformatter()
        first_size: tuple[int, int] | None = None
        last_size: tuple[int, int] | None = None
        with closing(self.decode()) as frames:
            for index, time_s, decoded in frames:
                size = (decoded.height, decoded.width)
                first_size = first_size or size
                is_restart = index in self.restarts[-1:] or last_size not in (None, size)
                last_size = size
                if self._target_size is None and first_size != size:
                    raise SourceError(
                        f"{self._display_name}: the image size changes from {first_size[0]}x{first_size[1]} to "
                        f"{decoded.height}x{decoded.width} at frame {index} ({time_s:.2f} s): pass `size` to resize all frames"
                    )
                yield Frame(upright_rgb(decoded, self._target_size, reformatter), time_s, index, is_restart)

    def decode(self) -> Generator[tuple[int, float, av.VideoFrame], None, None]:
        """Yield index, time in seconds and decoded frame of every frame, before it is turned upright and converted to RGB.

        Raises:
            SourceError: as in iterating, a change of size apart.
        """
        self.problems.clear()
        self.restarts.clear()
        with self._open() as container:
            stream = self._video_stream(container)
            self._read_rate(stream)
            self.time_base = stream.time_base
            start = self._start
            clock = _Clock(stream.time_base, self.rate_hz or DEFAULT_RATE_HZ, None if start is None else start.origin_s)
            if start is not None:
                container.seek(start.stamp, stream=stream)
            decoding = _Decoding(container, stream, start)
            count = 0
            has_decode_stamps = container.format.name in DECODE_STAMPED
            stamped = _sorted_stamps(decoding) if has_decode_stamps else ((i, one.pts, one) for i, one in decoding)
            for index, stamp, decoded in stamped:
                if count == 0:
                    self.size = upright_size(decoded)
                count += 1
                time_s = clock.time_s(stamp)
                if clock.has_restarted:
                    self.restarts.append(index)
                yield index, time_s, decoded
            self._report(decoding, container, count)

    def _open(self) -> InputContainer:
        options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": URL_PROTOCOLS}
        if self._location.lower().startswith("rtsp"):
            options |= {"rtsp_transport": "tcp", "probesize": "32768", "analyzeduration": "200000"}
        try:
            if not self._is_stream:
                return open_file(self._location)
            return av.open(
                self._location,
                options=options,
                metadata_errors="replace",
                timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            )
        except _LIBRARY_ERRORS as error:
            if self._is_stream:
                raise SourceError(f"cannot open the stream {self._display_name}: {error_reason(error)}") from error
            reason = "not a known video format" if isinstance(error, av.ArgumentError) else error_reason(error)
            raise SourceError(
                f"cannot open {self._display_name} as a video: {reason}; expected an undamaged video file such as "
                "mp4, avi, mkv or webm, or a folder of frames"
            ) from error

    def _video_stream(self, container: InputContainer) -> VideoStream:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise SourceError(f"{self._display_name}: it contains no video, only {kinds}: expected a video stream")
        stream = streams[0]
        if stream.codec_context is None:
            raise SourceError(
                f"{self._display_name}: no decoder for its video: convert it to H.264, for example with ffmpeg"
            )
        height, width = stream.codec_context.height, stream.codec_context.width
        if height * width > MAX_PIXELS:
            raise SourceError(
                f"{self._display_name}: its frames are {height}x{width}, expected at most {MAX_PIXELS // 10**6} megapixels"
            )
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        return stream

    def _read_rate(self, stream: VideoStream) -> None:
        for rate in (stream.average_rate, stream.guessed_rate):
            if rate is not None and 0 < rate <= MAX_RATE_HZ:
                self.rate_hz = float(rate)
                return

    def _read_header(self) -> None:
        with self._open() as container:
            stream = self._video_stream(container)
            if stream.frames > 0:
                entries = len(stream.index_entries) if "mp4" in container.format.name else 0
                self.n_frames = entries or stream.frames

    def _report(self, decoding: _Decoding, container: InputContainer, count: int) -> None:
        """Report what went wrong while decoding: as problems, or as an error where no frame is usable."""
        if self._is_stream and decoding.stopped_by is not None:
            raise SourceError(
                f"{self._display_name}: the stream broke after {count} frames: {error_reason(decoding.stopped_by)}"
            ) from decoding.stopped_by
        if count == 0:
            cause = f": {error_reason(decoding.error)}" if decoding.error else ""
            raise SourceError(
                f"{self._display_name}: no frame can be decoded{cause}; it is damaged, truncated or empty"
            )
        if self._is_stream:
            return
        if decoding.n_lost:
            what = "1 damaged frame" if decoding.n_lost == 1 else f"{decoding.n_lost} damaged frames"
            self.problems.append(f"{self._display_name}: {what} skipped, from frame {decoding.first_lost}")
        if decoding.stopped_by is not None:
            self.problems.append(
                f"{self._display_name}: reading stopped: {error_reason(decoding.stopped_by)}; frames read: {count}"
            )
        elif self._start is None and decoding.is_truncated(container):
            total = f" of {self.n_frames}" if self.n_frames else ""
            self.problems.append(f"{self._display_name}: the file is truncated or damaged; frames read: {count}{total}")


class _Decoding:
    """One pass through a stream: yields (index, decoded frame) of every undamaged frame, and counts the lost ones.

    Attributes:
        n_lost: number of frames that were skipped.
        first_lost: index of the first of them.
        error: newest error of the decoder; None without one.
        stopped_by: error that ended the pass early; None without one.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, start: StartFrame | None = None) -> None:
        self._first_stamp = None if start is None else start.stamp
        self.n_lost = 0
        self.first_lost: int | None = None
        self.error: BaseException | None = None
        self.stopped_by: BaseException | None = None
        self._container = container
        self._format = container.format.name
        self._stream = stream
        self._index = 0 if start is None else start.index
        self._n_packets = 0
        self._end = 0
        self._corrupt_pts: set[int | None] = set()
        self._missing: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, av.VideoFrame]]:
        try:
            for packet in self._container.demux(self._stream):
                if packet.size > 0:
                    yield from self._decode(packet)
        except _LIBRARY_ERRORS as error:
            self.error = self.stopped_by = error
        yield from self._decode(None)
        for _ in self._missing:
            self._lose()

    def _decode(self, packet: av.Packet[VideoStream] | None) -> Iterator[tuple[int, av.VideoFrame]]:
        if packet is not None:
            self._n_packets += 1
            start = packet.pts if packet.pts is not None else packet.dts
            self._end = max(self._end, (start or 0) + (packet.duration or 0))
            if packet.is_corrupt and "mpeg" not in self._format:
                self._corrupt_pts.add(packet.pts)
        try:
            frames = self._stream.codec_context.decode(packet)
        except _LIBRARY_ERRORS as error:
            self.error = error
            if packet is not None:
                self._miss(packet.pts)
            return
        for decoded in frames:
            if self._first_stamp is not None and (decoded.pts is None or decoded.pts < self._first_stamp):
                continue  # shown before the key frame at which the reading begins
            self._lose_until(decoded.pts)
            if decoded.is_corrupt or (self._corrupt_pts and decoded.pts in self._corrupt_pts):
                self._lose()
            else:
                self._index += 1
                yield self._index - 1, decoded

    def _miss(self, pts: int | None) -> None:
        """Remember a packet that gave no frame. Frames that are shown before it may still come out of the decoder later."""
        if pts is None:
            self._lose()
        else:
            bisect.insort(self._missing, pts)

    def _lose_until(self, pts: int | None) -> None:
        while self._missing and pts is not None and self._missing[0] < pts:
            self._missing.pop(0)
            self._lose()

    def _lose(self) -> None:
        self.n_lost += 1
        self.first_lost = self._index if self.first_lost is None else self.first_lost
        self._index += 1

    def is_truncated(self, container: InputContainer) -> bool:
        """Whether the header states more frames, or a longer duration, than were read."""
        stream = self._stream
        if "mp4" in self._format:
            return self._n_packets < len(stream.index_entries)
        stated_s = _stated_duration_s(container, stream)
        if stated_s is None or stream.time_base is None:
            return False
        tolerance_s = (0.5 if self._format == "avi" else 1.5) / float(stream.average_rate or DEFAULT_RATE_HZ)
        return float(self._end * stream.time_base) < stated_s - tolerance_s


def _stated_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """The duration in seconds that the header states; None where it states none."""
    if container.format.name == "avi" and stream.frames and stream.time_base:
        return float(stream.frames * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "").strip())
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if container.format.name in ("matroska,webm", "flv") and container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _sorted_stamps(
    decoding: Iterable[tuple[int, av.VideoFrame]],
) -> Generator[tuple[int, int | None, av.VideoFrame], None, None]:
    """Give the frames, in the order in which they are shown, the time stamps in rising order.

    A container that stamps packets in decoding order gives a frame the stamp of a neighbour: sorted, the stamps fit again.
    """
    waiting: deque[tuple[int, av.VideoFrame]] = deque()
    stamps: list[int] = []
    for index, decoded in decoding:
        if decoded.pts is None:
            yield index, None, decoded
            continue
        waiting.append((index, decoded))
        heappush(stamps, decoded.pts)
        if len(waiting) > MAX_REORDERED:
            first, shown = waiting.popleft()
            yield first, heappop(stamps), shown
    for first, shown in waiting:
        yield first, heappop(stamps), shown


class _Clock:
    """Seconds since the first frame, from the stream's own timestamps. They never decrease.

    A missing timestamp is extrapolated from the rate. A timestamp that goes back by more than `JUMP_S` starts a new time line
    (a restarted camera, or files joined end to end), which continues one interval after the frame before.

    Attributes:
        has_restarted: whether the newest frame starts a new time line.
    """

    def __init__(self, time_base: Fraction | None, rate_hz: float, origin_s: float | None = None) -> None:
        self._time_base = time_base
        self._interval_s = 1.0 / rate_hz
        self._base_s = origin_s
        self._newest_s: float | None = None
        self.has_restarted = False

    def time_s(self, pts: int | None) -> float:
        expected = 0.0 if self._newest_s is None else self._newest_s + self._interval_s
        time_s, self.has_restarted = expected, False
        if pts is not None and self._time_base is not None:
            stamp_s = float(pts * self._time_base)
            if self._base_s is None or stamp_s - self._base_s < (self._newest_s or 0.0) - JUMP_S:
                self.has_restarted = self._base_s is not None
                self._base_s = stamp_s - expected
            time_s = max(stamp_s - self._base_s, self._newest_s or 0.0)
        self._newest_s = time_s
        return time_s
