"""The view that a camera should have, to find out that it is covered, out of focus or turned away."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.live.contract import CameraState

SIZE = (96, 144)
"""(height, width) at which edges are compared: small enough that people do not matter, large enough for a turn by 3 %."""
DETAIL_LINES = 360
"""Height at which sharpness is measured; smaller images are measured as they are."""
CELLS = (8, 12)
"""Rows and columns of cells that may be covered one by one."""
N_LEARN = 10
"""Comparisons before a new reference is used."""
MAX_WEIGHT = 1200
"""Comparisons over which the reference follows the light: ten minutes."""
MIN_SHARPNESS = 0.6
"""Share of the reference's sharpness below which an image is out of focus. Of four recorded scenes, every normal image
keeps 0.8 or more, and none blurred by 6 of 360 lines keeps more than 0.5."""
MIN_STEEPNESS = 0.5
"""Grey levels a pixel added to the coarse gradients of a cell, so that a cell without any has no sharpness."""
MIN_CORRELATION = 0.65
"""A view is moved if its strong edges correlate less than this with the reference: 0.95 for the same view, about 0.5 for
one turned by 3 to 5 % of its width."""
MAX_COVERED = 1 / 3
"""Share of the cells with edges that may lose them; a bus hides edges too, but shows its own in their place."""
COVERED_CONTRAST = 0.3
"""A cell has lost its edges if less than this share of their contrast is left, beside that of the other cells."""


class ReferenceView:
    """The average gradients of the view: edges of the scene stay, people and noise average out.

    Attributes:
        gradient: mean of the coarse gradients, float32 (2, h, w).
        sharpness: mean of each cell's sharpness, float32 `CELLS`.
        n_seen: images that it was learned from.
    """

    def __init__(self) -> None:
        self.gradient = np.zeros((2, *SIZE), np.float32)
        self.sharpness = np.zeros(CELLS, np.float32)
        self.n_seen = 0

    @classmethod
    def read(cls, path: Path) -> ReferenceView:
        """The view saved in a file; an empty one if it cannot be read."""
        view = cls()
        unreadable = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with suppress(*unreadable), path.open("rb") as file, np.load(file) as stored:
            gradient, sharpness, n_seen = stored["gradient"], stored["sharpness"], int(stored["n_seen"])
            has_shapes = (gradient.shape, sharpness.shape) == (view.gradient.shape, CELLS)
            if has_shapes and np.isfinite(gradient).all() and np.isfinite(sharpness).all() and n_seen >= 0:
                view.gradient, view.sharpness = gradient.astype(np.float32), sharpness.astype(np.float32)
                view.n_seen = n_seen
        return view

    def write(self, path: Path) -> None:
        """Save the view; a failure to write is ignored."""
        part = path.with_name(f".{path.name}.part")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, gradient=self.gradient, sharpness=self.sharpness, n_seen=np.int64(self.n_seen))
            part.replace(path)

    def compare(self, grey: NDArray[np.uint8]) -> CameraState:
        """Compare an image with the view, and update the view if it is the same scene.

        Shapes:
            grey: uint8 (H, W), of any size.

        Returns:
            `live`, `covered` or `moved`.
        """
        gradient = _gradient(grey)
        sharpness = _sharpness(grey, gradient)
        state = CameraState.LIVE
        if self.n_seen >= N_LEARN:
            is_blurred = self._share_of_sharpness(sharpness) < MIN_SHARPNESS
            state = CameraState.COVERED if is_blurred else self._compare_edges(gradient)
        if state is CameraState.LIVE:
            self.n_seen += 1
            weight = 1 / min(self.n_seen, MAX_WEIGHT)
            self.gradient += np.float32(weight) * (gradient - self.gradient)
            self.sharpness += np.float32(weight) * (sharpness - self.sharpness)
        return state

    def _share_of_sharpness(self, sharpness: NDArray[np.float32]) -> float:
        """What is left of the sharpness in the middle one of the cells with edges: crowds change the others only."""
        has_edges = _have_edges(_cell_sums(np.hypot(*self.gradient)))
        return float(np.median(sharpness[has_edges] / np.maximum(self.sharpness[has_edges], 1e-6)))

    def _compare_edges(self, gradient: NDArray[np.float32]) -> CameraState:
        reference, present = np.hypot(*self.gradient), np.hypot(*gradient)
        # The strongest 8 % of the edges; a scene without any (fog, night) cannot be compared.
        strong = reference >= max(float(np.quantile(reference, 0.92)), 4.0)
        if strong.mean() < 0.01:
            return CameraState.LIVE
        if _share_covered(np.where(strong, reference, 0.0), np.where(strong, present, 0.0)) > MAX_COVERED:
            return CameraState.COVERED
        dot = float((self.gradient * gradient).sum(axis=0)[strong].sum())
        norm = float(np.sqrt((reference[strong] ** 2).sum() * (present[strong] ** 2).sum()))
        return CameraState.MOVED if dot < MIN_CORRELATION * max(norm, 1e-6) else CameraState.LIVE


def _share_covered(reference: NDArray[np.float64], present: NDArray[np.float64]) -> float:
    """The share of the cells with strong edges in which these are gone, while other cells still have them.

    The contrast of each cell is relative to that of the best fifth of the cells: darker light covers nothing.
    """
    expected, left = _cell_sums(reference), _cell_sums(present)
    has_edges = _have_edges(expected)
    ratio = left[has_edges] / expected[has_edges]
    return float((ratio < COVERED_CONTRAST * max(float(np.quantile(ratio, 0.8)), 1e-6)).mean())


def _have_edges(sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cells have a part in the edges of the view, by the sums of its gradients."""
    return np.asarray(sums >= 0.25 * sums.mean())


def _cell_sums(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    rows, columns = CELLS
    return np.asarray(values.reshape(rows, SIZE[0] // rows, columns, SIZE[1] // columns).sum((1, 3)))


def _gradient(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(dx, dy) of a smoothed image of `SIZE`, in grey levels a pixel: float32 (2, h, w)."""
    small = cv2.resize(grey, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_AREA)
    return _sobel(cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.2))


def _sharpness(grey: NDArray[np.uint8], gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    """The steep gradients of each cell over its coarse ones: out of focus, the coarse ones stay and the steep ones go.

    Shapes:
        grey: uint8 (H, W), of any size.
        gradient: as `_gradient` gives it.
        returns: float32 `CELLS`.
    """
    rows, columns = CELLS
    lines = min(DETAIL_LINES, grey.shape[0])
    height = max(1, round(lines / rows))
    width = max(1, round(grey.shape[1] * lines / grey.shape[0] / columns))
    detail = cv2.resize(grey, (columns * width, rows * height), interpolation=cv2.INTER_AREA)
    return _steepness(_sobel(detail.astype(np.float32))) / (_steepness(gradient) + np.float32(MIN_STEEPNESS))


def _steepness(gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    """The 95th percentile of the gradients in each cell, float32 `CELLS`."""
    rows, columns = CELLS
    length = np.hypot(*gradient)
    cells = length.reshape(rows, length.shape[0] // rows, columns, length.shape[1] // columns).swapaxes(1, 2)
    return np.asarray(np.quantile(cells.reshape(rows, columns, -1), 0.95, axis=-1), np.float32)


def _sobel(image: NDArray[Any]) -> NDArray[np.float32]:
    return np.stack([cv2.Sobel(image, cv2.CV_32F, 1, 0) / 4, cv2.Sobel(image, cv2.CV_32F, 0, 1) / 4])
