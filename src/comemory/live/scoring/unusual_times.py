"""Movement at a place at a time of the week when it is usually empty.

Ours: the rarity of a cell is -log10 of the share of frames in which it, or a cell beside it, moved at this hour of the week,
one hour before or after it, on earlier days. The surprise of a frame is the highest rarity of the cells that move now. A
limit for a budget comes from the recorded hours themselves: each is compared with all other days, as if it were new.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.scoring import parse_budget
from comemory.store.activity import COLUMNS, ROWS, HourOfActivity

LABEL = "unusual time"
"""What stands on an event of this kind, unless a detector names the object."""

MIN_DAYS = 3
"""Days with this hour that are needed to say what is usual at it."""

N_FRAMES = 5
"""A cell counts when it, or one beside it, moved in all but one of this many frames: a flicker of noise does not."""


MARGIN = 0.3
"""How far the limit lies above what was usual, in log10 units: twice as rare. Hours that are equally usual differ by chance."""


@dataclass(frozen=True, eq=False)
class UnusualTimeScore:
    """How unusual a frame is at its time.

    Attributes:
        excess: how unusual the frame is, minus the limit of the budget; it is an event at 0 or above.
        cells: which cells reach the limit, or the rarest ones if none does.

    Shapes:
        cells: bool (ROWS, COLUMNS).
    """

    excess: float
    cells: NDArray[np.bool_]


class UnusualTimes:
    """What is usual at a camera at each hour of the week, and how surprising a frame is.

    Attributes:
        limit: least surprise of an event; infinite where nothing is known yet.
        note: why there can be no event yet, in one line; empty if there can.

    Args:
        hours: recorded activity, such as that of the last eight weeks.
        budget: false alarms that are acceptable, such as `1/week`.
        zone: in which hours and weekdays are counted; None is that of the machine.

    Raises:
        ConfigError: the budget cannot be read.
    """

    def __init__(self, hours: Sequence[HourOfActivity], budget: str, zone: tzinfo | None = None) -> None:
        self._zone = zone
        recorded = [one for one in hours if one.frames]
        local = [one.hour.astimezone(zone) for one in recorded]
        self._day = np.array([at.toordinal() for at in local], dtype=np.int64)
        self._weekday = np.array([at.weekday() for at in local], dtype=np.int64)
        self._hour = np.array([at.hour for at in local], dtype=np.int64)
        self._frames = np.array([one.frames for one in recorded], dtype=np.float64)
        self._moving = np.array([one.moving for one in recorded], dtype=np.float64).reshape(-1, ROWS, COLUMNS)
        self._usual: dict[tuple[int, int], NDArray[np.float64] | None] = {}
        self._seen: deque[NDArray[np.bool_]] = deque(maxlen=N_FRAMES)
        self.limit, self.note = self._calibrate(parse_budget(budget), budget)

    def step(self, at: float, moves: NDArray[np.bool_]) -> UnusualTimeScore | None:
        """The surprise of the next frame; None where nothing moves, or nothing is known of this time.

        Args:
            at: Unix time of the frame.
            moves: which cells move.

        Shapes:
            moves: bool (ROWS, COLUMNS).
        """
        self._seen.append(_widened(moves))
        usual = self._rarity(datetime.fromtimestamp(at, UTC).astimezone(self._zone))
        if usual is None or len(self._seen) < N_FRAMES:
            return None
        lasting = moves & (sum(one.astype(np.int64) for one in self._seen) >= N_FRAMES - 1)
        if not lasting.any():
            return None
        rarity = np.where(lasting, usual, 0.0)
        surprise = float(rarity.max())
        return UnusualTimeScore(surprise - self.limit, lasting & (rarity >= min(self.limit, surprise)))

    def reset(self) -> None:
        """Forget the frames before: the next one does not follow them."""
        self._seen.clear()

    def _calibrate(self, per_hour: float, budget: str) -> tuple[float, str]:
        highest = [self._surprise_of(k) for k in range(len(self._frames))]
        known = sorted((one for one in highest if one is not None), reverse=True)
        if not known:
            n_days = len(set(self._day.tolist()))
            return math.inf, f"unusual times: {MIN_DAYS + 1} days of activity are needed, {n_days} are recorded"
        n_alarms = per_hour * len(known)
        # Below one alarm: rarer than anything recorded, a tenth as often for each unit of rarity.
        rarest = known[min(int(n_alarms), len(known)) - 1] if n_alarms >= 1 else known[0] - math.log10(n_alarms)
        limit = rarest + MARGIN
        pools = [self._pool(*slot) for slot in zip(self._weekday, self._hour, self._day, strict=True)]
        n_frames = max(float(self._frames[pool].sum()) for pool in pools if pool is not None)
        if limit > math.log10(2 * (n_frames + 1)):  # not even where nothing has ever moved
            if n_alarms >= 1:
                return limit, f"unusual times: no event, because places that are usually empty see more than {budget}"
            n_days = math.ceil(1 / (24 * per_hour))
            return limit, f"unusual times: no event yet, because {budget} needs about {n_days} days of activity"
        return limit, ""

    def _surprise_of(self, k: int) -> float | None:
        """The highest rarity of the cells that moved in a recorded hour, by the other days; None where those say nothing."""
        usual = self._rarity_at(int(self._weekday[k]), int(self._hour[k]), int(self._day[k]))
        if usual is None:
            return None
        moved = self._moving[k] >= N_FRAMES
        return float(usual[moved].max()) if moved.any() else 0.0

    def _rarity(self, now: datetime) -> NDArray[np.float64] | None:
        """Of each cell at a local time, by the days before it."""
        key = now.toordinal(), now.hour
        if key not in self._usual:
            self._usual = {key: self._rarity_at(now.weekday(), now.hour, now.toordinal())}
        return self._usual[key]

    def _rarity_at(self, weekday: int, hour: int, day: int) -> NDArray[np.float64] | None:
        """Of each cell at an hour of the week, by all days but one; None where nothing is known."""
        pool = self._pool(weekday, hour, day)
        if pool is None:
            return None
        share = (self._moving[pool].sum(axis=0) + 0.5) / (self._frames[pool].sum() + 1)
        rarity: NDArray[np.float64] = -np.log10(_widened(np.minimum(share, 1.0)))
        return rarity

    def _pool(self, weekday: int, hour: int, day: int) -> NDArray[np.bool_] | None:
        """The recorded hours that an hour of a day is compared with; None if they are of too few days.

        Those of the same weekday if there are enough of them, else those of all working days, or of all weekends.
        """
        distance = np.abs(self._hour - hour)
        near = (np.minimum(distance, 24 - distance) <= 1) & (self._day != day)
        for alike in (self._weekday == weekday, (self._weekday >= 5) == (weekday >= 5)):
            pool: NDArray[np.bool_] = near & alike
            if len(np.unique(self._day[pool])) >= MIN_DAYS:
                return pool
        return None


def _widened(cells: NDArray[Any]) -> NDArray[Any]:
    """The highest value of each cell and the eight beside it.

    >>> int(_widened(np.eye(12, 16, dtype=bool)).sum())
    56
    """
    padded = np.pad(cells, 1, mode="edge")
    widened: NDArray[Any] = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max(axis=(2, 3))
    return widened
