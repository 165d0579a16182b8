"""What moves at a camera, by hour: in how many frames each place moved, and how fast. Users see with it what is normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

import numpy as np
from numpy.typing import NDArray

from comemory.errors import StoreError

ROWS, COLUMNS = 12, 16
"""The grid: as coarse as that of feedback, so that an hour takes 1.5 KB and a month of a camera 1.1 MB."""
N_CELLS = ROWS * COLUMNS


@dataclass(frozen=True, eq=False)
class HourOfActivity:
    """What moved in an hour, or in a part of it.

    Attributes:
        hour: any time in it; the store keeps its beginning.
        frames: number of scored frames.
        moving: number of these in which something moved, by cell.
        speed: sum of the highest speed in these frames, by cell, in widths of the image a second.

    Shapes:
        moving, speed: float64 (ROWS, COLUMNS).
    """

    hour: datetime
    frames: int
    moving: NDArray[np.float64]
    speed: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HourOfWeek:
    """The activity of one hour of the week.

    Attributes:
        weekday: 0 is Monday.
        hour: 0 to 23.
        days: number of days that it was recorded on.
        frames: number of scored frames.
        moving: mean share of the image that moved, 0 to 1.
        speed: mean speed where something moved, in widths of the image a second; None where nothing did.
    """

    weekday: int
    hour: int
    days: int
    frames: int
    moving: float
    speed: float | None


class ActivitySummary:
    """The recorded activity of a camera.

    Args:
        hours: in order of time.
        zone: in which hours and weekdays are counted.
    """

    def __init__(self, hours: Sequence[HourOfActivity], zone: tzinfo | None = None) -> None:
        self.hours = list(hours)
        self._local = [one.hour.astimezone(zone) for one in hours]

    def week(self) -> list[HourOfWeek]:
        """The hours of the week of which something is recorded, Monday 0:00 first."""
        found: list[HourOfWeek] = []
        for weekday in range(7):
            for hour in range(24):
                some = self._of(weekday, hour)
                if (frames := sum(one.frames for one in some)) > 0:
                    moving, speed = _totals(some)
                    n_moving = float(moving.sum())
                    mean_speed = float(speed.sum()) / n_moving if n_moving else None
                    share = n_moving / (frames * N_CELLS)
                    found.append(HourOfWeek(weekday, hour, len(some), frames, share, mean_speed))
        return found

    def grid(
        self, weekday: int | None = None, hour: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The share of frames in which each cell moved, and its mean speed then; of one weekday or hour where given.

        Shapes: float64 (ROWS, COLUMNS) each; the speed is NaN where nothing moved.
        """
        some = self._of(weekday, hour)
        moving, speed = _totals(some)
        frames = sum(one.frames for one in some)
        with np.errstate(invalid="ignore", divide="ignore"):
            return moving / max(frames, 1), np.where(moving > 0, speed / moving, np.nan)

    def _of(self, weekday: int | None, hour: int | None) -> list[HourOfActivity]:
        return [
            one
            for one, local in zip(self.hours, self._local, strict=True)
            if weekday in (None, local.weekday()) and hour in (None, local.hour)
        ]


def pack_activity(part: HourOfActivity) -> bytes:
    """The cells of an hour as bytes: the counts as little-endian uint32, then the speeds as float32.

    Raises:
        StoreError: the numbers are not those of a grid, or not finite.
    """
    grids = (part.moving, part.speed)
    if part.frames < 0 or any(one.shape != (ROWS, COLUMNS) or not np.isfinite(one).all() for one in grids):
        raise StoreError(f"the activity of an hour must be finite numbers in {ROWS} x {COLUMNS} cells")
    return part.moving.astype("<u4").tobytes() + part.speed.astype("<f4").tobytes()


def unpack_activity(hour: datetime, frames: int, packed: bytes) -> HourOfActivity:
    """The inverse of `pack_activity`."""
    moving = np.frombuffer(packed, "<u4", N_CELLS).reshape(ROWS, COLUMNS).astype(np.float64)
    speed = np.frombuffer(packed, "<f4", N_CELLS, offset=4 * N_CELLS).reshape(ROWS, COLUMNS).astype(np.float64)
    return HourOfActivity(hour, frames, moving, speed)


def _totals(some: Sequence[HourOfActivity]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nothing = np.zeros((ROWS, COLUMNS))
    return sum((one.moving for one in some), nothing), sum((one.speed for one in some), nothing)
