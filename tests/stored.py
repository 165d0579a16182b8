"""Events to store, places to store them in, and servers to send alerts to."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from comemory.store.store import EventStore, StoredEvent, new_id

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **time_passed: float) -> datetime:
        self.now += timedelta(**time_passed)
        return self.now


def make_event(start: datetime = NOON, **changes: Any) -> StoredEvent:
    """An open event of the camera `gate`."""
    values: dict[str, Any] = {
        "id": new_id(start),
        "camera": "gate",
        "start": start,
        "peak": start + timedelta(seconds=1),
        "end": None,
        "peak_score": 4.5,
        "appearance": 1.25,
        "motion": 3.0,
        "box": (10, 20, 50, 80),
        "size": (240, 360),
        "model": "0123456789abcdef",
        "threshold": 2.0,
        "cells": (0.5, 0.25),
    }
    return StoredEvent(**{**values, **changes})


def picture(store: EventStore, n_bytes: int = 100, suffix: str = ".jpg") -> Path:
    """A file to attach."""
    path = store.scratch / f"{new_id()}{suffix}"
    path.write_bytes(b"x" * n_bytes)
    return path


def wait_until(done: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds, or fail."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Received:
    """What an HTTP server was sent, and what it answers: statuses in turn, the last one for ever."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.statuses = [204]
        self.location: str | None = None
        self.delay_s = 0.0
        self.port = 0

    @property
    def payloads(self) -> list[Any]:
        return [json.loads(body) for _, body in self.requests]


@contextmanager
def http_server() -> Iterator[Received]:
    """A real HTTP server on the loopback."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((dict(self.headers.items()), body))
            received.paths.append(self.path)
            time.sleep(received.delay_s)
            status = received.statuses.pop(0) if len(received.statuses) > 1 else received.statuses[0]
            self.send_response(status)
            if received.location:
                self.send_header("Location", received.location)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is no matter."""

    server = Server(("127.0.0.1", 0), Handler)
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
