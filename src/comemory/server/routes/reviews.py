"""Reviewing events: notes and favourites, and one change of many events at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from comemory.errors import ComemoryError, mask_password
from comemory.server.auth import Caller
from comemory.server.routes.events import ID_PATTERN, Id, existing_event, view_of
from comemory.server.schemas import ErrorResponse, EventResponse, RequestBody, ResponseBody
from comemory.server.state import AppState, CurrentUser, ServerState, require_role
from comemory.store.event import StoredEvent, Verdict

router = APIRouter(tags=["events"], responses={404: {"model": ErrorResponse}})

Action = Literal["normal", "abnormal", "clear", "favourite", "unfavourite", "delete"]
MAX_REVIEWED = 200
"""As many as a page of events has at most."""

Act = Callable[[ServerState, Sequence[str], Caller], dict[str, str]]
"""Changes events that exist; gives, for each that was not changed, why not."""


class Annotation(RequestBody):
    """What an operator writes on an event; a key that is left out is not changed."""

    note: Annotated[str, Field(max_length=1000)] | None = Field(None, description="An empty text removes the note.")
    favourite: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Retention keeps favourites and their files."
    )


class Review(RequestBody):
    """One change of many events. `clear` removes the verdict."""

    ids: Annotated[list[Annotated[str, Field(pattern=ID_PATTERN)]], Field(min_length=1, max_length=MAX_REVIEWED)]
    action: Action


class ReviewResult(ResponseBody):
    """What came of one event."""

    id: str
    event: EventResponse | None = Field(description="As it is now; null where it was deleted, or there is none.")
    error: str | None = Field(description="Why it was not changed; null where it was.")


class ReviewResults(ResponseBody):
    """What came of each event, in the order given; an event that is named twice is changed once."""

    results: list[ReviewResult]


@router.patch("/events/{id}")
def annotate(id: Id, given: Annotation, request: Request, caller: CurrentUser, state: AppState) -> EventResponse:
    """Set the note of an event, make it a favourite or no longer."""
    existing_event(state, id)
    found = state.require_store().annotate(id, note=given.note, favourite=given.favourite)
    state.record(request, caller, "annotate", id, given.model_dump(exclude_none=True))
    state.broadcaster.publish_event(found, "update")
    return view_of(found)


@router.post("/reviews")
def review(given: Review, request: Request, caller: CurrentUser, state: AppState) -> ReviewResults:
    """Change many events at once; what cannot be changed is named, and the rest is done. Deleting needs an admin."""
    if given.action == "delete":
        require_role(caller, "admin")
    before = _existing(state, given.ids)
    errors = {id: "there is no such event" for id in given.ids if id not in before}
    errors |= _ACTIONS[given.action](state, list(before), caller)
    changed = [id for id in before if id not in errors]
    state.record(request, caller, "review", given.action, changed)
    after = _existing(state, before)
    for id in changed:
        state.broadcaster.publish_event(after.get(id, before[id]), "update" if id in after else "delete")
    return ReviewResults(
        results=[
            ReviewResult(id=id, event=view_of(after[id]) if id in after else None, error=errors.get(id))
            for id in dict.fromkeys(given.ids)
        ]
    )


def _existing(state: ServerState, ids: Iterable[str]) -> dict[str, StoredEvent]:
    store = state.require_store()
    found = {id: store.get(id) for id in ids}
    return {id: event for id, event in found.items() if event is not None}


def _set_verdict(verdict: Verdict | None) -> Act:
    return lambda state, ids, caller: state.engine.set_verdicts(ids, verdict, caller.name)


def _set_favourite(favourite: bool) -> Act:
    return lambda state, ids, _: _each(ids, lambda id: state.require_store().annotate(id, favourite=favourite))


def _delete(state: ServerState, ids: Sequence[str], _: Caller) -> dict[str, str]:
    return _each(ids, state.require_store().delete)


def _each(ids: Sequence[str], act: Callable[[str], object]) -> dict[str, str]:
    """Do something with each event; for each that it cannot be done with, why not."""
    errors = {}
    for id in ids:
        try:
            act(id)
        except ComemoryError as error:
            errors[id] = mask_password(str(error))
    return errors


_ACTIONS: dict[Action, Act] = {
    "normal": _set_verdict("normal"),
    "abnormal": _set_verdict("abnormal"),
    "clear": _set_verdict(None),
    "favourite": _set_favourite(True),
    "unfavourite": _set_favourite(False),
    "delete": _delete,
}
