"""Motion that goes nowhere: who waves, fights or dances on the spot, and is no faster than a walker.

Shape suffixes: H W pixels of the model's size, h w cells of it.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.clips.flow_filter import Carried, length
from comemory.types import CELL

REMEMBERED_S = 4.0
"""Seconds after which a third of what was seen is left."""
FORGOTTEN = 1e-3
"""What is less than this is nothing."""
NOISE, SURE = 3.0, 5.0
"""Up to the one times the change that half of the picture stays under a change is noise; from the other on it is none."""
LEAST = 0.25
"""Grey levels that half of the picture is taken to change by at the least: rounding alone does that."""


def restless(carried: Carried) -> NDArray[np.float32]:
    """How far the swing of the flow goes beyond the motion that carries on.

    Ours: a walker's legs swing by a third of his speed, so that nothing is left of them; of an arm that waves all is. The
    root, because what lasts should count for more than what is large.

    Shapes:
        returns: float32 (h, w), roots of pixels.

    >>> swing, mean = np.full((4, 4), 4.0, np.float32), np.zeros((4, 4, 2), np.float32)
    >>> float(restless(Carried(mean, swing))[0, 0]), float(restless(Carried(mean + 4, swing))[0, 0])
    (2.0, 0.0)
    """
    beyond = np.maximum(carried.swing - length(carried.mean), np.float32(0))
    return np.sqrt(_sums(beyond) / np.float32(CELL**2))


def beyond_noise(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How sure it is of each cell that it has changed by more than noise.

    Ours: flow is found in noise too, and it swings wherever it is looked for: a camera at night would be restless all over.
    But noise changes the whole picture alike, and of what moves most of a fixed camera's picture stays free.

    Shapes:
        before, after: uint8 (C, H, W). returns: float32 (h, w), from 0 to 1.

    >>> before, after = np.zeros((1, 12, 4), np.uint8), np.full((1, 12, 4), 2, np.uint8)
    >>> after[:, :4] = 8
    >>> beyond_noise(before, after).ravel()
    array([0.5, 0. , 0. ], dtype=float32)
    """
    change = cv2.absdiff(before, after).sum(axis=0, dtype=np.uint16)
    cells = _sums(change).astype(np.float32)
    usual = np.float32(max(float(np.median(cells)), LEAST * CELL**2 * len(before)))
    beyond = (cells / usual - np.float32(NOISE)) / np.float32(SURE - NOISE)
    return np.asarray(np.clip(beyond, 0, 1), np.float32)


class Restlessness:
    """The running average of `restless` over the last seconds of one source; begins calm.

    Args:
        rate_hz: frames per second, so that it means the same at any rate.

    Attributes:
        level: float32 (h, w), roots of pixels.
        sure: float32 (h, w), what `beyond_noise` says of the last change of the picture; 1 where there was none.
    """

    def __init__(self, height: int, width: int, rate_hz: float) -> None:
        self._size = (height // CELL, width // CELL)
        self._kept = np.float32(math.exp(-1 / (rate_hz * REMEMBERED_S)))
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self.level = np.zeros(self._size, np.float32)
        self.sure = np.ones(self._size, np.float32)
        self._picture: NDArray[np.uint8] | None = None

    def push(self, carried: Carried | None, picture: NDArray[np.uint8]) -> None:
        """Take the next frame into `level`.

        Args:
            carried: the flow up to it; None where nothing has moved yet.
            picture: uint8 (C, H, W), kept until the next one comes.
        """
        self.sure = np.ones_like(self.sure) if self._picture is None else beyond_noise(self._picture, picture)
        self._picture = picture
        seen = np.zeros_like(self.sure) if carried is None else restless(carried) * self.sure
        self.level *= self._kept
        self.level += (1 - self._kept) * seen
        self.level[(self.level < FORGOTTEN) & (seen < FORGOTTEN)] = 0

    def shown(self) -> NDArray[np.float16]:
        """The level and how sure it is, in the order of `types.SHOWN`. Shapes: returns float16 (S, h, w)."""
        return np.stack([self.level, self.sure]).astype(np.float16)


def _sums(pixels: NDArray[Any]) -> NDArray[Any]:
    """Sums over the pixels of each cell, of their type; slices are added in a sixth of the time of a sum over two axes."""
    height, width = pixels.shape
    lines = pixels.reshape(height // CELL, CELL, width)
    rows = reduce(np.add, (lines[:, i] for i in range(CELL)))
    return np.asarray(reduce(np.add, (rows[:, i::CELL] for i in range(CELL))))
