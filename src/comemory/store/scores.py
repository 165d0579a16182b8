"""What the recorded scores say of a threshold that nobody has tried yet."""

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
MOST_MAXIMA = 60
LEAST_MINUTES = 60


@dataclass(frozen=True, eq=False)
class ScoreSummary:
    """The highest scores of a camera, part by part of the minutes that were recorded.

    An alarm at a threshold is a stretch of parts at or above it, so that a long event counts once; a gap in the
    recording ends it.

    Attributes:
        camera: its name.
        minutes: recorded; minutes in which the camera was not scored are not among them.
        start, end: of the first and behind the last recorded minute, None when there is none.
        maxima: the highest score of each part, in their order.
        before: what each of them is compared with: the part before it, or minus infinity after a gap.

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
        """How many alarms there would have been in the recorded minutes."""
        risen = np.searchsorted(self._tops, threshold, side="left")
        held = np.searchsorted(self._floors, threshold, side="left")
        return int((len(self._tops) - risen) - (len(self._floors) - held))

    def alarms_per_day(self, threshold: float) -> float | None:
        """How many alarms a day there would have been, None when less than an hour is recorded."""
        return self.alarms(threshold) * 1440.0 / self.minutes if self.minutes >= LEAST_MINUTES else None

    def curve(self, n_points: int = 100) -> list[tuple[float, float]]:
        """Thresholds, rising, each with its alarms a day; empty when less than an hour is recorded.

        The thresholds are spread over the values that were seen, most of them where they are high: rare alarms are
        decided there.
        """
        if self.minutes < LEAST_MINUTES or not len(self._tops):
            return []
        shares = 1.0 - np.geomspace(1.0, 1.0 / (len(self._tops) + 1), max(2, n_points))
        highest = self._tops[-1]
        thresholds = np.unique([*np.quantile(self._tops, shares), highest, np.nextafter(highest, np.inf)])
        return [(float(value), self.alarms(float(value)) * 1440.0 / self.minutes) for value in thresholds]

    def to_json(self) -> JSON:
        return {
            "camera": self.camera,
            "minutes": self.minutes,
            "start": iso(self.start),
            "end": iso(self.end),
            "curve": [list(point) for point in self.curve()],
        }

    @cached_property
    def _tops(self) -> NDArray[np.float64]:
        return np.sort(self.maxima)

    @cached_property
    def _floors(self) -> NDArray[np.float64]:
        return np.sort(np.minimum(self.maxima, self.before))


def pack(maxima: Sequence[float]) -> bytes:
    """The maxima of a minute as the store keeps them: little-endian float32.

    Raises:
        StoreError: there are none, too many, or one is not finite.
    """
    if not 1 <= len(maxima) <= MOST_MAXIMA:
        raise StoreError(f"a minute was given {len(maxima)} maxima: expected 1 to {MOST_MAXIMA}")
    with np.errstate(over="ignore"):
        values = np.asarray(maxima, dtype="<f4")
    if not np.isfinite(values).all():
        raise StoreError(f"the maxima of a minute must be finite numbers: seen {list(maxima)[:5]}")
    return values.tobytes()


def summarise(camera: str, rows: Sequence[tuple[datetime, bytes]]) -> ScoreSummary:
    """The summary of recorded minutes, given in their order."""
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
