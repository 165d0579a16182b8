"""Zones: polygons of the image in which nothing counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from comemory.live.config import Zone
from comemory.scoring import PatchMap


def points_in_polygon(zone: Zone, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Test which points lie in a polygon, by the even-odd rule.

    Shapes:
        x, y: float64 of any one shape, as shares of the image's width and height; returns bool of the same shape.

    >>> square = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
    >>> points_in_polygon(square, np.array([0.25, 0.75]), np.array([0.25, 0.25]))
    array([ True, False])
    """
    found = np.zeros(x.shape, np.bool_)
    for (x0, y0), (x1, y1) in zip(zone, (*zone[1:], zone[0]), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        found ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return found


def patch_centres(patches: PatchMap, size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the centres of patches, as shares of an image of `size` (height, width).

    Shapes:
        returns: x float64 (1, W), y float64 (H, 1).
    """
    n_rows, n_columns = patches.values.shape
    return _patch_centres(n_rows, n_columns, patches.pitch, patches.side, size)


@lru_cache(maxsize=64)
def _patch_centres(
    n_rows: int, n_columns: int, pitch: int, side: int, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = (np.arange(n_columns) * pitch + side / 2)[None, :] / size[1]
    y = (np.arange(n_rows) * pitch + side / 2)[:, None] / size[0]
    return x, y


class ZoneMask:
    """Tells which patches lie outside of all zones.

    Args:
        zones: polygons, their corners as shares of the image.
        size: (height, width) of the model's image.
    """

    def __init__(self, zones: Sequence[Zone], size: tuple[int, int]) -> None:
        self.zones, self.size = tuple(zones), size
        self._masks: dict[tuple[int, ...], NDArray[np.bool_]] = {}

    def __call__(self, patches: PatchMap) -> NDArray[np.bool_]:
        """True where the patch counts: its centre lies in no zone."""
        key = (*patches.values.shape, patches.pitch, patches.side)
        if key not in self._masks:
            x, y = np.broadcast_arrays(*patch_centres(patches, self.size))
            ignored = np.zeros(x.shape, np.bool_)
            for zone in self.zones:
                ignored |= points_in_polygon(zone, x, y)
            self._masks[key] = ~ignored
        return self._masks[key]
