"""What every route works with: the engine, the store, and the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from comemory.live.contract import CameraStatus, EngineContract, ServiceContract
from comemory.live.learning.trainer import Trainer
from comemory.server.audit import AuditLog
from comemory.server.auth import CSRF_HEADER, SESSION_COOKIE, Auth, Caller
from comemory.server.auth_file import Role
from comemory.server.broadcaster import Broadcaster
from comemory.server.http_protocol import peer_of
from comemory.server.live_pictures import SnapshotEncoder
from comemory.server.middleware import SAFE_METHODS
from comemory.server.nodes import Node
from comemory.store.store import EventStore


@dataclass(frozen=True)
class Proxy:
    """The proxies in front of the server.

    Attributes:
        trusted: their addresses.
        user_header: the header in which they name the user, None where they do not.
        is_https: browsers reach the page by HTTPS, even if the last proxy forwards plain HTTP.
    """

    trusted: frozenset[str] = frozenset()
    user_header: str | None = None
    is_https: bool = False

    def user_of(self, request: Request) -> str | None:
        """The user that a trusted proxy names. Anybody else's header is ignored."""
        if self.user_header is None or peer_of(request.scope) not in self.trusted:
            return None
        return request.headers.get(self.user_header)


@dataclass(frozen=True)
class ServerState:
    """A running engine and what is served of it.

    Attributes:
        store: None where events are not stored in a database.
        service: what changes the settings; None where nothing does.
        trainer: starts trainings; None where none can be started.
        nodes: of a fleet; None on one machine.
    """

    engine: EngineContract
    store: EventStore | None
    auth: Auth
    pictures: SnapshotEncoder
    broadcaster: Broadcaster
    proxy: Proxy = field(default_factory=Proxy)
    audit: AuditLog = field(default_factory=lambda: AuditLog(None))
    service: ServiceContract | None = None
    trainer: Trainer | None = None
    nodes: Callable[[], list[Node]] | None = None

    def camera_status(self, camera: str) -> CameraStatus:
        """The status of a camera.

        Raises:
            HTTPException: 404 where there is no such camera.
        """
        for status in self.engine.status():
            if status.name == camera:
                return status
        raise HTTPException(404, f"there is no camera {camera[:64]!r}")

    def require_store(self) -> EventStore:
        """The store.

        Raises:
            HTTPException: 404 where there is none.
        """
        if self.store is None:
            raise HTTPException(404, "events are not stored in a database here: set store.enabled = true")
        return self.store

    def authenticate(self, request: Request) -> Caller | None:
        """The caller of a request, None for one who is unknown."""
        cookie, authorization = request.cookies.get(SESSION_COOKIE), request.headers.get("authorization")
        return self.auth.authenticate(cookie, authorization, self.proxy.user_of(request))

    def record(self, request: Request, caller: Caller, action: str, target: str = "", value: object = None) -> None:
        """Write an entry of the audit log."""
        self.audit.write(action, caller.name, client_of(request), target, value)


def client_of(request: Request) -> str:
    """The address of the client; behind trusted proxies, the one that they forward."""
    return request.client.host if request.client else "unknown"


def close_streams(app: FastAPI) -> None:
    """End all streaming responses of an application."""
    state: ServerState = app.state.comemory
    state.broadcaster.close_streams()


def get_state(request: Request) -> ServerState:
    """The state of the application that a request came to."""
    state: ServerState = request.app.state.comemory
    return state


AppState = Annotated[ServerState, Depends(get_state)]


def get_caller(request: Request, state: AppState) -> Caller:
    """The caller, who may read; a change needs the role of an operator.

    Raises:
        HTTPException: 401 for an unknown caller; 403 for a change without the page's proof, or without the role.
    """
    caller = state.authenticate(request)
    if caller is None:
        raise HTTPException(401, "log in, or send a token as 'Authorization: Bearer …'", {"WWW-Authenticate": "Bearer"})
    if request.method not in SAFE_METHODS:
        if not state.auth.has_csrf_proof(caller, request.headers.get(CSRF_HEADER)):
            raise HTTPException(403, f"send the csrf of GET /api/v1/session as {CSRF_HEADER} with every change")
        if not request.url.path.endswith("/session"):
            require_role(caller, "operator")
    return caller


def require_role(caller: Caller, role: Role) -> None:
    """Refuse a caller with less than a role.

    Raises:
        HTTPException: 403.
    """
    if not caller.has_role(role):
        raise HTTPException(403, f"this needs the role {role}, and {caller.name} has the role {caller.role}")


CurrentUser = Annotated[Caller, Depends(get_caller)]


def get_admin(caller: CurrentUser) -> Caller:
    """The caller, an admin. Raises HTTPException (403) for others."""
    require_role(caller, "admin")
    return caller


Admin = Annotated[Caller, Depends(get_admin)]
