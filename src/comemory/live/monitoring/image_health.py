"""Whether a camera's image can be scored, or shows a fault: frozen, black, covered or moved."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.live.config import HealthSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.frozen import FrozenDetector
from comemory.live.monitoring.reference_view import ReferenceView

DARK_LEVEL = 16.0
"""An image is black if 98 % of its pixels are below this grey level: the black of video is 16."""
FLAT_DEVIATION = 4.0
"""An image is covered if its grey levels deviate less than this; fog at night keeps more."""
SETTLE_S = 2.0
"""How long an image is black or covered before the state says so: a passing bus is neither."""
MOVED_SETTLE_S = 6.0
"""The same for a moved view: a bus may stop in front of the camera for longer."""
COMPARE_INTERVAL_S = 0.5
SUDDEN_CHANGE = 4.0
"""Mean difference of a block to the image before, in grey levels, that counts as changed."""
SUDDEN_SHARE = 0.15
"""Share of changed blocks at which the view is compared at once: a hand on the lens must not be scored first."""
NOISE_LINES = 480
"""Every n-th pixel of larger images is taken, so that this many lines are left: it keeps the noise of each pixel."""
LUMA_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray", "grayj")
"""Pixel formats whose first plane is the 8-bit luma."""

Image = av.VideoFrame | NDArray[np.uint8]


class HealthFinding(NamedTuple):
    """What is known of the newest image.

    Attributes:
        state: `live`, or a fault that has lasted long enough.
        usable: whether this very image may be scored.
        message: one line for people, empty when live.
    """

    state: CameraState
    usable: bool
    message: str


class ImageHealth:
    """Checks the images of one camera, in order.

    Ours: an image is black or covered by its grey levels; covered also when half of the places with edges have lost
    their sharpness, or a third of them their edges; moved when the strong edges of the reference view, which people and
    light leave in place, no longer match; and frozen when not even noise changes it. The reference follows slow changes
    of the light and is saved across restarts.

    Args:
        file: of the reference view; None keeps it in memory only.
    """

    def __init__(self, settings: HealthSettings, file: Path | None = None) -> None:
        self.settings, self.file = settings, file
        self._file_lock = threading.Lock()
        self._suspected: tuple[CameraState, float] | None = None
        self._state = CameraState.LIVE
        self._frozen = FrozenDetector()
        self._still_s = 0.0
        self._compared_at: float | None = None
        self._previous: NDArray[np.float32] | None = None
        self._view_state = CameraState.LIVE
        self._reference = ReferenceView.read(file) if file is not None else ReferenceView()

    def reset_frames(self) -> None:
        """A new connection: the next image is not compared with the last one, but still with the reference."""
        self._frozen.reset()
        self._still_s = 0.0
        self._previous = self._suspected = self._compared_at = None

    def reset_reference(self) -> None:
        """Learn the reference again, from the present view."""
        with self._file_lock:
            self._reference = ReferenceView()
            if self.file is not None:
                self.file.unlink(missing_ok=True)
        self._suspected, self._state, self._view_state = None, CameraState.LIVE, CameraState.LIVE

    def save(self) -> None:
        """Save the reference for the next start; may be called from any thread. A failure to write is ignored."""
        if self.file is not None:
            with self._file_lock:
                self._reference.write(self.file)

    def check(self, image: NDArray[np.uint8], time: float, original: Image | None = None) -> HealthFinding:
        """Check the next image.

        Args:
            image: as the model sees it.
            time: Unix time of the image.
            original: as the camera sent it: faults that show in details and noise only are found in it. By default
                `image`.

        Shapes:
            image: uint8 (H, W, 3), RGB, of one size from call to call.
        """
        suspect = self._suspect(image, time, image if original is None else original)
        if suspect is CameraState.LIVE:
            self._suspected, self._state = None, CameraState.LIVE
            return HealthFinding(CameraState.LIVE, True, "")
        if suspect is CameraState.FROZEN:
            self._state = suspect
            return HealthFinding(suspect, False, self._message(suspect))
        if self._suspected is None or self._suspected[0] is not suspect:
            self._suspected = (suspect, time)
        settle_s = MOVED_SETTLE_S if suspect is CameraState.MOVED else SETTLE_S
        if time - self._suspected[1] >= settle_s:
            self._state = suspect
        return HealthFinding(self._state, False, self._message(self._state))

    def _suspect(self, image: NDArray[np.uint8], time: float, original: Image) -> CameraState:
        is_sudden = self._is_sudden(image)
        grey = np.asarray(cv2.cvtColor(image[::2, ::2], cv2.COLOR_RGB2GRAY), np.uint8)
        if float(np.percentile(grey, 98)) < DARK_LEVEL:
            return CameraState.BLACK
        if float(grey.std()) < FLAT_DEVIATION:
            return CameraState.COVERED
        if self._is_frozen(original, time):
            return CameraState.FROZEN
        if is_sudden or self._compared_at is None or not 0 <= time - self._compared_at < COMPARE_INTERVAL_S:
            self._compared_at = time
            self._view_state = self._reference.compare(_luma(original))
        return self._view_state

    def _is_sudden(self, image: NDArray[np.uint8]) -> bool:
        """Whether a large part of the image has changed since the last one."""
        rows, columns = max(1, image.shape[0] // 8), max(1, image.shape[1] // 8)
        means = cv2.resize(image[..., 1], (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._previous = self._previous, means
        if before is None or before.shape != means.shape:
            return True
        return bool((np.abs(means - before) > SUDDEN_CHANGE).mean() >= SUDDEN_SHARE)

    def _is_frozen(self, original: Image, time: float) -> bool:
        is_key = original.key_frame if isinstance(original, av.VideoFrame) else True
        is_frozen = self._still_s >= self.settings.frozen_s
        # A frozen camera is compared at every frame, so that its first new image counts.
        if is_frozen or self._frozen.is_due(time, is_key=is_key):
            self._still_s = self._frozen.update(_every_nth_pixel(_luma(original)), time, is_key=is_key)
        return self._still_s >= self.settings.frozen_s

    def _message(self, state: CameraState) -> str:
        return {
            CameraState.FROZEN: f"the image has not changed for {self.settings.frozen_s:g} s: restart the camera",
            CameraState.BLACK: "the image is black: is the lens covered, or the light off?",
            CameraState.COVERED: "the view is covered or blurred: is the lens covered, dirty or out of focus?",
            CameraState.MOVED: "the view has changed: turn the camera back, or accept the new view and train on it",
        }.get(state, "")


def _luma(image: Image) -> NDArray[np.uint8]:
    """The brightness of an image: uint8 (H, W), full or limited range; a view of the decoder's memory where possible."""
    if not isinstance(image, av.VideoFrame):
        return image[..., 1]
    if image.format.name not in LUMA_FORMATS:
        return np.asarray(image.to_ndarray(format="gray"), np.uint8)
    plane: Any = image.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return np.asarray(rows[: image.height, : image.width], np.uint8)


def _every_nth_pixel(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = max(1, luma.shape[0] // NOISE_LINES)
    return luma[::step, ::step].copy()
