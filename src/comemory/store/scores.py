"""Recorded scores, and how many alarms another threshold would have given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from comemory.errors import StoreError
from comemory.store.event import iso
from comemory.types import JSON

MINUTE = timedelta(minutes=1)
MAX_PARTS = 60
MIN_MINUTES = 60


@dataclass(frozen=True, eq=False)
class ScoreSummary:
    """The recorded scores of a camera: the maximum of each part of each recorded minute.

    An alarm at a threshold is a run of parts at or above it, so a long event counts once. A gap in the recording ends a
    run.

    Attributes:
        camera: its name.
        minutes: recorded minutes; those without a score are not counted.
        start: beginning of the first recorded minute; None without one.
        end: end of the last recorded minute; None without one.
        maxima: the maximum of each part, in order of time.
        before: the maximum of the part before, minus infinity after a gap.

    Shapes:
        maxima, before: float64 (n,); maxima are finite.
    """

    camera: str
    minutes: int
    start: datetime | None
    end: datetime | None
    maxima: NDArray[np.float64]
    before: NDArray[np.float64]

    def alarms(self, threshold: float) -> int:
        """The number of alarms that a threshold would have given in the recorded minutes.

        A run begins at a part that reaches the threshold after one that does not: count the parts that reach it, less
        those whose predecessor does too. Both are binary searches in sorted arrays.
        """
        below = np.searchsorted(self._sorted_maxima, threshold, side="left")
        pairs_below = np.searchsorted(self._sorted_lower, threshold, side="left")
        return int((len(self._sorted_maxima) - below) - (len(self._sorted_lower) - pairs_below))

    def alarms_per_day(self, threshold: float) -> float | None:
        """Alarms a day that a threshold would have given; None where less than an hour is recorded."""
        return self.alarms(threshold) * 1440.0 / self.minutes if self.minutes >= MIN_MINUTES else None

    def curve(self, n_points: int = 100) -> list[tuple[float, float]]:
        """Thresholds in ascending order, each with its alarms a day; empty where less than an hour is recorded.

        The thresholds are quantiles of the recorded values, dense at the high end, where rare alarms are decided.
        """
        if self.minutes < MIN_MINUTES or not len(self._sorted_maxima):
            return []
        shares = 1.0 - np.geomspace(1.0, 1.0 / (len(self._sorted_maxima) + 1), max(2, n_points))
        highest = self._sorted_maxima[-1]
        thresholds = np.unique([*np.quantile(self._sorted_maxima, shares), highest, np.nextafter(highest, np.inf)])
        return [(float(value), self.alarms(float(value)) * 1440.0 / self.minutes) for value in thresholds]

    def to_json(self) -> JSON:
        """The summary for the API, with the curve of alarms per day."""
        return {
            "camera": self.camera,
            "minutes": self.minutes,
            "start": iso(self.start),
            "end": iso(self.end),
            "curve": [list(point) for point in self.curve()],
        }

    @cached_property
    def _sorted_maxima(self) -> NDArray[np.float64]:
        return np.sort(self.maxima)

    @cached_property
    def _sorted_lower(self) -> NDArray[np.float64]:
        return np.sort(np.minimum(self.maxima, self.before))


def pack(maxima: Sequence[float]) -> bytes:
    """The maxima of a minute as bytes: little-endian float32.

    Raises:
        StoreError: there are none or too many, or one is not finite.
    """
    if not 1 <= len(maxima) <= MAX_PARTS:
        raise StoreError(f"a minute has {len(maxima)} maxima: expected 1 to {MAX_PARTS}")
    with np.errstate(over="ignore"):
        values = np.asarray(maxima, dtype="<f4")
    if not np.isfinite(values).all():
        raise StoreError(f"the maxima of a minute must be finite numbers: seen {list(maxima)[:5]}")
    return values.tobytes()


def summarise(camera: str, rows: Sequence[tuple[datetime, bytes]]) -> ScoreSummary:
    """The summary of recorded minutes, in order of time."""
    parts, before = [], []
    last_minute: datetime | None = None
    last = -np.inf
    for minute, packed in rows:
        values = np.frombuffer(packed, dtype="<f4").astype(np.float64)
        follows = last_minute is not None and minute - last_minute == MINUTE
        before.append(np.concatenate([[last if follows else -np.inf], values[:-1]]))
        parts.append(values)
        last_minute, last = minute, float(values[-1])
    none = np.empty(0)
    return ScoreSummary(
        camera,
        len(rows),
        rows[0][0] if rows else None,
        last_minute + MINUTE if last_minute is not None else None,
        np.concatenate(parts) if parts else none,
        np.concatenate(before) if before else none,
    )
