"""Records normal video of a camera, to train on."""

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
from comemory.live.capture.frame_queue import FrameQueue, QueuedFrame
from comemory.live.capture.reader import CameraReader
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.image_health import ImageHealth
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.video.frame_sampler import RATE_TOLERANCE, FrameSampler
from comemory.video.image_folder import upright_rgb
from comemory.video.resize import resize
from comemory.video.writer import VideoWriter

SEGMENT_S = 60.0
"""Length of one recorded segment."""
MAX_SEGMENTS = 90
MIN_FRAMES = 150
MIN_CLIP_FRAMES = 20
"""Shorter clips are deleted."""
RATE_FRAMES = 15
"""Frames after which the camera's frame rate is known well enough."""
QUALITY = 16
"""Constant rate factor: compression artefacts below those of the camera itself."""

Print = Callable[[str], None]


class CameraRecorder:
    """Records segments of a camera at the frame rate and size of the network, within a disk quota.

    Ours: up to 90 minutes, spread evenly over the time asked for. Images with a fault (black, frozen, covered, moved) are
    left out, and a gap ends the clip. A camera slower than the network's rate is recorded at its own rate, and the
    training then takes that rate.

    Attributes:
        rate_hz: frames a second of the clips.
        n_frames: frames recorded so far.

    Args:
        folder: of the clips; those of an earlier recording stay while the quota allows it.
        size: (height, width) of the clips, in pixels; by default the size at which the camera's bundle computes flow.
    """

    def __init__(self, settings: LiveSettings, camera: str, folder: Path, size: tuple[int, int] | None = None) -> None:
        bundle = open_bundle(settings.bundle_of(camera))
        spec = bundle.clips
        self.size = size or (spec.flow_height, spec.flow_width)
        self.rate_hz, self.folder = bundle.calibration.rate_hz, folder
        self.quota = int(settings.learn.max_gb * 1e9)
        self.n_frames = 0
        self._health = ImageHealth(settings.health)
        camera_settings = settings.cameras[camera]
        self._queue = FrameQueue(32, lossless=not camera_settings.realtime)
        self._reader = CameraReader(
            camera,
            camera_settings,
            settings.health,
            FrameSampler(self.rate_hz),
            self._queue,
            PacketBuffer.unused(),
        )
        self._reformatter = VideoReformatter()
        self._writer: VideoWriter | None = None
        self._last_index = -1
        self._earlier: list[Path] = []
        self._is_rate_known = False
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def run(self, seconds: float, say: Print) -> Path:
        """Record for `seconds` and give the folder.

        Raises:
            SourceError: too few usable frames, or the clips cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._earlier = sorted(self.folder.glob("*.mp4"))
        every_s = max(SEGMENT_S, seconds / MAX_SEGMENTS)
        start, message = time.monotonic(), ""
        self._reader.start()
        try:
            while (passed := time.monotonic() - start) < seconds and not self._stopping.is_set():
                if not self._has_room():
                    say(f"the recording ends: the disk quota learn.max_gb is used up after {passed / 60:.0f} minutes")
                    break
                self._record(self._queue.pop_all(), passed % every_s < SEGMENT_S)
                if self._reader.finished and self._queue.oldest_arrival is None:
                    break
                if self._reader.link is CameraState.DOWN and self._reader.message != message:
                    message = self._reader.message
                    say(message)
                self._stopping.wait(0.02)
        finally:
            self._reader.stop()
            self._end_clip()
        if self.n_frames < MIN_FRAMES:
            raise SourceError(
                f"the camera gave {self.n_frames} usable frames, at least {MIN_FRAMES} are needed: "
                f"{self._reader.message or 'record longer'}"
            )
        return self.folder

    def _has_room(self) -> bool:
        """Whether the quota leaves room for more; clips of an earlier recording are deleted for it, oldest first."""
        used = sum(path.stat().st_size for path in self.folder.glob("*.mp4"))
        while used >= self.quota and self._earlier:
            oldest = self._earlier.pop(0)
            used -= oldest.stat().st_size
            oldest.unlink()
        return used < self.quota

    def _knows_rate(self) -> bool:
        """Whether the camera's rate is known; a rate below that of the network is taken for the clips."""
        camera_hz = self._reader.sampler.camera_hz
        if not self._is_rate_known and camera_hz is not None and self._reader.frames >= RATE_FRAMES:
            self._is_rate_known = True
            if camera_hz < (1 - RATE_TOLERANCE) * self.rate_hz:
                self.rate_hz = round(camera_hz, 1)
        return self._is_rate_known

    def _record(self, frames: list[QueuedFrame], is_wanted: bool) -> None:
        if not is_wanted or not self._knows_rate():
            self._end_clip()
            return
        for frame in frames:
            image = self._image(frame)
            if not self._health.check(image, frame.time, frame.image).usable or (
                self._last_index >= 0 and frame.sample.index != self._last_index + 1
            ):
                self._end_clip()
            self._last_index = frame.sample.index
            if self._writer is None:
                path = self.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.mp4"
                self._writer = VideoWriter(path, self.size, self.rate_hz, quality=QUALITY)
                self._writer.__enter__()
            self._writer.write(image)
            self.n_frames += 1

    def _image(self, frame: QueuedFrame) -> NDArray[np.uint8]:
        if isinstance(frame.image, av.VideoFrame):
            return upright_rgb(frame.image, self.size, self._reformatter)
        return resize(frame.image, self.size)

    def _end_clip(self) -> None:
        writer, self._writer = self._writer, None
        self._last_index = -1
        if writer is not None and writer.n_frames < MIN_CLIP_FRAMES:
            writer.__exit__(SourceError, None, None)
            self.n_frames -= writer.n_frames
        elif writer is not None:
            writer.close()
