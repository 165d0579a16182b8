"""What is normal at a camera: where things move, how fast, by hour of day and day of week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query
from numpy.typing import NDArray
from pydantic import Field

from comemory.server.schemas import ErrorResponse, ResponseBody
from comemory.server.state import AppState
from comemory.store.activity import ActivitySummary

router = APIRouter(prefix="/cameras", tags=["cameras"], responses={404: {"model": ErrorResponse}})

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class HourOfWeekResponse(ResponseBody):
    """The activity of one hour of the week."""

    weekday: int = Field(description="0 is Monday.")
    hour: int
    days: int = Field(description="On how many days it was recorded.")
    moving: float = Field(description="Mean share of the image that moved, 0 to 1.")
    speed: float | None = Field(description="Mean speed where something moved, in widths of the image a second.")


class Activity(ResponseBody):
    """What moved at a camera, in the local time of the server."""

    since: datetime | None = Field(description="Start of the first recorded hour; null without one.")
    hours: int = Field(description="Number of recorded hours.")
    week: list[HourOfWeekResponse] = Field(description="The hours of the week of which something is recorded.")
    moving: list[list[float]] = Field(description="Share of the frames in which each place moved, by row and column.")
    speed: list[list[float | None]] = Field(
        description="Mean speed there when it moved, in widths of the image a second."
    )


@router.get("/{name}/activity")
def activity(
    name: Name,
    state: AppState,
    days: Annotated[float, Query(gt=0, le=365)] = 28.0,
    weekday: Annotated[int | None, Query(ge=0, le=6, description="Of the grid: 0 is Monday; all without it.")] = None,
    hour: Annotated[int | None, Query(ge=0, le=23, description="Of the grid; all without it.")] = None,
) -> Activity:
    """Where things move at a camera and how fast, by hour of the week, as recorded over the last days."""
    state.camera_status(name)
    hours = state.require_store().activity(name, datetime.now(UTC) - timedelta(days=days))
    summary = ActivitySummary(hours)
    moving, speed = summary.grid(weekday, hour)
    return Activity(
        since=hours[0].hour if hours else None,
        hours=len(hours),
        week=[
            HourOfWeekResponse(weekday=one.weekday, hour=one.hour, days=one.days, moving=one.moving, speed=one.speed)
            for one in summary.week()
        ],
        moving=np.round(moving, 5).tolist(),
        speed=_without_nan(speed),
    )


def _without_nan(grid: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 5) for value in row] for row in grid]
