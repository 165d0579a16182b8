"""Events, their files, and the verdicts of operators."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from comemory.errors import SourceError
from comemory.live.recording.clip_export import clip_name, export_clip
from comemory.server.object_response import object_response
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
from comemory.store.objects import is_missing
from comemory.store.reader import MAX_SUMMARIES, MediaFile
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
    503: {"model": ErrorResponse, "description": "The object store does not answer, or does not have the file yet."},
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
    clip = _media_file(state, id, "clip")
    target = store.scratch / f"export-{secrets.token_hex(8)}.mp4"
    try:
        with ExitStack() as stack:
            with _missing_as_404("clip"):
                path = stack.enter_context(store.local_copy(clip))
            with _EXPORTS:
                export_clip(path, found, target)
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
def file(id: Id, kind: Kind, request: Request, state: AppState, download: bool = False) -> Response:
    """A file of an event, or the part of it that the Range header names; from the object store where it is not here."""
    found = _media_file(state, id, kind)
    suffix = PurePosixPath(found.name).suffix
    media_type = MEDIA_TYPES.get(suffix, "application/octet-stream")
    filename = clip_name(existing_event(state, id), suffix, _PARTS[kind]) if download else None
    headers = {"Cache-Control": "private, max-age=3600"}
    if found.path is not None:
        return FileResponse(found.path, media_type=media_type, filename=filename, headers=headers)
    if filename is not None:
        headers["Content-Disposition"] = f"attachment; filename*=utf-8''{quote(filename)}"
    with _missing_as_404(kind):
        content, size = state.require_store().open_object(found)
    return object_response(content, size, request.headers.get("Range"), media_type, headers)


def _media_file(state: ServerState, id: str, kind: Kind) -> MediaFile:
    """Where a file of an event is.

    Raises:
        HTTPException: 404 where there is none.
    """
    found = state.require_store().media_file(id, kind)
    if found is None:
        raise HTTPException(404, f"this event has no {kind}")
    return found


@contextmanager
def _missing_as_404(kind: Kind) -> Iterator[None]:
    """Answer 404 where the object of a file is missing; with the object store away, the answer is 503.

    Raises:
        HTTPException: 404.
    """
    try:
        yield
    except SourceError as error:
        if is_missing(error):
            raise HTTPException(404, f"the {kind} of this event is no longer in the object store") from None
        raise


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
