"""Motion that goes nowhere: who waves, fights or dances on the spot, and is no faster than a walker.

Shape suffixes: H W pixels of the model's size, h w cells of it, R spans of time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from comemory.types import CELL, RESTLESS_S
from comemory.video.carried import Carried, length

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
    """Running averages of `restless` over the last seconds of one source, one for each span of `RESTLESS_S`; begin calm.

    Ours: the longer span knows better who is restless, the shorter one knows it sooner.

    Args:
        rate_hz: frames per second, so that they mean the same at any rate.

    Attributes:
        level: float32 (R, h, w), roots of pixels.
    """

    def __init__(self, height: int, width: int, rate_hz: float) -> None:
        kept = [math.exp(-1 / (rate_hz * seconds)) for seconds in RESTLESS_S.values()]
        self._kept = np.array(kept, np.float32)[:, None, None]
        self._size = (len(kept), height // CELL, width // CELL)
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self.level = np.zeros(self._size, np.float32)

    def push(self, carried: Carried | None) -> None:
        """Take the flow of the next frame into `level`; None where nothing has moved yet."""
        seen = np.zeros(self._size[1:], np.float32) if carried is None else restless(carried)
        self.level *= self._kept
        self.level += (1 - self._kept) * seen
        self.level[(self.level < FORGOTTEN) & (seen < FORGOTTEN)] = 0
