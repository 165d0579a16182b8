"""Whether ordinary hours still score as the calibration says."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from comemory.live.config import DriftSettings

EDGES: NDArray[np.float64] = np.arange(-1.0, 6.05, 0.1)
SHARE = 0.1
"""The share of ordinary frames above a score of 1, by what a score is."""


class DriftGuard:
    """Scores of one camera, in order, against what a score means: s is passed by one ordinary frame in 10 ** s.

    Ours: over the last hours the score that the highest tenth of the frames pass should be 1. Where it is another by more
    than `settings.decades`, the scene has changed: the median of the hours is taken, so that a few busy or empty ones,
    or a long event, do not count.
    """

    def __init__(self, settings: DriftSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Begin anew, such as after a calibration."""
        self._hours: deque[float] = deque(maxlen=max(1, round(self.settings.hours)))
        self._counts = np.zeros(len(EDGES) + 1, np.int64)
        self._began: float | None = None

    def push(self, at: float, value: float) -> None:
        """Take a score of a Unix time."""
        if self._began is None:
            self._began = at
        elif at - self._began >= 3600:
            if self._counts.sum() >= self.settings.least_frames:
                self._hours.append(_tenth(self._counts))
            self._counts[:] = 0
            self._began = at
        self._counts[int(np.searchsorted(EDGES, value))] += 1

    @property
    def passed(self) -> float | None:
        """The score that a tenth of the frames of an hour pass, the median of the hours; None before enough hours."""
        enough = len(self._hours) >= (self._hours.maxlen or 1)
        return float(np.median(self._hours)) if enough else None

    @property
    def message(self) -> str | None:
        """One line with the cure where the scores have moved, else None."""
        passed = self.passed
        if passed is None or abs(passed - 1) <= self.settings.decades:
            return None
        times = f"{10 ** abs(passed - 1):.0f}"
        found = f"more than calibrated (about {times} times" if passed > 1 else f"less than calibrated (about 1/{times}"
        return (
            f"ordinary hours score {found} as many high frames): the scene has changed; run comemory learn with "
            "--recalibrate for this camera"
        )


def _tenth(counts: NDArray[np.int64]) -> float:
    """The score that `SHARE` of the frames pass, by their histogram."""
    above = counts[::-1].cumsum()[::-1] / counts.sum()
    place = int(np.flatnonzero(above > SHARE)[-1])
    return float(EDGES[min(place, len(EDGES) - 1)])
