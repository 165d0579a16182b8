"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from comemory.live.contract import CameraStatus
from comemory.live.engine import Engine
from comemory.server.auth import CSRF_HEADER, SESSION_COOKIE, Auth, Caller
from comemory.server.broadcaster import Broadcaster
from comemory.server.live_pictures import SnapshotEncoder
from comemory.server.middleware import SAFE_METHODS
from comemory.store.store import EventStore


@dataclass(frozen=True)
class ServerState:
    """A running engine and what is served of it.

    Attributes:
        store: None where events are not kept in a database.
    """

    engine: Engine
    store: EventStore | None
    auth: Auth
    pictures: SnapshotEncoder
    broadcaster: Broadcaster

    def camera_status(self, camera: str) -> CameraStatus:
        """A camera's status. Raises HTTPException (404) where there is no such camera."""
        for status in self.engine.status():
            if status.name == camera:
                return status
        raise HTTPException(404, f"there is no camera {camera[:64]!r}")

    def require_store(self) -> EventStore:
        """The store. Raises HTTPException (404) where there is none."""
        if self.store is None:
            raise HTTPException(404, "events are not kept in a database here: set store.enabled = true")
        return self.store


def close_streams(app: FastAPI) -> None:
    """Let the answers of an application that have no end of their own come to one."""
    state: ServerState = app.state.comemory
    state.broadcaster.close_streams()


def get_state(request: Request) -> ServerState:
    """The state of the application that a request came to."""
    state: ServerState = request.app.state.comemory
    return state


AppState = Annotated[ServerState, Depends(get_state)]


def get_caller(request: Request, state: AppState) -> Caller:
    """Who asks.

    Raises:
        HTTPException: 401 for a stranger, 403 for a change that the page did not prove to have asked for.
    """
    caller = state.auth.authenticate(request.cookies.get(SESSION_COOKIE), request.headers.get("authorization"))
    if caller is None:
        raise HTTPException(401, "log in, or send a token as 'Authorization: Bearer …'", {"WWW-Authenticate": "Bearer"})
    if request.method not in SAFE_METHODS and not state.auth.has_csrf_proof(caller, request.headers.get(CSRF_HEADER)):
        raise HTTPException(403, f"send the csrf of GET /api/v1/session as {CSRF_HEADER} with every change")
    return caller


CurrentUser = Annotated[Caller, Depends(get_caller)]
