"""The application: the API, the probes and the page, behind the guard."""

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

from comemory.errors import ComemoryError, ConfigError, mask_password
from comemory.live.engine import Engine
from comemory.provenance import package_version
from comemory.server.auth import SESSION_COOKIE, Auth
from comemory.server.broadcaster import Broadcaster
from comemory.server.live_pictures import SnapshotEncoder
from comemory.server.middleware import SecurityMiddleware
from comemory.server.openapi import methods_of, openapi_document
from comemory.server.routes import cameras, events, session, system
from comemory.server.schemas import API, Problem
from comemory.server.state import ServerState, get_caller
from comemory.store.store import EventStore

STATIC = Path(__file__).parent / "static"
log = logging.getLogger(__name__)

ABOUT = (
    "Cameras watched by comemory: their state, pictures and settings, and the events they saw. "
    "Changes need a bearer token, or the session's cookie with its csrf as X-CSRF-Token."
)

PROOFS = (
    Depends(HTTPBearer(scheme_name="token", auto_error=False, description="A token of the API.")),
    Depends(APIKeyCookie(scheme_name="session", name=SESSION_COOKIE, auto_error=False)),
)
"""How callers prove who they are, for the description alone; `state.caller_of` is who looks at it."""


def create_app(
    engine: Engine,
    store: EventStore | None,
    access: Auth,
    *,
    hosts: Iterable[str] | None = None,
    learning: Callable[[], list[Any]] = list,
) -> FastAPI:
    """The application of a running engine.

    Args:
        engine: started; the application neither starts nor stops it.
        store: where its events are kept; None where they are not.
        access: who may come in.
        hosts: names that it may be called by; None for any.
        learning: what is known of trainings that go on, with the keys of `schemas.Learning`.
    """
    messages = Broadcaster(engine, store, learning)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        messages.start()
        yield
        messages.stop()

    app = FastAPI(
        title="comemory",
        version=package_version("comemory") or "0",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        lifespan=living,
        redirect_slashes=False,
    )
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    app.state.comemory = ServerState(engine, store, access, SnapshotEncoder(engine), messages)
    app.add_middleware(SecurityMiddleware, hosts=hosts)
    _add_handlers(app)
    app.include_router(session.router, prefix=API)
    known = APIRouter(
        dependencies=[*PROOFS, Depends(get_caller)], responses={401: {"model": Problem}, 403: {"model": Problem}}
    )
    for router in (cameras.router, events.router, events.timeline_router, system.router):
        known.include_router(router, prefix=API)
    known.include_router(system.metrics_router)
    app.include_router(known)
    app.include_router(system.probes)
    app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    return app


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        """What does not fit, without the values sent: they may be secrets, or numbers that JSON cannot say."""
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"detail": "; ".join(problems)[:2000]}, 422)

    @app.exception_handler(405)
    async def not_so(request: Request, error: HTTPException) -> JSONResponse:
        """An address that knows other methods: it names all of them."""
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
