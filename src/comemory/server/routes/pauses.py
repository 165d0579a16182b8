"""Pausing and snoozing cameras, for operators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from comemory.server.routes.cameras import Name
from comemory.server.schemas import CameraResponse, ErrorResponse, RequestBody, camera_view
from comemory.server.state import AppState, CurrentUser, ServerState

router = APIRouter(prefix="/cameras", tags=["cameras"], responses={404: {"model": ErrorResponse}})
MAX_MIN = 365 * 1440
Minutes = Annotated[float, Field(gt=0, le=MAX_MIN, strict=True)]


class PauseTime(RequestBody):
    """How long a camera is not watched; null until somebody ends it."""

    minutes: Minutes | None = None


class SnoozeTime(RequestBody):
    """How long the events of a camera make no alerts."""

    minutes: Minutes


@router.put("/{name}/pause")
def pause(name: Name, given: PauseTime, request: Request, caller: CurrentUser, state: AppState) -> CameraResponse:
    """Stop watching a camera, also after a restart."""
    state.camera_status(name)
    until = None if given.minutes is None else _in(given.minutes)
    state.engine.pause(name, until, caller.name)
    state.record(request, caller, "pause", name, None if until is None else until.isoformat())
    return _view(state, name)


@router.delete("/{name}/pause")
def resume(name: Name, request: Request, caller: CurrentUser, state: AppState) -> CameraResponse:
    """Watch a paused camera again."""
    state.camera_status(name)
    state.engine.resume(name)
    state.record(request, caller, "resume", name)
    return _view(state, name)


@router.put("/{name}/snooze")
def snooze(name: Name, given: SnoozeTime, request: Request, caller: CurrentUser, state: AppState) -> CameraResponse:
    """Send no alerts for events that begin from now on, for a time; they are recorded."""
    state.camera_status(name)
    until = _in(given.minutes)
    state.engine.snooze(name, until, caller.name)
    state.record(request, caller, "snooze", name, until.isoformat())
    return _view(state, name)


@router.delete("/{name}/snooze")
def end_snooze(name: Name, request: Request, caller: CurrentUser, state: AppState) -> CameraResponse:
    """Send alerts again."""
    state.camera_status(name)
    state.engine.end_snooze(name)
    state.record(request, caller, "snooze ended", name)
    return _view(state, name)


def _in(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def _view(state: ServerState, name: str) -> CameraResponse:
    return CameraResponse.model_validate(camera_view(state.camera_status(name)))
