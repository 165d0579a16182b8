"""Checks of every request before it is routed, and headers of every response.

Starlette's TrustedHostMiddleware does not replace the check of the host: it accepts names that are none, such as
`evil@localhost`, and cannot read IPv6 addresses. Its SessionMiddleware keeps the session in the cookie, so a session could
not be ended before its time.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 64 * 1024
MAX_TARGET_BYTES = 4096
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_host(header: str) -> str | None:
    """The name in a Host header, in lower case and without brackets; None where it is malformed.

    >>> parse_host("Localhost:8710"), parse_host("[::1]:8710"), parse_host("evil.example@localhost")
    ('localhost', '::1', None)
    """
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower() if found else None


class BodyTooLarge(Exception):  # noqa: N818
    """A request body exceeded the limit while it was read."""


class SecurityMiddleware:
    """Refuses unknown host names, changes from other sites and large bodies; adds the security headers to every response.

    Args:
        app: the next application.
        hosts: names that the page may be requested by; None for any. On the loopback this stops pages of other sites
            whose name resolves to this machine (DNS rebinding).
        is_https: browsers reach the page by HTTPS, through a proxy.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None = None, *, is_https: bool = False) -> None:
        self.app, self.is_https = app, is_https
        self.hosts = None if hosts is None else {host.strip("[]").lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(scope, MutableHeaders(scope=message), self.is_https)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(sending, *refusal)
            return
        try:
            await self.app(scope, _limited(receive), sending)
        except BodyTooLarge:
            if started:
                raise
            await _refuse(sending, 413, f"the body is larger than {MAX_BODY_BYTES} bytes")

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        given = headers.get("host", "")
        name = parse_host(given)
        if name is None or (self.hosts is not None and name not in self.hosts):
            return 421, "this server does not have that name: use its own, or add the name to web.hosts"
        if len(scope.get("raw_path", b"")) + len(scope.get("query_string", b"")) > MAX_TARGET_BYTES:
            return 414, f"the address is longer than {MAX_TARGET_BYTES} bytes"
        length = headers.get("content-length")
        if length is not None and (not length.isdecimal() or int(length[:20]) > MAX_BODY_BYTES):
            return 413, f"the body is larger than {MAX_BODY_BYTES} bytes"
        if scope["method"] not in SAFE_METHODS and _is_cross_site(headers, given):
            return 403, "another site made this request"
        return None


def _is_cross_site(headers: Headers, host: str) -> bool:
    """Whether the browser says that a page of another site made the request."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True


def _limited(receive: Receive) -> Receive:
    n_bytes = 0

    async def receiving() -> Message:
        nonlocal n_bytes
        message = await receive()
        if message["type"] == "http.request":
            n_bytes += len(message.get("body", b""))
            if n_bytes > MAX_BODY_BYTES:
                raise BodyTooLarge
        return message

    return receiving


def _add_headers(scope: Scope, headers: MutableHeaders, is_https: bool) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if is_https or scope["scheme"] == "https":
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    headers.setdefault("Cache-Control", "no-store" if scope["path"].startswith("/api/") else "no-cache")


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
