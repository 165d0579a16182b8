"""One camera's connection: frames into the slot, packets into the footage, and again when it is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from comemory.errors import SourceError, last_line, mask_password
from comemory.stream.contract import CameraState
from comemory.stream.figures import Rate
from comemory.stream.footage import LIBRARY_ERRORS, Feed, Footage, Sent
from comemory.stream.pace import Pace
from comemory.stream.settings import CameraSettings, HealthSettings
from comemory.stream.slot import Slot, Tick
from comemory.video.container import FILE_FORMATS, URL_PROTOCOLS
from comemory.video.folder import FrameFolder
from comemory.video.resize import MAX_PIXELS
from comemory.video.source import URL_SCHEMES, open_source

OPEN_TIMEOUT_S = 4.0
JUMP_S = 1.0
ARRIVAL_FORMATS = ("mpjpeg", "mjpeg", "v4l2", "video4linux2,v4l2")
"""Formats that carry no clock of the camera: the time of arrival is taken."""


class Reader(threading.Thread):
    """Reads one camera until it is stopped; a file until its end.

    Attributes:
        link: `connecting`, `live` while connected and from turn to turn of a file, `down`.
        message: one line on why it is not live.
        frames, attempts, reconnects, corrupt: counters.
        last_frame: when a frame last arrived, on the monotonic clock; None before any.
        newest: the newest picture.
        rate: of the frames that arrive.
        size: (height, width) of the pictures.
        finished: the file is over, or cannot be read at all.
    """

    def __init__(
        self, name: str, camera: CameraSettings, health: HealthSettings, pace: Pace, slot: Slot, footage: Footage
    ) -> None:
        super().__init__(name=f"camera-{name}", daemon=True)
        self.camera, self.health, self.pace, self.slot, self.footage = camera, health, pace, slot, footage
        self.link = CameraState.CONNECTING
        self.message = "connecting"
        self.frames = self.attempts = self.reconnects = self.corrupt = 0
        self.last_frame: float | None = None
        self.rate = Rate()
        self.newest: Any = None
        self.size: tuple[int, int] | None = None
        self.finished = False
        self._location = ""
        self._stopping = threading.Event()
        self._attempts_at: deque[float] = deque()
        self._was_live = False
        self._clock: _Clock | None = None

    @property
    def is_file(self) -> bool:
        """Whether it plays a file or a folder, which ends."""
        return "://" not in self._location and not self._location.startswith("/dev/")

    def stop(self) -> None:
        """Ask it to end; it does within the time that a read may take."""
        self._stopping.set()

    def run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            frames_before = self.frames
            self._connect_and_read()
            if self.finished or self._stopping.is_set():
                break
            failures = 0 if self.frames > frames_before else failures + 1
            self._wait(failures)

    def _connect_and_read(self) -> None:
        self._attempts_at.append(time.monotonic())
        self.attempts += 1
        frames_before = self.frames
        try:
            self._location = self.camera.location
            if self.link is not CameraState.LIVE:
                self.link = CameraState.CONNECTING
            shown = mask_password(self._location)
            if self.is_file and Path(self._location).is_dir():
                self._play_folder(FrameFolder(Path(self._location), name="", size=None, rate_hz=self.pace.rate_hz))
            elif self.is_file:
                self._play_file()
            else:
                self._watch_stream()
            plays_again = self.is_file and self.camera.loop and self.frames > frames_before
            if not (plays_again or self._stopping.is_set()):
                self._lost(f"{shown}: the camera ended the stream")
        except (SourceError, *LIBRARY_ERRORS) as error:
            text = str(error) if isinstance(error, SourceError) else _reason(error)
            self._lost(text if isinstance(error, SourceError) else f"{mask_password(self._location)}: {text}")
            if self.is_file:
                self.finished = True

    def _lost(self, message: str) -> None:
        self.link, self.message = CameraState.DOWN, mask_password(message)
        if self.is_file and not self.camera.loop:
            self.finished = True
            if self.message.endswith("ended the stream"):
                self.message = "the file is over"

    def _wait(self, failures: int) -> None:
        """Pause before the next attempt: longer each time, and never more attempts a minute than allowed."""
        if self.is_file:
            self._attempts_at.clear()
            if failures:
                self._stopping.wait(1.0)
            return
        pause_s = min(self.health.backoff_s, 0.5 * 2 ** min(failures, 10)) * random.uniform(0.8, 1.0)
        now = time.monotonic()
        while self._attempts_at and now - self._attempts_at[0] > 60:
            self._attempts_at.popleft()
        if len(self._attempts_at) >= self.health.attempts_per_min:
            pause_s = max(pause_s, 60 - (now - self._attempts_at[0]))
        self._stopping.wait(pause_s)

    def _watch_stream(self) -> None:
        location = self._location
        scheme = location.partition("://")[0].lower()
        options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": URL_PROTOCOLS}
        format_name = "v4l2" if location.startswith("/dev/") else None
        if format_name:
            options = {}
        elif scheme not in URL_SCHEMES:
            raise SourceError(f"cannot open {mask_password(location)}: no such kind of stream: give rtsp:// or http://")
        elif scheme.startswith("rtsp"):
            options |= {"rtsp_transport": self.camera.transport, "probesize": "32768", "analyzeduration": "200000"}
        timeout = (OPEN_TIMEOUT_S, max(self.health.stalled_s * 1.5, 2.0))
        with av.open(
            location, format=format_name, options=options, metadata_errors="replace", timeout=timeout
        ) as container:
            self._decode_all(container, live=True, offset_s=None)

    def _play_file(self) -> None:
        open_source(self._location)
        options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": "file", "format_whitelist": FILE_FORMATS}
        with av.open(self._location, options=options, metadata_errors="replace") as container:
            self._decode_all(container, live=False, offset_s=time.time())

    def _play_folder(self, folder: FrameFolder) -> None:
        start = time.time()
        self._begin(self.pace.rate_hz, None)
        for frame in folder:
            if not self._keep_pace(start + frame.time_s):
                return
            self._arrive(frame.image, frame.time_s, start + frame.time_s)

    def _decode_all(self, container: InputContainer, *, live: bool, offset_s: float | None) -> None:
        stream = _video_stream(container, mask_password(self._location))
        feed = Feed(stream)
        by_arrival = live and container.format.name in ARRIVAL_FORMATS
        rate_hz = feed.rate_hz if feed.rate_hz and 0 < feed.rate_hz <= 240 and not by_arrival else None
        self._begin(rate_hz, feed)
        clock = _Clock(float(feed.time_base), rate_hz or self.pace.rate_hz)
        for packet in _packets(container, stream):
            if self._stopping.is_set():
                return
            now = time.time()
            if packet is not None:
                start_s = clock.peek(packet.pts)
                sent_at = now if live or offset_s is None else offset_s + start_s
                self.footage.push(_sent(packet, sent_at))
            for picture in self._decoded(stream, packet):
                time_s = now if by_arrival else clock.time_s(picture.pts)
                at = now if live or offset_s is None else offset_s + time_s
                if not live and not self._keep_pace(at):
                    return
                self._arrive(picture, time_s, at)

    def _decoded(self, stream: VideoStream, packet: Any) -> Iterator[av.VideoFrame]:
        try:
            pictures = stream.codec_context.decode(packet)
        except LIBRARY_ERRORS:
            self.corrupt += 1
            self.pace.lose()
            return
        for picture in pictures:
            if picture.is_corrupt:
                self.corrupt += 1
                self.pace.lose()
            else:
                yield picture

    def _begin(self, rate_hz: float | None, feed: Feed | None) -> None:
        """A connection stands: what was seen before belongs to another clip."""
        self.footage.open(feed)
        self.pace.begin(rate_hz)
        if self._was_live and not self.is_file:
            self.reconnects += 1

    def _keep_pace(self, at: float) -> bool:
        """Wait until a file's frame would have come; False when it is to stop."""
        if not self.camera.realtime:
            return not self._stopping.is_set()
        return not self._stopping.wait(max(0.0, at - time.time()))

    def _arrive(self, picture: Any, time_s: float, at: float) -> None:
        self.frames += 1
        self.rate.tick()
        self.newest = picture
        self.last_frame = time.monotonic()
        if self.link is not CameraState.LIVE:
            self.link, self.message = CameraState.LIVE, ""
            self._was_live = True
        if isinstance(picture, av.VideoFrame):
            turned = round(picture.rotation / 90) % 2
            self.size = (picture.width, picture.height) if turned else (picture.height, picture.width)
        else:
            self.size = (picture.shape[0], picture.shape[1])
        beat = self.pace.push(time_s)
        if beat is not None:
            self.slot.put(Tick(picture, beat, at, time.monotonic(), self.size, self.attempts), self._stopping.is_set)


class _Clock:
    """Seconds on the stream's own clock, from its first frame, never backwards."""

    def __init__(self, time_base_s: float, rate_hz: float) -> None:
        self._time_base_s, self._interval_s = time_base_s, 1 / rate_hz
        self._base_s: float | None = None
        self._newest_s: float | None = None

    def peek(self, pts: int | None) -> float:
        """Where a packet lies, as far as is known before it is decoded."""
        if pts is None or self._base_s is None:
            return self._newest_s or 0.0
        return max(0.0, pts * self._time_base_s - self._base_s)

    def time_s(self, pts: int | None) -> float:
        """The time of the next picture; one interval on where it has none, or where the clock jumps back."""
        expected = 0.0 if self._newest_s is None else self._newest_s + self._interval_s
        time_s = expected
        if pts is not None:
            stamp_s = pts * self._time_base_s
            if self._base_s is None or stamp_s - self._base_s < (self._newest_s or 0.0) - JUMP_S:
                self._base_s = stamp_s - expected
            time_s = max(stamp_s - self._base_s, self._newest_s or 0.0)
        self._newest_s = time_s
        return time_s


def _video_stream(container: InputContainer, shown: str) -> VideoStream:
    if not container.streams.video:
        raise SourceError(f"{shown}: there is no video in it: expected a video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise SourceError(f"{shown}: no decoder for its video: set the camera to H.264")
    height, width = stream.codec_context.height, stream.codec_context.width
    if height * width > MAX_PIXELS:
        raise SourceError(f"{shown}: its pictures are {height}x{width}: at most {MAX_PIXELS // 10**6} megapixels")
    stream.codec_context.thread_count = 1
    with suppress(*LIBRARY_ERRORS):
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """The packets, and at the end None, which lets the decoder give its last pictures."""
    for packet in container.demux(stream):
        if packet.size > 0:
            yield packet
    yield None


def _sent(packet: Any, at: float) -> Sent:
    return Sent(bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, at)


def _reason(error: BaseException) -> str:
    if isinstance(error, av.ExitError):
        return "the camera sends nothing: check its power and network"
    return str(getattr(error, "strerror", None) or last_line(error))
