"""The system: live messages, probes, metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field

from comemory.errors import ComemoryError
from comemory.live.contract import Message
from comemory.provenance import package_version
from comemory.server.broadcaster import TooManySubscribers
from comemory.server.machine import MachineStatus, machine_status
from comemory.server.metrics import metrics_text
from comemory.server.schemas import ErrorResponse, Quarantine, SystemStatus, TrainingStatus
from comemory.server.state import AppState, CurrentUser, ServerState
from comemory.types import JSON

router = APIRouter(tags=["system"])
probes = APIRouter(tags=["system"])
metrics_router = APIRouter(tags=["system"])

MAX_STREAM_S = 3600.0
CHECK_EVERY_S = 5.0


class SystemReport(SystemStatus):
    """The state of the whole system, with that of the machine."""

    machine: MachineStatus
    store_url: str | None = Field(description="Of the database, its password masked; null without one.")


@router.get("/system")
def system(state: AppState) -> SystemReport:
    """The state of the whole system."""
    return SystemReport(
        version=package_version("comemory"),
        uptime_s=state.engine.metrics().uptime_s,
        events=_counts(state),
        store_error=None if state.store is None else state.store.error,
        store_warning=None if state.store is None else state.store.warning,
        quarantine=_quarantine(state),
        learning=[TrainingStatus.model_validate(one) for one in state.broadcaster.learning()],
        machine=machine_status(state.engine.settings.out if state.store is None else state.store.media),
        store_url=None if state.store is None else state.store.url,
    )


async def subscription(caller: CurrentUser, state: AppState) -> AsyncIterator[asyncio.Queue[Message]]:
    """A subscription to live messages, open until the response has ended.

    Raises:
        HTTPException: 503 where there are too many already.
    """
    try:
        with state.broadcaster.subscribe() as waiting:
            yield waiting
    except TooManySubscribers:
        raise HTTPException(503, "too many pages are open: close some") from None


Subscription = Annotated[asyncio.Queue[Message], Depends(subscription)]


@router.get("/stream", response_class=EventSourceResponse, responses={503: {"model": ErrorResponse}})
async def stream(caller: CurrentUser, state: AppState, waiting: Subscription) -> AsyncIterable[ServerSentEvent]:
    """Live messages as server-sent events: `status`, `scores`, `event`, `state`, `drift`, `learning`."""
    first = await run_in_threadpool(state.broadcaster.status)
    yield ServerSentEvent(data=first, event="status", retry=2000)
    until = time.monotonic() + MAX_STREAM_S
    while time.monotonic() < until and not state.auth.has_ended(caller):
        try:
            message = await asyncio.wait_for(waiting.get(), CHECK_EVERY_S)
        except TimeoutError:
            continue
        if message["kind"] == "end":
            return
        yield ServerSentEvent(data=message, event=message["kind"])


def _counts(state: ServerState) -> JSON:
    """Numbers of events and files; empty while the store is away."""
    try:
        return {} if state.store is None else state.store.counts().to_json()
    except ComemoryError:
        return {}


def _quarantine(state: ServerState) -> Quarantine | None:
    if state.store is None:
        return None
    # Imported late: the store's libraries are needed only where there is one.
    from comemory.store.retention import QUARANTINE_AGE

    found = state.store.sum_of_quarantine()
    deleted_from = None if found.oldest is None else found.oldest + QUARANTINE_AGE
    return Quarantine(files=found.files, bytes=found.bytes, deleted_from=deleted_from)


@probes.get("/healthz", responses={503: {"description": "The engine has stopped, or scores nothing."}})
async def healthz(response: Response, state: AppState) -> dict[str, str]:
    """Whether the process answers and can score: 503 asks for a restart. A camera or store that is away is no reason."""
    failure = state.engine.failure
    response.status_code = 503 if failure else 200
    return {"status": failure or "ok"}


@probes.get("/readyz", responses={503: {"description": "The engine or the store is not ready."}})
def readyz(response: Response, state: AppState) -> dict[str, bool]:
    """Whether the engine runs and the store can be written. Cameras that are down are not counted."""
    ready = {"engine": state.engine.metrics().uptime_s > 0, "store": True}
    if state.store is not None:
        try:
            state.store.counts()
            ready["store"] = state.store.error is None
        except ComemoryError:
            ready["store"] = False
    response.status_code = 200 if all(ready.values()) else 503
    return ready


@metrics_router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(state: AppState) -> Response:
    """Metrics for Prometheus."""
    return Response(metrics_text(state.engine, state.store), media_type="text/plain; version=0.0.4; charset=utf-8")
