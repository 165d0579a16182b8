"""The newest packets of a camera, and clips of events cut from them without encoding again where possible."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from comemory.errors import SourceError
from comemory.store.event import iso
from comemory.video.image_folder import upright_rgb
from comemory.video.writer import FRAGMENTS, VideoWriter

COPIED_CODECS = ("h264", "av1")
"""Codecs that browsers play from an mp4; streams of other codecs are re-encoded."""

MAX_AHEAD_S = 2.0
"""An event cannot end this long after the newest packet: where it seems to, the time of day was set back in between."""

MAX_JUMP_S = 5.0
"""If timestamps jump by this much more than the times of arrival, the camera's clock was set; the clip skips the jump."""

MAX_LAG_S = 30.0
"""Frames of a connection that has ended are scored by then; its packets are forgotten after this time and the pre-capture."""

MAX_BUFFER_BYTES = 32 * 2**20
"""Memory for the pre-capture of one camera: 5 s at 50 Mbit/s, more than cameras send."""

STARTED = "starts "
"""Begins the comment in the file that says when its first frame was taken: an export prints the time of each frame."""

LIBRARY_ERRORS = (av.FFmpegError, ValueError, OverflowError, MemoryError, OSError)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as the camera sent it.

    Attributes:
        time: Unix time of its frame.
    """

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
    time: float


class StreamParams:
    """The codec parameters of a connection, to write or decode its packets after it has been closed."""

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self.codec = context.name if context.name not in ("libdav1d", "libaom-av1") else "av1"
        self.time_base = stream.time_base or Fraction(1, 90_000)
        self.rate_hz = float(stream.average_rate) if stream.average_rate else None
        self._decoder = context.codec.name
        self.extradata: bytes | None = context.extradata
        self._size, self._format = (context.height, context.width), context.pix_fmt
        self.template: VideoStream | None = None
        if self.codec in COPIED_CODECS:
            # A stream can be copied from only while its container is open: an empty output in memory stays open.
            with suppress(*LIBRARY_ERRORS):
                self._template_holder = av.open(io.BytesIO(), "w", format="mp4")
                self.template = self._template_holder.add_stream_from_template(stream)

    def open_decoder(self) -> Any:
        """Open a new decoder, for packets from a key frame on."""
        decoder: Any = av.CodecContext.create(self._decoder, "r")
        if self.extradata:
            decoder.extradata = self.extradata
        if self._decoder == "rawvideo":
            decoder.height, decoder.width = self._size
            decoder.pix_fmt = self._format
        decoder.thread_count = 1
        return decoder

    def av_packet(self, packet: Packet) -> Any:
        """The packet in the form that muxers and decoders read."""
        made: Any = av.Packet(packet.data)
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        made.time_base, made.is_keyframe = self.time_base, packet.keyframe
        return made


class ClipWriter:
    """Writes a clip: packets are copied where browsers play the codec, and re-encoded otherwise.

    The clip is written in fragments while its event goes on: a crash loses its last second. Finishing it puts the index at
    its beginning, so that browsers can seek in it.

    Raises:
        SourceError: from every method, if the file cannot be written, such as on a full disk; no part of it is left.
    """

    def __init__(self, path: Path, params: StreamParams) -> None:
        self.path, self.params = path, params
        self.n_packets = 0
        self._started: datetime | None = None
        self._part = path.with_name(f".{path.name}.part")
        self._output: Any = None
        self._stream: Any = None
        self._encoder: VideoWriter | None = None
        self._decoder: Any = None
        self._reformatter = VideoReformatter()
        self._last: Packet | None = None
        self._offset = self._last_dts = 0

    def write(self, packet: Packet) -> None:
        """Add the next packet; packets before the first key frame are skipped."""
        if self.n_packets == 0 and not packet.keyframe:
            return
        if self.n_packets == 0:
            self._started = datetime.fromtimestamp(packet.time, UTC)
        try:
            if self.params.template is not None:
                self._copy(packet)
            else:
                self._encode(packet)
        except LIBRARY_ERRORS as error:
            self._fail(error)
        self.n_packets += 1

    def close(self) -> Path | None:
        """Finish the file and give it its name; None if nothing was written."""
        try:
            if self._output is not None:
                self._output.close()
                self._output = None
            elif self._encoder is not None:
                for image in self._decoder.decode(None):
                    self._add_image(image, None)
                encoder, self._encoder = self._encoder, None
                encoder.close()
            else:
                return None
        except LIBRARY_ERRORS as error:
            self._fail(error)
        with suppress(*LIBRARY_ERRORS):  # on a full disk the fragments are the clip: only seeking in it is slower
            self._index()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)
        return self.path

    def discard(self) -> None:
        """Delete what was written."""
        if self._output is not None:
            with suppress(*LIBRARY_ERRORS):
                self._output.close()
            self._output = None
        if self._encoder is not None:
            self._encoder.__exit__(SourceError, None, None)
            self._encoder = None
        for path in (self._part, self.path):
            with suppress(OSError):
                path.unlink()

    def _index(self) -> None:
        """Copy the fragments into a file with one index at its beginning."""
        with (
            av.open(str(self.path)) as fragments,
            av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"}) as indexed,
        ):
            source = fragments.streams.video[0]
            target = indexed.add_stream_from_template(source)
            if self._started is not None:
                indexed.metadata["comment"] = f"{STARTED}{iso(self._started)}"
            for packet in fragments.demux(source):
                if packet.size:
                    packet.stream = target
                    indexed.mux(packet)
        self._part.replace(self.path)

    def _fail(self, error: BaseException) -> None:
        self.discard()
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot write the clip {self.path}: {reason}") from error

    def _copy(self, packet: Packet) -> None:
        if self._output is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._output = av.open(str(self.path), "w", format="mp4", options=FRAGMENTS)
            self._stream = self._output.add_stream_from_template(self.params.template)
            self._stream.time_base = self.params.time_base
        copied = self.params.av_packet(packet)
        dts = self._next_dts(copied.dts if copied.dts is not None else copied.pts, packet)
        copied.pts = dts if copied.pts is None else max(copied.pts + self._offset, dts)
        copied.dts = dts
        copied.stream = self._stream
        self._output.mux(copied)

    def _next_dts(self, stamp: int | None, packet: Packet) -> int:
        """The timestamp of a packet in the clip: strictly after the last one, whatever the camera's clock does."""
        if self._last is None:
            self._offset, dts = -(stamp or 0), 0
        else:
            passed = round((packet.time - self._last.time) / self.params.time_base)
            max_jump = round(MAX_JUMP_S / self.params.time_base)
            expected = self._last_dts + max(1, packet.duration)
            dts = expected if stamp is None else stamp + self._offset
            if stamp is not None and (dts >= self._last_dts + passed + max_jump or dts <= self._last_dts - max_jump):
                dts = max(expected, self._last_dts + passed)
                self._offset = dts - stamp
            dts = dts if dts > self._last_dts else expected
        self._last, self._last_dts = packet, dts
        return dts

    def _encode(self, packet: Packet) -> None:
        if self._decoder is None:
            self._decoder = self.params.open_decoder()
        for image in self._decoder.decode(self.params.av_packet(packet)):
            self._add_image(image, packet.time)

    def _add_image(self, decoded: av.VideoFrame, time: float | None) -> None:
        image = upright_rgb(decoded, None, self._reformatter)
        if self._encoder is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = (image.shape[0], image.shape[1])
            self._encoder = VideoWriter(self.path, size, self.params.rate_hz, in_place=True)
            self._encoder.__enter__()
        self._encoder.write(image, time)


@dataclass(slots=True, eq=False)
class ClipJob:
    """A clip that is being written; `until`, its end as a Unix time, is set when the event ends."""

    event_id: str
    writer: ClipWriter
    until: float | None = None


@dataclass(frozen=True, slots=True)
class _Connection:
    """The newest packets of a connection that has ended, by group of pictures."""

    params: StreamParams
    groups: list[list[Packet]]

    @property
    def start(self) -> float:
        """Unix time of the first packet."""
        return self.groups[0][0].time

    @property
    def end(self) -> float:
        """Unix time of the last packet."""
        return self.groups[-1][-1].time


class PacketBuffer:
    """The newest packets of a camera in memory, and the clips that are being written from them.

    Args:
        pre_capture_s: seconds of a clip before its event.
        post_capture_s: seconds of a clip after its event.
        max_bytes: limit on the packets in memory; 0 for a camera without clips.
        submit: queues disk work, which runs in another thread, in order; False if the queue is full.
        on_clip: called from that thread with an event's id and its finished clip.
        on_error: called with one line if a clip cannot be written.
    """

    def __init__(
        self,
        pre_capture_s: float,
        post_capture_s: float,
        max_bytes: int,
        submit: Callable[[Callable[[], None]], bool],
        on_clip: Callable[[str, Path], None],
        on_error: Callable[[str], None],
    ) -> None:
        self.pre_capture_s, self.post_capture_s, self.max_bytes = pre_capture_s, post_capture_s, max_bytes
        self._submit, self._on_clip, self._on_error = submit, on_clip, on_error
        self._lock = threading.RLock()
        self._params: StreamParams | None = None
        # Packets by group of pictures: each group starts with a key frame, so a clip can start at any of them.
        self._groups: deque[list[Packet]] = deque()
        self._n_bytes = 0
        self._ended: _Connection | None = None
        self._jobs: list[ClipJob] = []
        self._is_flushed = False

    @classmethod
    def unused(cls) -> PacketBuffer:
        """A buffer that stores nothing, for readers whose packets nobody needs."""
        return cls(0, 0, 0, lambda work: True, lambda event_id, path: None, lambda error: None)

    @property
    def n_bytes(self) -> int:
        """Bytes of the packets in memory that came over this connection."""
        return self._n_bytes

    def start_connection(self, params: StreamParams | None) -> None:
        """Start another connection: clips of the old connection end.

        Its newest packets stay in memory for a while: frames that it sent may still wait to be scored, and an event that
        begins with one of them gets a clip too.

        Args:
            params: None for a source without packets, such as a folder of images.
        """
        with self._lock:
            self._end_clips(lambda job: True)
            if self._params is not None and self._groups:
                self._ended = _Connection(self._params, list(self._groups))
            self._params = params
            self._groups.clear()
            self._n_bytes = 0

    def append(self, packet: Packet) -> None:
        """Add the next packet to the buffer and to the clips under way."""

        def is_over(job: ClipJob) -> bool:
            return job.until is not None and not -self.post_capture_s - MAX_AHEAD_S <= packet.time - job.until <= 0

        with self._lock:
            if packet.keyframe or not self._groups:
                self._groups.append([])
            self._groups[-1].append(packet)
            self._n_bytes += len(packet.data)
            self._trim(packet.time)
            if self._ended is not None and not 0 <= packet.time - self._ended.end <= self.pre_capture_s + MAX_LAG_S:
                self._ended = None
            for job in list(self._jobs):
                self._queue_write(job, packet)
            self._end_clips(is_over)

    def begin_clip(self, event_id: str, path: Path, start: float) -> None:
        """Start the clip of an event with the buffered packets, from the last key frame before its pre-capture.

        Args:
            event_id: id of the event.
            path: of the clip.
            start: Unix time of the event's start.
        """
        with self._lock:
            ended = self._ended if self._is_of_the_ended(start) else None
            params, groups = (self._params, list(self._groups)) if ended is None else (ended.params, list(ended.groups))
            if params is None:
                return
            while len(groups) > 1 and groups[1][0].time <= start - self.pre_capture_s:
                groups.pop(0)
            job = ClipJob(event_id, ClipWriter(path, params))
            self._jobs.append(job)
            for group in groups:
                for packet in group:
                    self._queue_write(job, packet)
            if ended is not None:
                self._end_clips(lambda other: other is job)

    def end_clip(self, event_id: str, end: float) -> None:
        """The event has ended, at a Unix time: its clip ends `post_capture_s` later."""
        with self._lock:
            for job in self._jobs:
                if job.event_id == event_id:
                    job.until = end + self.post_capture_s

    def finish_clips(self, now: float | None = None) -> None:
        """Finish the clips that should have ended by a Unix time though no packet followed; all clips for None."""
        with self._lock:
            self._end_clips(lambda job: now is None or (job.until is not None and now > job.until + 1))

    def flush(self) -> None:
        """Finish clips with what has been written so far; queued packets are skipped."""
        self._is_flushed = True

    def _is_of_the_ended(self, start: float) -> bool:
        """Whether an event that starts at a time began with frames of the connection before this one."""
        if self._ended is None or (self._groups and self._groups[0][0].time <= start):
            return False
        return self._ended.start <= start <= self._ended.end

    def _trim(self, now: float) -> None:
        while len(self._groups) > 1 and (
            self._groups[1][0].time <= now - self.pre_capture_s or self._n_bytes > self.max_bytes
        ):
            self._n_bytes -= sum(len(packet.data) for packet in self._groups.popleft())
        if self._n_bytes > self.max_bytes:
            self._groups.clear()
            self._n_bytes = 0

    def _queue_write(self, job: ClipJob, packet: Packet) -> None:
        if not self._submit(lambda: self._report_errors(job, lambda: self._write(job, packet))):
            self._drop(job)
            self._submit(job.writer.discard)
            self._on_error(f"the clip {job.writer.path} is abandoned: the disk is too slow for all clips at once")

    def _write(self, job: ClipJob, packet: Packet) -> None:
        if not self._is_flushed:
            job.writer.write(packet)

    def _end_clips(self, is_over: Callable[[ClipJob], bool]) -> None:
        for job in [job for job in self._jobs if is_over(job)]:
            self._jobs.remove(job)
            self._submit(lambda job=job: self._report_errors(job, lambda: self._close(job)))  # type: ignore[misc]

    def _close(self, job: ClipJob) -> None:
        if (path := job.writer.close()) is not None:
            self._on_clip(job.event_id, path)

    def _drop(self, job: ClipJob) -> None:
        with self._lock:
            self._jobs = [other for other in self._jobs if other is not job]

    def _report_errors(self, job: ClipJob, work: Callable[[], None]) -> None:
        try:
            work()
        except SourceError as error:
            self._drop(job)
            self._on_error(str(error))
