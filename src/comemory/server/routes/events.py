"""Events, their files, and the verdicts of operators."""

from __future__ import annotations

import secrets
import threading
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from comemory.live.recording.clip_export import clip_name, export_clip
from comemory.server.schemas import (
    ErrorResponse,
    EventPage,
    EventResponse,
    EventSummaryResponse,
    Moment,
    Timeline,
    Verdict,
    event_view,
)
from comemory.server.state import Admin, AppState, CurrentUser, ServerState
from comemory.store.reader import MAX_SUMMARIES
from comemory.store.store import StoredEvent

router = APIRouter(prefix="/events", tags=["events"], responses={404: {"model": ErrorResponse}})
timeline_router = APIRouter(tags=["events"], responses={404: {"model": ErrorResponse}})

ID_PATTERN = r"^[0-9A-Za-z-]{1,64}$"
Id = Annotated[str, Path(pattern=ID_PATTERN)]
Kind = Literal["thumbnail", "crop", "heat", "clip"]
CameraQuery = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
VerdictQuery = Literal["normal", "abnormal", "none"] | None
LabelQuery = Annotated[str | None, Query(max_length=64, description="`none` for events without a label.")]

_EXPORTS = threading.Lock()
"""Encoding takes a core: one export at a time, so that the cameras keep theirs."""
_PARTS = {"thumbnail": "_peak", "crop": "_crop", "heat": "_heat", "clip": ""}

FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}, "video/mp4": {}}},
    206: {"description": "The part that the Range header names."},
    416: {"description": "The Range header names a part that does not exist."},
}
MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}


@router.get("")
def events(
    state: AppState,
    camera: CameraQuery = None,
    since: Moment | None = None,
    until: Moment | None = None,
    before: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    after: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    verdict: VerdictQuery = None,
    suppressed: bool | None = None,
    label: LabelQuery = None,
    favourite: bool | None = None,
) -> EventPage:
    """Events, newest first; with `after`, those that follow an event, oldest first."""
    found = state.require_store().page(
        camera=camera,
        since=since,
        until=until,
        before=before,
        after=after,
        limit=limit,
        verdict=verdict,
        suppressed=suppressed,
        label=label,
        favourite=favourite,
    )
    following = found[-1].id if len(found) == limit else None
    return EventPage(events=[view_of(event) for event in found], next=following)


@timeline_router.get("/timeline")
def timeline(
    state: AppState,
    camera: CameraQuery = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_SUMMARIES)] = MAX_SUMMARIES,
    verdict: VerdictQuery = None,
    label: LabelQuery = None,
    favourite: bool | None = None,
) -> Timeline:
    """The times of events, without their details."""
    marks, total = state.require_store().summaries(
        camera=camera, since=since, until=until, verdict=verdict, label=label, favourite=favourite, limit=limit
    )
    return Timeline(events=[EventSummaryResponse.model_validate(mark) for mark in marks], total=total)


@router.get("/{id}")
def event(id: Id, state: AppState) -> EventResponse:
    """One event."""
    return view_of(existing_event(state, id))


@router.delete(
    "/{id}", status_code=204, responses={409: {"model": ErrorResponse, "description": "The event is still open."}}
)
def delete(id: Id, request: Request, caller: Admin, state: AppState) -> Response:
    """Delete an event and its files, once it has ended; for admins."""
    found = existing_event(state, id)
    if found.end is None:
        raise HTTPException(409, "the event is still open: delete it when it has ended")
    if not state.require_store().delete(id):
        raise HTTPException(404, "there is no such event")
    state.record(request, caller, "delete", id)
    state.broadcaster.publish_event(found, "delete")
    return Response(status_code=204)


@router.put("/{id}/verdict", responses={400: {"model": ErrorResponse}})
def set_verdict(id: Id, given: Verdict, request: Request, caller: CurrentUser, state: AppState) -> EventResponse:
    """Set the verdict on an event: `normal` suppresses similar events of the camera, null removes it."""
    existing_event(state, id)
    state.engine.set_verdict(id, given.verdict, caller.name)
    state.record(request, caller, "verdict", id, given.verdict)
    found = existing_event(state, id)
    state.broadcaster.publish_event(found, "update")
    return view_of(found)


@router.get("/{id}/export", response_class=FileResponse, responses={200: {"content": {"video/mp4": {}}}})
def export(id: Id, state: AppState) -> FileResponse:
    """The clip to hand on: the time of day, the mark of the event and the outline are drawn into its frames."""
    store, found = state.require_store(), existing_event(state, id)
    clip = store.file(id, "clip")
    if clip is None:
        raise HTTPException(404, "this event has no clip")
    target = store.scratch / f"export-{secrets.token_hex(8)}.mp4"
    try:
        with _EXPORTS:
            export_clip(clip, found, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return FileResponse(
        target,
        media_type="video/mp4",
        filename=clip_name(found, ".mp4", "_marked"),
        background=BackgroundTask(target.unlink, missing_ok=True),
    )


@router.get("/{id}/{kind}", response_class=FileResponse, responses=FILE)
def file(id: Id, kind: Kind, state: AppState, download: bool = False) -> FileResponse:
    """A file of an event, or the part of it that the Range header names."""
    path = state.require_store().file(id, kind)
    if path is None:
        raise HTTPException(404, f"this event has no {kind}")
    return FileResponse(
        path,
        media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        filename=clip_name(existing_event(state, id), path.suffix, _PARTS[kind]) if download else None,
        headers={"Cache-Control": "private, max-age=3600"},
    )


def existing_event(state: ServerState, id: str) -> StoredEvent:
    """The event of an id.

    Raises:
        HTTPException: 404 where there is none.
    """
    found = state.require_store().get(id)
    if found is None:
        raise HTTPException(404, "there is no such event")
    return found


def view_of(event: StoredEvent) -> EventResponse:
    """A stored event as the API shows it."""
    return EventResponse.model_validate(event_view(event.to_json()))
