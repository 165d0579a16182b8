"""Logging in and out."""

from __future__ import annotations

import logging
import math

from fastapi import APIRouter, HTTPException, Request, Response

from comemory.provenance import package_version
from comemory.server.auth import SESSION_COOKIE, Caller
from comemory.server.schemas import Login, Problem, Session
from comemory.server.state import AppState, CurrentUser, ServerState

router = APIRouter(prefix="/session", tags=["session"])
log = logging.getLogger(__name__)


@router.get("")
def session(request: Request, state: AppState) -> Session:
    """Whether the caller is let in, and the proof for its changes."""
    caller = state.auth.authenticate(request.cookies.get(SESSION_COOKIE), request.headers.get("authorization"))
    return _session(state, caller)


@router.post("", responses={401: {"model": Problem}, 429: {"model": Problem}})
def login(given: Login, request: Request, response: Response, state: AppState) -> Session:
    """Begin a session with the password. Wrong guesses are made to wait."""
    place = request.client.host if request.client else "unknown"
    with state.auth.throttle.attempt(place) as wait_s:
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            reason = f"too many wrong passwords, or too many at once: wait {seconds} s"
            raise HTTPException(429, reason, {"Retry-After": str(seconds)})
        cookie = state.auth.login(given.password)
    if cookie is None:
        log.warning("a login from %s failed", place)
        raise HTTPException(401, "the password is wrong")
    state.auth.throttle.record_success(place)
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=round(state.auth.session_s),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return _session(state, state.auth.authenticate(cookie, None))


@router.delete("", status_code=204, responses={401: {"model": Problem}, 403: {"model": Problem}})
def logout(response: Response, caller: CurrentUser, state: AppState) -> None:
    """End the session."""
    state.auth.logout(caller)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")


def _session(state: ServerState, caller: Caller | None) -> Session:
    return Session(
        required=state.auth.is_required,
        authenticated=caller is not None,
        csrf=None if caller is None else state.auth.csrf_token(caller),
        version=None if caller is None else package_version("comemory"),
    )
