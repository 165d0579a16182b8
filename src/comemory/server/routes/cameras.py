"""Cameras: their state, frames, scores and settings."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from comemory.live.contract import CameraStatus
from comemory.server.auth import Caller
from comemory.server.schemas import (
    Budget,
    CameraResponse,
    ErrorResponse,
    Scores,
    Sensitivity,
    SensitivityStep,
    Zones,
    camera_view,
)
from comemory.server.state import AppState, CurrentUser, ServerState
from comemory.store.store import ScoreSummary

router = APIRouter(prefix="/cameras", tags=["cameras"], responses={404: {"model": ErrorResponse}})

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Width = Annotated[int, Query(ge=16, le=4096, description="Width in pixels, at most 640.")]
Heat = Annotated[bool, Query(description="Draw the heat map over the frame.")]

BUDGETS = ("1/week", "2/week", "4/week", "1/day", "2/day", "4/day", "8/day", "1/h", "2/h", "5/h", "10/h", "30/h")
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}},
    204: {"description": "There is no frame yet."},
    304: {"description": "The frame has not changed."},
}
VIDEO_RATE_HZ = 10.0
_BOUNDARY = "frame"


@router.get("")
def cameras(state: AppState) -> list[CameraResponse]:
    """All cameras."""
    return [CameraResponse.model_validate(camera_view(status)) for status in state.engine.status()]


@router.get("/{name}")
def camera(name: Name, state: AppState) -> CameraResponse:
    """One camera."""
    return CameraResponse.model_validate(camera_view(state.camera_status(name)))


@router.get("/{name}/picture", response_class=Response, responses=JPEG)
def picture(request: Request, name: Name, state: AppState, width: Width = 640, heat: Heat = False) -> Response:
    """The newest frame as JPEG; 304 if `If-None-Match` names it."""
    state.camera_status(name)
    newest = state.pictures.latest(name, width, heat)
    if newest is None:
        return Response(status_code=204)
    headers = {"ETag": newest.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == newest.tag:
        return Response(status_code=304, headers=headers)
    return Response(newest.jpeg, media_type="image/jpeg", headers=headers)


@router.get(
    "/{name}/video",
    response_class=StreamingResponse,
    responses={200: {"content": {"multipart/x-mixed-replace": {}}}},
)
async def video(
    name: Name, caller: CurrentUser, state: AppState, width: Width = 640, heat: Heat = False
) -> StreamingResponse:
    """All frames as MJPEG, for programs that show a stream; the page requests single frames."""
    await run_in_threadpool(state.camera_status, name)
    return StreamingResponse(
        _motion_jpeg(state, caller, name, width, heat), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
    )


async def _motion_jpeg(state: ServerState, caller: Caller, name: str, width: int, heat: bool) -> AsyncIterator[bytes]:
    shown = None
    while not (state.broadcaster.is_closed or state.auth.has_ended(caller)):
        newest = await run_in_threadpool(state.pictures.latest, name, width, heat)
        if newest is not None and newest.tag != shown:
            shown = newest.tag
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(newest.jpeg)}\r\n\r\n"
            yield head.encode() + newest.jpeg + b"\r\n"
        await asyncio.sleep(1 / VIDEO_RATE_HZ)


@router.get("/{name}/scores")
def scores(name: Name, state: AppState, seconds: Annotated[float, Query(gt=0, le=600)] = 120.0) -> Scores:
    """The scores of the last seconds."""
    state.camera_status(name)
    recent = [pair for pair in state.engine.scores(name, seconds) if math.isfinite(pair[1])]
    return Scores(times=[time for time, _ in recent], scores=[score for _, score in recent])


@router.get("/{name}/zones")
def zones(name: Name, state: AppState) -> Zones:
    """The ignored zones."""
    return Zones.model_validate({"zones": state.camera_status(name).zones}, strict=False)


@router.put("/{name}/zones", responses={400: {"model": ErrorResponse}})
def set_zones(name: Name, given: Zones, request: Request, caller: CurrentUser, state: AppState) -> Zones:
    """Set the ignored zones."""
    state.camera_status(name)
    state.engine.set_zones(name, tuple(tuple((x, y) for x, y in zone) for zone in given.zones))
    state.record(request, caller, "zones", name, given.zones)
    return zones(name, state)


@router.post("/{name}/reference-view", status_code=204)
def reset_reference_view(name: Name, request: Request, caller: CurrentUser, state: AppState) -> Response:
    """Take the present view of a moved camera as its reference view."""
    state.camera_status(name)
    state.engine.reset_reference_view(name)
    state.record(request, caller, "reference view", name)
    return Response(status_code=204)


@router.get("/{name}/sensitivity")
def sensitivity(name: Name, state: AppState, days: Annotated[float, Query(gt=0, le=365)] = 7.0) -> Sensitivity:
    """The false-alarm budget in force, those to choose from, and their alarms a day by the recorded scores."""
    status = state.camera_status(name)
    summary = None
    if state.store is not None:
        summary = state.store.score_summary(name, datetime.now(UTC) - timedelta(days=days), status.model_sha256[:16])
    return Sensitivity(
        false_alarms=status.false_alarms,
        threshold=status.threshold,
        steps=_steps(state, status, summary),
        curve=[] if summary is None else [list(pair) for pair in summary.curve() if all(map(math.isfinite, pair))],
        recorded_minutes=0 if summary is None else summary.minutes,
        recorded_since=None if summary is None else summary.start,
    )


@router.put("/{name}/sensitivity", responses={400: {"model": ErrorResponse}})
def set_sensitivity(name: Name, given: Budget, request: Request, caller: CurrentUser, state: AppState) -> Sensitivity:
    """Set the false-alarm budget."""
    state.camera_status(name)
    state.engine.set_budget(name, given.false_alarms)
    state.record(request, caller, "sensitivity", name, given.false_alarms)
    return sensitivity(name, state)


def _steps(state: ServerState, status: CameraStatus, summary: ScoreSummary | None) -> list[SensitivityStep]:
    """The budgets to choose from, the fewest alarms first, with the one in force."""
    budgets = BUDGETS if status.false_alarms in BUDGETS else (*BUDGETS, status.false_alarms)
    pairs = sorted(zip(state.engine.thresholds(status.name, budgets), budgets, strict=True), key=lambda pair: -pair[0])
    return [
        SensitivityStep(
            false_alarms=budget,
            threshold=threshold,
            alarms_per_day=None if summary is None else summary.alarms_per_day(threshold),
        )
        for threshold, budget in pairs
    ]
