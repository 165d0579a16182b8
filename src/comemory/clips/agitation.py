"""Agitation: motion in place, such as waving, fighting or dancing, which is no faster than walking.

Shape suffixes: H W pixels of the network's image, h w its cells of `types.CELL` pixels.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.clips.flow_filter import FlowAverage, magnitude
from comemory.types import CELL

TIME_CONSTANT_S = 4.0
"""Time constant of the moving average in seconds: what is older counts for less than 1/e."""
NEGLIGIBLE = 1e-3
"""Smaller values count as 0, so that a calm scene becomes exactly calm and a static frame costs nothing."""
NOISE, SURE = 3.0, 5.0
"""Soft gate on the frame difference, in multiples of its median: 0 below NOISE, 1 above SURE, linear between."""
MIN_NOISE = 0.25
"""Lower bound of the median difference in grey levels. Rounding alone gives as much."""


def in_place_motion(average: FlowAverage) -> NDArray[np.float32]:
    """By how much the deviation of the flow exceeds its average.

    Ours: a walker's legs deviate by a third of the walking speed, which leaves nothing; a waving arm keeps all of its
    motion. The square root gives duration more weight than size.

    Shapes:
        returns: float32 (h, w), square roots of pixels.

    >>> deviation, mean = np.full((4, 4), 4.0, np.float32), np.zeros((4, 4, 2), np.float32)
    >>> waving, walking = FlowAverage(mean, deviation), FlowAverage(mean + 4, deviation)
    >>> float(in_place_motion(waving)[0, 0]), float(in_place_motion(walking)[0, 0])
    (2.0, 0.0)
    """
    excess = np.maximum(average.deviation - magnitude(average.mean), np.float32(0))
    return np.sqrt(_cell_sums(excess) / np.float32(CELL**2))


def change_confidence(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How certain it is that each cell has changed by more than noise.

    Ours: an estimator finds flow in noise too, and it deviates everywhere, so a noisy camera at night would seem agitated
    all over. Noise changes the whole image alike, while most of a fixed camera's image shows nothing that moves: the
    median change measures the noise.

    Shapes:
        before, after: uint8 (C, H, W).
        returns: float32 (h, w), from 0 to 1.

    >>> before, after = np.zeros((1, 12, 4), np.uint8), np.full((1, 12, 4), 2, np.uint8)
    >>> after[:, :4] = 8
    >>> change_confidence(before, after).ravel()
    array([0.5, 0. , 0. ], dtype=float32)
    """
    change = cv2.absdiff(before, after).sum(axis=0, dtype=np.uint16)
    cells = _cell_sums(change).astype(np.float32)
    noise = np.float32(max(float(np.median(cells)), MIN_NOISE * CELL**2 * len(before)))
    excess = (cells / noise - np.float32(NOISE)) / np.float32(SURE - NOISE)
    return np.asarray(np.clip(excess, 0, 1), np.float32)


class Agitation:
    """Tracks agitation: the moving average of `in_place_motion` over the last seconds of one source. Starts at 0.

    Args:
        height: of the network's image in pixels.
        width: of the network's image in pixels.
        rate_hz: frames per second; the average then spans the same time at any rate.

    Attributes:
        level: float32 (h, w), square roots of pixels.
        confidence: float32 (h, w), `change_confidence` of the newest frame; 1 where there is no frame before it.
    """

    def __init__(self, height: int, width: int, rate_hz: float) -> None:
        self._size = (height // CELL, width // CELL)
        self._decay = np.float32(math.exp(-1 / (rate_hz * TIME_CONSTANT_S)))
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self.level = np.zeros(self._size, np.float32)
        self.confidence = np.ones(self._size, np.float32)
        self._image: NDArray[np.uint8] | None = None

    def update(self, average: FlowAverage | None, image: NDArray[np.uint8]) -> None:
        """Update `level` and `confidence` with the next frame.

        Args:
            average: the flow up to this frame; None where nothing has moved yet.
            image: uint8 (C, H, W); stored until the next frame.
        """
        before, self._image = self._image, image
        self.confidence = np.ones_like(self.confidence) if before is None else change_confidence(before, image)
        new = np.zeros_like(self.level) if average is None else in_place_motion(average) * self.confidence
        self.level *= self._decay
        self.level += (1 - self._decay) * new
        self.level[(self.level < NEGLIGIBLE) & (new < NEGLIGIBLE)] = 0

    def input_maps(self) -> NDArray[np.float16]:
        """Level and confidence, in the order of `types.INPUT_MAPS`. Shapes: returns float16 (S, h, w)."""
        return np.stack([self.level, self.confidence]).astype(np.float16)


def _cell_sums(pixels: NDArray[Any]) -> NDArray[Any]:
    """Sums over the pixels of each cell, in the type of the pixels.

    Adding slices takes a sixth of the time of a sum over two axes.
    """
    height, width = pixels.shape
    lines = pixels.reshape(height // CELL, CELL, width)
    rows = reduce(np.add, (lines[:, i] for i in range(CELL)))
    return np.asarray(reduce(np.add, (rows[:, i::CELL] for i in range(CELL))))
