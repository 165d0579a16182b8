"""Login and logout."""

from __future__ import annotations

import logging
import math

from fastapi import APIRouter, HTTPException, Request, Response

from comemory.provenance import package_version
from comemory.server.auth import DEVICE_COOKIE, DEVICE_S, SESSION_COOKIE, Caller
from comemory.server.schemas import ErrorResponse, Login, Session
from comemory.server.state import AppState, CurrentUser, ServerState, client_of

router = APIRouter(prefix="/session", tags=["session"])
log = logging.getLogger(__name__)


@router.get("")
def session(request: Request, state: AppState) -> Session:
    """Whether the caller is logged in, its role, and the proof for its changes."""
    return _session(state, state.authenticate(request))


@router.post("", responses={401: {"model": ErrorResponse}, 429: {"model": ErrorResponse}})
def login(given: Login, request: Request, response: Response, state: AppState) -> Session:
    """Start a session with the password of a role. After wrong guesses, a client must wait."""
    client, device = client_of(request), state.auth.known_device(request.cookies.get(DEVICE_COOKIE))
    with state.auth.throttle.attempt(client, device) as wait_s:
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            reason = f"too many wrong passwords, or too many at once: wait {seconds} s"
            raise HTTPException(429, reason, {"Retry-After": str(seconds)})
        cookie = state.auth.login(given.password)
    if cookie is None:
        log.warning("a login from %s failed", client)
        state.audit.write("login failed", "", client)
        raise HTTPException(401, "the password is wrong")
    state.auth.throttle.record_success(client, device)
    caller = state.auth.authenticate(cookie, None)
    if caller is not None:
        state.record(request, caller, "login")
    is_secure = state.proxy.is_https or request.url.scheme == "https"
    _set_cookie(response, SESSION_COOKIE, cookie, round(state.auth.session_s), is_secure)
    if device is None:
        _set_cookie(response, DEVICE_COOKIE, state.auth.new_device(), DEVICE_S, is_secure)
    return _session(state, caller)


@router.delete("", status_code=204, responses={401: {"model": ErrorResponse}, 403: {"model": ErrorResponse}})
def logout(request: Request, response: Response, caller: CurrentUser, state: AppState) -> None:
    """End the session."""
    state.auth.logout(caller)
    state.record(request, caller, "logout")
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")


def _set_cookie(response: Response, name: str, value: str, max_age_s: int, is_secure: bool) -> None:
    response.set_cookie(name, value, max_age=max_age_s, httponly=True, samesite="strict", secure=is_secure)


def _session(state: ServerState, caller: Caller | None) -> Session:
    return Session(
        required=state.auth.is_required,
        authenticated=caller is not None,
        role=None if caller is None else caller.role,
        csrf=None if caller is None else state.auth.csrf_token(caller),
        version=None if caller is None else package_version("comemory"),
    )
