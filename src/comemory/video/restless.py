"""Motion that goes nowhere: who waves, fights or dances on the spot, and is no faster than a walker.

Shape suffixes: H W pixels of the model's size, h w cells of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from comemory.types import CELL
from comemory.video.carried import Carried, length

REMEMBERED_S = 4.0
"""Seconds after which a third of what was seen is left."""
FORGOTTEN = 1e-3
"""What is less than this is nothing."""


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
    height, width = beyond.shape
    cells = beyond.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3))
    return np.asarray(np.sqrt(cells), np.float32)


class Restlessness:
    """The running average of `restless` over the last seconds of one source; begins calm.

    Args:
        rate_hz: frames per second, so that it means the same at any rate.
    """

    def __init__(self, height: int, width: int, rate_hz: float) -> None:
        self._size = (height // CELL, width // CELL)
        self._kept = np.float32(math.exp(-1 / (rate_hz * REMEMBERED_S)))
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self.level = np.zeros(self._size, np.float32)

    def push(self, carried: Carried | None) -> None:
        """Take the flow of the next frame into `level`; None where nothing has moved yet."""
        self.level *= self._kept
        if carried is not None:
            self.level += (1 - self._kept) * restless(carried)
        self.level[self.level < FORGOTTEN] = 0
