"""What moves at a camera, by hour: from the evidence of each scored frame to what the store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from comemory.store.activity import COLUMNS, ROWS, HourOfActivity

PART_S = 300.0
"""Seconds between two saves of the current hour: a crash loses at most this much."""
SURE = 0.5
"""Least `change_confidence` of a place that moves: halfway between noise and a certain change."""


class ActivityRecorder:
    """Scored frames, in order, to parts of hours.

    Attributes:
        moves: which cells moved in the last frame; bool (ROWS, COLUMNS).

    Args:
        width: of the image that the flow is measured in, pixels.
        rate_hz: frames a second that the flow is scaled to.
    """

    def __init__(self, width: int, rate_hz: float) -> None:
        self._per_second = rate_hz / width
        self._part: int | None = None
        self.moves = np.zeros((ROWS, COLUMNS), np.bool_)
        self._clear()

    def add(self, at: float, maps: Mapping[str, NDArray[np.float32]]) -> HourOfActivity | None:
        """Add the evidence of a frame of a Unix time; gives the part that it completes, if any."""
        part = int(at // PART_S)
        done = self.finish() if self._part is not None and part != self._part else None
        self._part = part
        moves = maps["change_confidence"][0, 0] >= SURE
        self.moves = _coarse(moves) > 0
        flow = maps["flow_mean"][0]
        speed = _coarse(np.where(moves, np.hypot(flow[0], flow[1]), 0.0))
        self._frames += 1
        self._moving += self.moves
        self._speed += speed * self._per_second
        return done

    def finish(self) -> HourOfActivity | None:
        """The incomplete part, if it has any frame."""
        part, self._part = self._part, None
        if part is None or not self._frames:
            return None
        done = HourOfActivity(datetime.fromtimestamp(part * PART_S, UTC), self._frames, self._moving, self._speed)
        self._clear()
        return done

    def _clear(self) -> None:
        self._frames = 0
        self._moving, self._speed = np.zeros((ROWS, COLUMNS)), np.zeros((ROWS, COLUMNS))


def _coarse(cells: NDArray[np.generic]) -> NDArray[np.float64]:
    """The highest value in each cell of the coarse grid; a finer grid is given, or one that is stretched.

    >>> float(_coarse(np.eye(24, 32)).sum())
    12.0
    """
    rows, columns = (np.arange(n) * m // n for n, m in ((ROWS, cells.shape[0]), (COLUMNS, cells.shape[1])))
    highest = np.maximum.reduceat(np.maximum.reduceat(cells, rows, axis=0), columns, axis=1)
    return np.asarray(highest, dtype=np.float64)
