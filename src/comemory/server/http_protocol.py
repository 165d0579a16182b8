"""One HTTP connection: how long a request may take to arrive, and how many connections one client may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import h11
from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from comemory.server.login_throttle import client_network

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PROBES = ("/healthz", "/readyz")
_PEER = "comemory.peer"


def peer_of(scope: Mapping[str, Any]) -> str:
    """The address at the other end of the connection, whatever a proxy says about its client."""
    return str(scope.get(_PEER, ""))


class TimedProtocol(H11Protocol):
    """HTTP/1.1 with limits on time and number.

    A request must arrive as a whole within `request_timeout_s` of the connection, or of its own first byte. Above
    `max_connections`, or `max_per_client` of one client, the connection that has waited longest without a request is
    closed. Where all have one, new requests are refused with 503, except probes.

    Attributes:
        exempt: addresses of trusted proxies: many clients share each, so it has no limit of its own.
    """

    exempt: frozenset[str] = frozenset()

    request_timeout_s = 10.0
    max_connections = 512
    max_per_client = 128

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._application, self.app = self.app, self._admit
        self._deadline: asyncio.TimerHandle | None = None
        self._made, self._client_network = 0.0, ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close another connection where there are too many, and wait for the request."""
        super().connection_made(transport)
        self._made, self._client_network = (
            self.loop.time(),
            client_network(self.client[0]) if self.client else "",
        )
        self._await_request()
        for connections, limit in ((self._neighbours(), self.max_per_client), (self._all(), self.max_connections)):
            if len(connections) > limit:
                waiting = [one for one in connections if one is not self and one._is_waiting()]
                if waiting:
                    min(waiting, key=lambda one: (one.cycle is not None, one._made))._drop()

    def data_received(self, data: bytes) -> None:
        """Process the bytes; the deadline stays until the request is complete."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._await_request()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline too."""
        self._stop_waiting()
        super().connection_lost(exc)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PEER] = self.client[0] if self.client else ""
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            # A proxy may take the other header for the end of the request, and this server what follows for a second one.
            reason = "a request has Content-Length or Transfer-Encoding, not both"
            await JSONResponse({"detail": reason}, 400, {"Connection": "close"})(scope, receive, send)
            return
        full = len(self.connections) > self.max_connections or len(self._neighbours()) > self.max_per_client
        if full and scope["path"] not in PROBES:
            answer = JSONResponse({"detail": "too many connections: try later"}, 503, {"Connection": "close"})
            await answer(scope, receive, send)
            return
        await self._application(scope, receive, send)

    def _all(self) -> list[TimedProtocol]:
        return [one for one in self.connections if isinstance(one, TimedProtocol)]

    def _neighbours(self) -> list[TimedProtocol]:
        return [one for one in self._all() if one._client_network == self._client_network] if self._is_limited() else []

    def _is_limited(self) -> bool:
        return self.client is not None and self.client[0] not in self.exempt

    def _is_waiting(self) -> bool:
        return self._deadline is not None or self.timeout_keep_alive_task is not None

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_timeout_s, self._drop)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop(self) -> None:
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()
