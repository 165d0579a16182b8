"""Whether the scores of normal hours still follow the calibration."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

HOURS = 12.0
"""A day and a night differ; half a day is the shortest time in which most scenes show both sides of it."""
MAX_SHIFT = 0.5
"""Shift of the top decile, in log10 units: a factor of three in the number of high frames."""
MIN_FRAMES = 1000
"""An hour with fewer scored frames does not count."""
EDGES: NDArray[np.float64] = np.arange(-1.0, 6.05, 0.1)
TOP_SHARE = 0.1
"""The share of normal frames with a score above 1, by the definition of the score."""


class DriftMonitor:
    """Compares the scores of one camera with what a score means: one normal frame in 10 ** s has a score above s.

    Ours: over the last hours, the top tenth of the frames should score above 1. If the median of the hours is off by more
    than `MAX_SHIFT`, the scene has changed. The median ignores a few busy or empty hours, or one long event.

    Args:
        hours: number of hours that are compared.
        min_frames: scored frames of an hour that counts.
    """

    def __init__(self, hours: float = HOURS, min_frames: int = MIN_FRAMES) -> None:
        self._n_hours, self._min_frames = max(1, round(hours)), min_frames
        self.reset()

    def reset(self) -> None:
        """Start again, such as after a new calibration."""
        self._hours: deque[float] = deque(maxlen=self._n_hours)
        self._counts = np.zeros(len(EDGES) + 1, np.int64)
        self._hour_start: float | None = None

    def add(self, at: float, value: float) -> None:
        """Add the score of a Unix time."""
        if self._hour_start is None:
            self._hour_start = at
        elif at - self._hour_start >= 3600:
            if self._counts.sum() >= self._min_frames:
                self._hours.append(_top_decile(self._counts))
            self._counts[:] = 0
            self._hour_start = at
        self._counts[int(np.searchsorted(EDGES, value))] += 1

    @property
    def top_decile(self) -> float | None:
        """The score that a tenth of the frames exceed, as the median of the hours; None before enough hours."""
        return float(np.median(self._hours)) if len(self._hours) >= self._n_hours else None

    @property
    def message(self) -> str | None:
        """One line with a hint if the scores have shifted, else None."""
        top_decile = self.top_decile
        if top_decile is None or abs(top_decile - 1) <= MAX_SHIFT:
            return None
        factor = f"{10 ** abs(top_decile - 1):.0f}"
        many = f"about {factor} times" if top_decile > 1 else f"about 1/{factor}"
        return (
            f"normal hours have {many} as many high scores as calibrated: the scene has changed; run comemory learn "
            "with --recalibrate for this camera"
        )


def _top_decile(counts: NDArray[np.int64]) -> float:
    """The score that `TOP_SHARE` of the frames exceed, from their histogram."""
    above = counts[::-1].cumsum()[::-1] / counts.sum()
    place = int(np.flatnonzero(above > TOP_SHARE)[-1])
    return float(EDGES[min(place, len(EDGES) - 1)])
