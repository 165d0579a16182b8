"""The application: the API, the probes and the page, behind the security middleware."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from comemory.errors import ComemoryError, ConfigError, mask_password, plain_reason
from comemory.live.contract import EngineContract, ServiceContract
from comemory.live.learning.trainer import Trainer
from comemory.provenance import package_version
from comemory.server.audit import AuditLog
from comemory.server.auth import SESSION_COOKIE, Auth
from comemory.server.broadcaster import Broadcaster
from comemory.server.live_pictures import SnapshotEncoder
from comemory.server.middleware import SecurityMiddleware
from comemory.server.nodes import Node
from comemory.server.openapi import methods_of, openapi_document
from comemory.server.routes import (
    activity,
    alerts,
    cameras,
    events,
    fleet,
    pauses,
    reviews,
    session,
    setup,
    system,
    training,
)
from comemory.server.schemas import API, ErrorResponse
from comemory.server.state import Proxy, ServerState, get_caller
from comemory.store.store import EventStore

STATIC = Path(__file__).parent / "static"
log = logging.getLogger(__name__)

ABOUT = (
    "Cameras scored by comemory: their state, frames and settings, and their events. "
    "A change needs a bearer token, or the cookie of a session with its csrf as X-CSRF-Token, and the role of an operator."
)

CREDENTIALS = (
    Depends(HTTPBearer(scheme_name="token", auto_error=False, description="A token of the API.")),
    Depends(APIKeyCookie(scheme_name="session", name=SESSION_COOKIE, auto_error=False)),
)
"""How callers prove who they are, for the description alone; `state.get_caller` checks it."""


def create_app(
    engine: EngineContract,
    store: EventStore | None,
    auth: Auth,
    *,
    hosts: Iterable[str] | None = None,
    learning: Callable[[], list[Any]] = list,
    proxy: Proxy | None = None,
    audit: AuditLog | None = None,
    service: ServiceContract | None = None,
    trainer: Trainer | None = None,
    nodes: Callable[[], list[Node]] | None = None,
) -> FastAPI:
    """The application of a running engine.

    Args:
        engine: started; the application neither starts nor stops it.
        store: of its events; None where they are not stored in a database.
        auth: authenticates callers.
        hosts: names that it may be requested by; None for any.
        learning: the trainings that run, with the keys of `schemas.TrainingStatus`.
        proxy: the proxies in front of it.
        audit: where changes are recorded.
        service: changes the settings.
        trainer: starts trainings.
        nodes: of a fleet; None on one machine.
    """
    broadcaster, proxy = Broadcaster(engine, store, learning), proxy or Proxy()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broadcaster.start()
        yield
        broadcaster.stop()

    app = FastAPI(
        title="comemory",
        version=package_version("comemory") or "0",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    app.state.comemory = ServerState(
        engine,
        store,
        auth,
        SnapshotEncoder(engine),
        broadcaster,
        proxy,
        audit or AuditLog(None),
        service,
        trainer,
        nodes,
    )
    app.add_middleware(SecurityMiddleware, hosts=hosts, is_https=proxy.is_https)
    _add_handlers(app)
    app.include_router(session.router, prefix=API)
    authenticated = APIRouter(
        dependencies=[*CREDENTIALS, Depends(get_caller)],
        responses={401: {"model": ErrorResponse}, 403: {"model": ErrorResponse}},
    )
    for router in (
        cameras.router,
        activity.router,
        events.router,
        reviews.router,
        events.timeline_router,
        system.router,
        setup.router,
        pauses.router,
        alerts.router,
        training.router,
        fleet.router,
    ):
        authenticated.include_router(router, prefix=API)
    authenticated.include_router(system.metrics_router)
    app.include_router(authenticated)
    app.include_router(system.probes)
    app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    return app


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        """Name what does not fit, without the values: they may be secrets, or numbers that JSON cannot hold."""
        errors = [f"{'.'.join(map(str, one['loc']))}: {plain_reason(one['msg'])}" for one in error.errors()]
        return JSONResponse({"detail": "; ".join(errors)[:2000]}, 422)

    @app.exception_handler(405)
    async def wrong_method(request: Request, error: HTTPException) -> JSONResponse:
        """Name the methods that the path has."""
        methods = methods_of(app.openapi(), request.url.path)
        headers = {"Allow": ", ".join(methods)} if methods else error.headers
        return JSONResponse({"detail": error.detail}, 405, headers)

    @app.exception_handler(ConfigError)
    async def refused(_: Request, error: ConfigError) -> JSONResponse:
        return JSONResponse({"detail": mask_password(str(error))}, 400)

    @app.exception_handler(ComemoryError)
    async def failed(_: Request, error: ComemoryError) -> JSONResponse:
        log.error("%s", mask_password(str(error)))
        return JSONResponse({"detail": mask_password(str(error))}, 503)
