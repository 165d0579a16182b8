"""Malformed requests against the API of `comemory serve`: none may be answered with a 5xx, and the server must live.

    python benchmarks/fuzz_api.py --requests 10000 --json fuzz.json

Every operation of the server's own OpenAPI is asked with wrong, huge, empty and hostile values in its path, query,
headers and body; some requests are not HTTP at all. The same seed gives the same requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

ENDLESS = ("/stream", "/video")
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW")
TEXTS = (
    "", " ", "0", "-1", "1e400", "NaN", "null", "true", "[]", "{}", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00",
    "\x00", "a\r\nX-Evil: 1", "'; DROP TABLE events;--", "<script>", "${jndi:ldap://x}", "ä" * 50, "\U0001f600", "x" * 3000,
    "9" * 400, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-45", "1/day", "1/0", "1e-300/h", "gate",
    "normal", "\ud800", "%", "%zz", "bytes=0-", "bytes=9999999999-", "bytes=-0,5-2,x", "W/\"", "*", "Bearer ", "Basic Og==",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 2**70, "", "x" * 1000, [], {}, [[]], [[0, 0], [1, 1]], [[[0, 0], [1, 0], [1, 1]]], "1/day",
    [[["a", "b"]]], [[[2, 2], [0, 0], [1, 1]]], {"a": {"b": {}}}, "normal", "1/week", "\x00", [[[0, 0]] * 100] * 40,
)  # fmt: skip
RAW = (
    b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00\xff" * 200, b"GET /%%% HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/v1/cameras HTTP/1.1\r\n\r\n", b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 2000 + b"\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request; `raw` is sent as it stands."""

    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    raw: bytes | None = None


class Requests:
    """Endless malformed requests to the operations of an OpenAPI document.

    Args:
        known: values that exist, such as names of cameras, so that requests get past the first check.
        proof: headers that let changes through.
    """

    def __init__(self, document: dict[str, Any], seed: int, known: tuple[str, ...], proof: dict[str, str]) -> None:
        self._random = random.Random(seed)
        self._known, self._proof = known, proof
        self._operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def next(self) -> Request:
        """The next request."""
        pick = self._random
        if pick.random() < 0.03:
            return Request(raw=pick.choice(RAW))
        method, path, operation = pick.choice(self._operations)
        if pick.random() < 0.1:
            method = pick.choice(METHODS)
        for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
            path = path.replace(f"{{{name}}}", self._in_path(name))
        query = [
            f"{parameter['name']}={quote(self._text(), errors='replace', safe='%')}"
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query" and pick.random() < 0.4
        ]
        headers = dict(self._proof) if pick.random() < 0.85 else {}
        if pick.random() < 0.2:
            name = pick.choice(
                ("Range", "If-None-Match", "Authorization", "Cookie", "Accept", "Origin", "X-CSRF-Token")
            )
            headers[name] = (
                self._text().encode("latin-1", "ignore").decode("latin-1").replace("\r", "").replace("\n", "")
            )
        body = self._body(operation) if "requestBody" in operation or pick.random() < 0.05 else None
        if body is not None:
            headers["Content-Type"] = pick.choice(("application/json", "application/json", "text/plain", "", "a/b;;="))
        target = path + ("?" + "&".join(query) if query else "")
        return Request(method, target, headers, body)

    def _text(self) -> str:
        pick = self._random
        return pick.choice((pick.choice(TEXTS), pick.choice(self._known), str(pick.randrange(-10, 10**6))))

    def _in_path(self, name: str) -> str:
        pick = self._random
        if pick.random() < 0.5:
            return pick.choice(("thumbnail", "heat", "clip")) if name == "kind" else pick.choice(self._known)
        return quote(self._text(), errors="replace", safe="%" if pick.random() < 0.3 else "")

    def _body(self, operation: dict[str, Any]) -> bytes:
        pick = self._random
        if pick.random() < 0.15:
            return pick.choice((b"", b"{", b"[" * 20_000, b"\xff\xfe", b"null", b"NaN", b"x" * 70_000, b'{"a":1e999}'))
        keys = ("password", "false_alarms", "zones", "verdict", "extra", "")
        made = {pick.choice(keys): pick.choice(VALUES) for _ in range(pick.randrange(0, 3))}
        for key in ("false_alarms", "zones", "verdict"):
            if key in json.dumps(operation) or pick.random() < 0.3:
                made[key] = pick.choice(VALUES)
        return json.dumps(made).encode()


@dataclass
class Outcome:
    """What a run came to."""

    n_requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    n_refused_connections: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def send(address: tuple[str, int], request: Request, timeout_s: float = 60.0) -> int | None:
    """Send a request; the status, None where the server ends the connection without one."""
    if request.raw is not None:
        with socket.create_connection(address, timeout_s) as connection, suppress(OSError):
            connection.sendall(request.raw)
            connection.shutdown(socket.SHUT_WR)
            head = connection.recv(64).split(b" ")
            return int(head[1]) if len(head) > 1 and head[1].isdigit() else None
        return None
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        connection.putrequest(request.method, request.target, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value.encode("latin-1"))
        if request.body is not None:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        if not urlsplit(request.target).path.endswith(ENDLESS):
            answer.read()
        return answer.status
    except (ValueError, http.client.HTTPException, BrokenPipeError, ConnectionResetError):
        return None
    finally:
        connection.close()


def fuzz(address: tuple[str, int], n_requests: int, seed: int = 0) -> Outcome:
    """Ask a running server, and count its answers."""
    host = {"Host": f"localhost:{address[1]}"}

    def get(path: str) -> Any:
        connection = http.client.HTTPConnection(*address, timeout=30)
        try:
            connection.request("GET", path, headers=host)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    document, session = get("/api/v1/openapi.json"), get("/api/v1/session")
    cameras = [camera["name"] for camera in get("/api/v1/cameras")]
    events = [event["id"] for event in get("/api/v1/events?limit=20")["events"]]
    requests = Requests(document, seed, (*cameras, *events), {"X-CSRF-Token": session["csrf"] or ""})
    outcome, started = Outcome(), time.monotonic()
    for _ in range(n_requests):
        request = requests.next()
        outcome.n_requests += 1
        try:
            status = send(address, request)
        except TimeoutError:
            outcome.failures.append(f"no answer: {request.method} {request.target[:200]} {(request.raw or b'')[:80]!r}")
            continue
        if status is None:
            outcome.n_refused_connections += 1
            continue
        outcome.statuses[status] += 1
        if status >= 500:
            outcome.failures.append(f"{status} {request.method} {request.target[:200]} {(request.body or b'')[:200]!r}")
    outcome.seconds = time.monotonic() - started
    if get("/healthz") != {"status": "ok"}:
        outcome.failures.append("the server does not answer any more")
    return outcome


def main() -> int:
    """Fuzz a server, one of its own unless `--url` names another; exit code 1 when something failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--url", help="a running server without a password, such as http://localhost:8710")
    options.add_argument("--json", type=Path, help="write the figures here")
    given = options.parse_args()
    if given.url:
        parts = urlsplit(given.url)
        outcome = fuzz((parts.hostname or "localhost", parts.port or 80), given.requests, given.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcome = _fuzz_own(Path(folder), given.requests, given.seed)
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python benchmarks/fuzz_api.py --requests {given.requests} --seed {given.seed}",
        "requests": outcome.n_requests,
        "answers": {str(status): count for status, count in sorted(outcome.statuses.items())},
        "connections_ended_without_an_answer": outcome.n_refused_connections,
        "answers_5xx": sum(count for status, count in outcome.statuses.items() if status >= 500),
        "seconds": round(outcome.seconds, 1),
    }
    print(json.dumps(figures, indent=1))
    for failure in outcome.failures[:20]:
        print(failure, file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 1 if outcome.failures else 0


def _fuzz_own(folder: Path, n_requests: int, seed: int) -> Outcome:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "web"))
    from serving import served

    with served(folder) as running:
        return fuzz(("127.0.0.1", running.port), n_requests, seed)


if __name__ == "__main__":
    sys.exit(main())
