"""Recording what is ordinary in front of a camera, to learn from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from comemory.bundle import open_bundle
from comemory.errors import SourceError
from comemory.live.capture.frame_queue import Slot, Tick
from comemory.live.capture.frame_sampler import AS_TRAINED, Pace
from comemory.live.capture.reader import Reader
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.picture_health import PictureHealth
from comemory.live.recording.packet_buffer import Footage
from comemory.video.image_folder import upright
from comemory.video.resize import resize
from comemory.video.writer import VideoWriter

SEGMENT_S = 60.0
MOST_SEGMENTS = 90
LEAST_FRAMES = 150
SHORTEST = 20
RATE_FRAMES = 15
"""Frames after which the camera's rate is told."""
QUALITY = 16

Say = Callable[[str], None]


class Recorder:
    """Records samples of a camera at the rate and size that the network works at, within a disk quota.

    Ours: up to 90 minutes, spread evenly over the time asked for; pictures that are black, frozen, blinded or moved are
    left out, and a hole ends the clip. A camera that is slower than the network's rate is recorded at its own, so that
    what learns from it learns that rate.

    Attributes:
        rate_hz: of the clips.

    Args:
        folder: of the clips; those of an earlier recording are kept while they are within the quota.
        size: (height, width) of the clips; by default what the flow of the camera's bundle works at.
    """

    def __init__(self, settings: LiveSettings, camera: str, folder: Path, size: tuple[int, int] | None = None) -> None:
        bundle = open_bundle(settings.bundle_of(camera))
        spec = bundle.clips
        self.size = size or (spec.flow_height, spec.flow_width)
        self.rate_hz, self.folder = bundle.calibration.rate_hz, folder
        self.quota = int(settings.learn.gigabytes * 1e9)
        self.n_frames = 0
        self._health = PictureHealth(settings.health)
        told = settings.cameras[camera]
        self._slot = Slot(32, lossless=not told.realtime)
        self._reader = Reader(
            camera,
            told,
            settings.health,
            Pace(self.rate_hz),
            self._slot,
            Footage(0, 0, 0, lambda _: True, _none, _none),
        )
        self._reformatter = VideoReformatter()
        self._writer: VideoWriter | None = None
        self._newest = -1
        self._earlier: list[Path] = []
        self._is_rate_known = False
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopping.set()

    def run(self, seconds: float, say: Say) -> Path:
        """Record; gives the folder.

        Raises:
            SourceError: too little came, or it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._earlier = sorted(self.folder.glob("*.mp4"))
        every_s = max(SEGMENT_S, seconds / MOST_SEGMENTS)
        start, message = time.monotonic(), ""
        self._reader.start()
        try:
            while (passed := time.monotonic() - start) < seconds and not self._stopping.is_set():
                if not self._has_room():
                    say(f"the recording ends: learn.gigabytes is full after {passed / 60:.0f} minutes")
                    break
                self._take(self._slot.take(), passed % every_s < SEGMENT_S)
                if self._reader.finished and self._slot.oldest is None:
                    break
                if self._reader.link is CameraState.DOWN and self._reader.message != message:
                    message = self._reader.message
                    say(message)
                self._stopping.wait(0.02)
        finally:
            self._reader.stop()
            self._cut()
        if self.n_frames < LEAST_FRAMES:
            raise SourceError(
                f"only {self.n_frames} usable frames came from the camera, at least {LEAST_FRAMES} are needed: "
                f"{self._reader.message or 'record longer'}"
            )
        return self.folder

    def _has_room(self) -> bool:
        """Whether the quota leaves room for more; clips of an earlier recording give way, the oldest first."""
        used = sum(path.stat().st_size for path in self.folder.glob("*.mp4"))
        while used >= self.quota and self._earlier:
            oldest = self._earlier.pop(0)
            used -= oldest.stat().st_size
            oldest.unlink()
        return used < self.quota

    def _knows_rate(self) -> bool:
        """Whether the camera's rate can be told; it is then taken where it is under the network's."""
        camera_hz = self._reader.pace.camera_hz
        if not self._is_rate_known and camera_hz is not None and self._reader.frames >= RATE_FRAMES:
            self._is_rate_known = True
            if camera_hz < (1 - AS_TRAINED) * self.rate_hz:
                self.rate_hz = round(camera_hz, 1)
        return self._is_rate_known

    def _take(self, ticks: list[Tick], wanted: bool) -> None:
        if not wanted or not self._knows_rate():
            self._cut()
            return
        for tick in ticks:
            picture = self._picture(tick)
            if not self._health.push(picture, tick.time).usable or (
                self._newest >= 0 and tick.beat.index != self._newest + 1
            ):
                self._cut()
            self._newest = tick.beat.index
            if self._writer is None:
                path = self.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.mp4"
                self._writer = VideoWriter(path, self.size, self.rate_hz, quality=QUALITY)
                self._writer.__enter__()
            self._writer.write(picture)
            self.n_frames += 1

    def _picture(self, tick: Tick) -> NDArray[np.uint8]:
        if isinstance(tick.picture, av.VideoFrame):
            return upright(tick.picture, self.size, self._reformatter)
        return resize(tick.picture, self.size)

    def _cut(self) -> None:
        writer, self._writer = self._writer, None
        self._newest = -1
        if writer is not None and writer.n_frames < SHORTEST:
            writer.__exit__(SourceError, None, None)
            self.n_frames -= writer.n_frames
        elif writer is not None:
            writer.close()


def _none(*_: object) -> None:
    """Nothing follows from it."""
