"""One connection to the page: how long it may take to ask, and how many of them one place may hold."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import h11
from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from comemory.server.login_throttle import client_network

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PROBES = ("/healthz", "/readyz")


class TimedProtocol(H11Protocol):
    """HTTP with an end to patience.

    A request must be there as a whole `request_s` after the connection was made, or after its own first byte. Where there
    are more than `n_most` connections, or `n_place` of one place, the one that has waited longest without a request to
    answer makes room; where all have one, the newcomer is told to come later, unless it is a probe.
    """

    request_timeout_s = 10.0
    max_connections = 512
    max_per_client = 128

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._served, self.app = self.app, self._admit
        self._deadline: asyncio.TimerHandle | None = None
        self._made, self._place = 0.0, ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for it, and begin to wait for its request."""
        super().connection_made(transport)
        self._made, self._place = self.loop.time(), client_network(self.client[0]) if self.client else ""
        self._await_request()
        for beside, most in ((self._neighbours(), self.max_per_client), (self._all(), self.max_connections)):
            if len(beside) > most:
                waiting = [one for one in beside if one is not self and one._is_waiting()]
                if waiting:
                    min(waiting, key=lambda one: (one.cycle is not None, one._made))._drop()

    def data_received(self, data: bytes) -> None:
        """Take what came; the deadline stands until a request is whole."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._await_request()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline too."""
        self._stop_waiting()
        super().connection_lost(exc)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        full = len(self.connections) > self.max_connections or len(self._neighbours()) > self.max_per_client
        if full and scope["path"] not in PROBES:
            answer = JSONResponse({"detail": "too many connections: try later"}, 503, {"Connection": "close"})
            await answer(scope, receive, send)
            return
        await self._served(scope, receive, send)

    def _all(self) -> list[TimedProtocol]:
        return [one for one in self.connections if isinstance(one, TimedProtocol)]

    def _neighbours(self) -> list[TimedProtocol]:
        return [one for one in self._all() if one._place == self._place]

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
