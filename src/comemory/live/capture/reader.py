"""One camera's connection: frames into the slot, packets into the footage, and again when it is lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from comemory.errors import SourceError, mask_password
from comemory.live.capture.backoff import Attempts
from comemory.live.capture.clock import Arrivals, Playback, StreamClock, TimeOfDay
from comemory.live.capture.connection import Connection, reason_of, sent
from comemory.live.capture.frame_queue import Slot, Tick
from comemory.live.capture.frame_sampler import Pace
from comemory.live.config import CameraSettings, HealthSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.camera_stats import Rate
from comemory.live.recording.packet_buffer import LIBRARY_ERRORS, Feed, Footage
from comemory.video.image_folder import FrameFolder

N_REMEMBERED = 256
"""Keyframes of a play list that are known again."""


class Reader(threading.Thread):
    """Reads one camera until it is stopped; a file until its end.

    Attributes:
        link: `connecting`, `live` while connected and from turn to turn of a file, `down`, `ended`.
        message: one line on why it is not live.
        frames, attempts, reconnects, corrupt, leaps: counters; `leaps` of this machine's time of day, which was set.
        last_frame: when a frame last arrived, on the monotonic clock; None before any.
        newest: the newest picture.
        rate: of the frames that arrive.
        size: (height, width) of the pictures.
        finished: the file is over, or cannot be read to its end.
        failed: it is over because it cannot be read, or nothing is in it.
    """

    def __init__(
        self, name: str, camera: CameraSettings, health: HealthSettings, pace: Pace, slot: Slot, footage: Footage
    ) -> None:
        super().__init__(name=f"camera-{name}", daemon=True)
        self.camera, self.health, self.pace, self.slot, self.footage = camera, health, pace, slot, footage
        self.link = CameraState.CONNECTING
        self.message = "connecting"
        self.frames = self.attempts = self.reconnects = self.corrupt = self.leaps = 0
        self.last_frame: float | None = None
        self.rate = Rate()
        self.newest: Any = None
        self.size: tuple[int, int] | None = None
        self.finished = self.failed = False
        self._location = ""
        self._stopping = threading.Event()
        self._pauses = Attempts(health.attempts_per_min, health.backoff_s)
        self._was_live = False
        self._seen: deque[int] = deque(maxlen=N_REMEMBERED)

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
        self._pauses.begin(time.monotonic())
        self.attempts += 1
        frames_before = self.frames
        try:
            self._location = self.camera.location
            if self.link is not CameraState.LIVE:
                self.link = CameraState.CONNECTING
            shown = mask_password(self._location)
            if self.is_file and Path(self._location).is_dir():
                self._play_folder(FrameFolder(Path(self._location), name="", size=None, rate_hz=self.pace.rate_hz))
            else:
                with Connection(self._location, self.camera, self.health, is_file=self.is_file) as connection:
                    self._refuse_again(connection, shown)
                    self._read(connection)
            plays_again = self.is_file and self.camera.loop and self.frames > frames_before
            if not (plays_again or self._stopping.is_set()):
                if self.is_file and self.frames == frames_before:
                    raise SourceError(f"{shown}: there is no picture in it that can be read")
                if self.is_file:
                    self._lost("the file is over", CameraState.ENDED)
                else:
                    self._lost(f"{shown}: the camera ended the stream")
        except (SourceError, *LIBRARY_ERRORS) as error:
            said = isinstance(error, SourceError)
            shown = mask_password(self._location)
            self._lost(str(error) if said else f"{shown}: {reason_of(error, self._location)}")

    def _refuse_again(self, connection: Connection, shown: str) -> None:
        """A recording at a URL is seen once: played again, its events would be told again."""
        if connection.is_recording and not self.is_file and self._was_live and not self.camera.loop:
            raise SourceError(f"{shown}: the stream has ended, and was seen: loop = true plays what it left again")

    def _lost(self, message: str, link: CameraState = CameraState.DOWN) -> None:
        """A file that is not played again is over with this. A path may hold bytes that no text can be written with."""
        written = message.encode(errors="backslashreplace").decode()
        self.link, self.message = link, mask_password(written)
        if self.is_file and not self.camera.loop:
            self.failed = link is not CameraState.ENDED
            self.finished = True

    def _wait(self, failures: int) -> None:
        """Pause before the next attempt; a file is played again at once, unless it cannot be read."""
        if not self.is_file:
            self._stopping.wait(self._pauses.pause_s(time.monotonic(), failures))
        elif failures:
            self._stopping.wait(1.0)

    def _play_folder(self, folder: FrameFolder) -> None:
        start, day = time.monotonic(), TimeOfDay()
        self._begin(self.pace.rate_hz, None)
        for frame in folder:
            if not self._keep_pace(start + frame.time_s):
                return
            self._follow(day, None)
            self._arrive(frame.image, frame.time_s, day.unix(start + frame.time_s))

    def _read(self, connection: Connection) -> None:
        """Read what is open, to its end or until it is to stop."""
        feed = Feed(connection.stream)
        stated = None if connection.by_arrival else feed.rate_hz
        rate_hz = stated if stated and 0 < stated <= 240 else None
        self._begin(rate_hz, feed)
        clock = StreamClock(float(feed.time_base), rate_hz or self.pace.rate_hz)
        plays = connection.is_recording or connection.is_piecewise
        waits = not connection.is_file and (self.camera.realtime or not connection.is_recording)
        begun, day = time.monotonic(), TimeOfDay()
        wall = Playback(begun, waits=waits) if plays else Arrivals()
        for packet in self._unseen(connection) if connection.is_piecewise else connection.packets():
            if self._stopping.is_set():
                return
            now = time.monotonic()
            self._follow(day, feed)
            if packet is not None:
                time_s = now - begun if connection.by_arrival else clock.peek(packet.pts)
                self.footage.push(sent(packet, day.unix(wall.look(time_s, now))))
            for picture in self._decoded(connection.stream, packet):
                time_s = now - begun if connection.by_arrival else clock.time_s(picture.pts)
                at = wall.at(time_s, now)
                if plays and not self._keep_pace(at):
                    return
                self._arrive(picture, time_s, day.unix(at))

    def _unseen(self, connection: Connection) -> Iterator[Any]:
        """Packets from the first keyframe on that no connection gave before: a list that does not grow is given again."""
        is_new = False
        for packet in connection.packets():
            if packet is not None and packet.is_keyframe:
                mark = hash(bytes(packet))
                is_new = is_new or mark not in self._seen
                self._seen.append(mark)
            if is_new or packet is None:
                yield packet

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

    def _follow(self, day: TimeOfDay, feed: Feed | None) -> None:
        """Where this machine's clock was set, what follows belongs to another event and clip."""
        if day.was_set():
            self.leaps += 1
            self.footage.open(feed)

    def _keep_pace(self, at: float) -> bool:
        """Wait until a file's frame would have come, by the monotonic clock; False when it is to stop."""
        if not self.camera.realtime:
            return not self._stopping.is_set()
        return not self._stopping.wait(max(0.0, at - time.monotonic()))

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
            line = self.attempts + self.leaps
            tick = Tick(picture, beat, at, round(time_s, 6), time.monotonic(), self.size, line)
            self.slot.put(tick, self._stopping.is_set)
