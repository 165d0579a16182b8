"""Whether a camera's image can be scored, or shows a fault: frozen, black, covered or moved."""

from __future__ import annotations

import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.live.config import HealthSettings
from comemory.live.contract import CameraState

DARK_LEVEL = 16.0
"""An image is black if 98 % of its pixels are below this grey level: the black of video is 16."""
FLAT_DEVIATION = 4.0
"""An image is covered if its grey levels deviate less than this; fog at night keeps more."""
SETTLE_S = 2.0
"""How long an image is black or covered before the state says so: a passing bus is neither."""
MOVED_SETTLE_S = 6.0
"""The same for a moved view: a bus may stop in front of the camera for longer."""
MIN_CORRELATION = 0.65
"""A view is moved if its strong edges correlate less than this with the reference: 0.95 for the same view, about 0.5 for
one turned by 3 to 5 % of its width."""
SIZE = (96, 144)
"""(height, width) at which views are compared."""
COMPARE_INTERVAL_S = 0.5
N_LEARN = 10
"""Comparisons before a new reference is used."""
MAX_WEIGHT = 1200
"""Comparisons over which the reference follows the light: ten minutes."""
MIN_SHARPNESS = 0.55
"""An image is out of focus if its sharpness, the steepest gradients over the contrast, is below this share of the
reference's."""


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

    Ours: an image is black or covered by its grey levels, covered also when it has lost its sharpness, frozen when it
    stays identical, and moved when the strong edges of the reference view, which people and light leave in place, no
    longer match. The reference follows slow changes of the light and is saved across restarts.

    Args:
        file: of the reference view; None keeps it in memory only.
    """

    def __init__(self, settings: HealthSettings, file: Path | None = None) -> None:
        self.settings, self.file = settings, file
        self._file_lock = threading.Lock()
        self._previous: NDArray[np.uint8] | None = None
        self._same_since: float | None = None
        self._suspected: tuple[CameraState, float] | None = None
        self._state = CameraState.LIVE
        self._compared_at: float | None = None
        self._view_state = CameraState.LIVE
        self._reference = _ReferenceView.read(file) if file is not None else _ReferenceView()

    def reset_frames(self) -> None:
        """A new connection: the next image is not compared with the last one, but still with the reference."""
        self._previous = self._same_since = self._suspected = None

    def reset_reference(self) -> None:
        """Learn the reference again, from the present view."""
        with self._file_lock:
            self._reference = _ReferenceView()
            if self.file is not None:
                self.file.unlink(missing_ok=True)
        self._suspected, self._state, self._view_state = None, CameraState.LIVE, CameraState.LIVE

    def save(self) -> None:
        """Save the reference for the next start; may be called from any thread. A failure to write is ignored."""
        if self.file is not None:
            with self._file_lock:
                self._reference.write(self.file)

    def check(self, image: NDArray[np.uint8], time: float) -> HealthFinding:
        """Check the next image.

        Args:
            time: Unix time of the image.

        Shapes:
            image: uint8 (H, W, 3), RGB, of one size from call to call.
        """
        suspect = self._suspect(image, time)
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

    def _suspect(self, image: NDArray[np.uint8], time: float) -> CameraState:
        is_same = self._previous is not None and np.array_equal(self._previous, image)
        self._previous = image
        if not is_same or self._same_since is None:
            self._same_since = time
        grey = np.asarray(cv2.cvtColor(image[::2, ::2], cv2.COLOR_RGB2GRAY), np.uint8)
        if float(np.percentile(grey, 98)) < DARK_LEVEL:
            return CameraState.BLACK
        if float(grey.std()) < FLAT_DEVIATION:
            return CameraState.COVERED
        if time - self._same_since >= self.settings.frozen_s:
            return CameraState.FROZEN
        if self._compared_at is None or not 0 <= time - self._compared_at < COMPARE_INTERVAL_S:
            self._compared_at = time
            self._view_state = self._reference.compare(grey)
        return self._view_state

    def _message(self, state: CameraState) -> str:
        return {
            CameraState.FROZEN: f"the image has not changed for {self.settings.frozen_s:g} s: restart the camera",
            CameraState.BLACK: "the image is black: is the lens covered, or the light off?",
            CameraState.COVERED: "the image shows nothing: is the lens covered, dirty or out of focus?",
            CameraState.MOVED: "the view has changed: turn the camera back, or accept the new view and train on it",
        }.get(state, "")


class _ReferenceView:
    """The average gradients of the view: edges of the scene stay, people and noise average out."""

    def __init__(self) -> None:
        self.gradient = np.zeros((2, *SIZE), np.float32)
        self.sharpness = 0.0
        self.n_seen = 0

    @classmethod
    def read(cls, path: Path) -> _ReferenceView:
        """The view saved in a file; an empty one if it cannot be read."""
        view = cls()
        unreadable = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with suppress(*unreadable), path.open("rb") as file, np.load(file) as stored:
            gradient, sharpness, n_seen = stored["gradient"], float(stored["sharpness"]), int(stored["n_seen"])
            if gradient.shape == view.gradient.shape and np.isfinite(gradient).all() and n_seen >= 0:
                view.gradient, view.sharpness, view.n_seen = gradient.astype(np.float32), sharpness, n_seen
        return view

    def write(self, path: Path) -> None:
        part = path.with_name(f".{path.name}.part")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, gradient=self.gradient, sharpness=self.sharpness, n_seen=np.int64(self.n_seen))
            part.replace(path)

    def compare(self, grey: NDArray[np.uint8]) -> CameraState:
        """Compare a grey image with the view, and update the view if it is the same scene."""
        gradient = _gradient(grey)
        sharpness = float(np.quantile(np.hypot(*gradient), 0.95)) / max(float(grey.std()), 1.0)
        state = CameraState.LIVE
        if self.n_seen >= N_LEARN:
            is_blurred = sharpness < MIN_SHARPNESS * self.sharpness
            state = CameraState.COVERED if is_blurred else self._compare_edges(gradient)
        if state is CameraState.LIVE:
            self.n_seen += 1
            weight = 1 / min(self.n_seen, MAX_WEIGHT)
            self.gradient += np.float32(weight) * (gradient - self.gradient)
            self.sharpness += weight * (sharpness - self.sharpness)
        return state

    def _compare_edges(self, gradient: NDArray[np.float32]) -> CameraState:
        reference, present = np.hypot(*self.gradient), np.hypot(*gradient)
        # The strongest 8 % of the edges; a scene without any (fog, night) cannot be compared.
        strong = reference >= max(float(np.quantile(reference, 0.92)), 4.0)
        if strong.mean() < 0.01:
            return CameraState.LIVE
        dot = float((self.gradient * gradient).sum(axis=0)[strong].sum())
        norm = float(np.sqrt((reference[strong] ** 2).sum() * (present[strong] ** 2).sum()))
        return CameraState.MOVED if dot < MIN_CORRELATION * max(norm, 1e-6) else CameraState.LIVE


def _gradient(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(dx, dy) of a smoothed image of `SIZE`, in grey levels a pixel: float32 (2, h, w)."""
    small = cv2.resize(grey, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.2)
    return np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0) / 4, cv2.Sobel(smooth, cv2.CV_32F, 0, 1) / 4])
