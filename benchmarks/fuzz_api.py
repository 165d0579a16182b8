"""Malformed requests against the API of `comemory serve`: none may be answered with a 5xx, and the server must live.

    python benchmarks/fuzz_api.py --requests 10000 --json fuzz.json

Half of the requests come from Schemathesis, which derives them from the server's own OpenAPI document: boundary values,
random values and sequences of calls. It checks every answer against the document: status, content, schema and headers, and
that invalid requests and callers without a token are refused. The other half are requests that no client library would
send: valid requests with damaged bytes, and some that are not HTTP at all. The same seed gives the same damage.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import secrets
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from live_system import live_environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "server"))
from described import run_schemathesis
from serving import served

PER_EXAMPLE = 27
"""Requests that Schemathesis makes, over all operations, for each random request of one operation."""
SNIPPETS = (
    b"\x00", b"\xff\xfe", b"\r\n", b"\r\n\r\n", b"\n", b" ", b"%00", b"%", b"%zz", b"..%2f..%2fetc%2fpasswd", b"/../" * 50,
    b"Host: evil.example\r\n", b"Content-Length: -5\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n", b"Range: bytes=-0,5-2,x\r\n", b"Cookie: comemory_session=\xff\r\n", b"Upgrade: h2c\r\n",
    b"X: y\r\n" * 2000, b"a" * 100_000, b"[" * 20_000, b"9" * 400, b"NaN", b"1e999", b'{"a":' * 500, b"\xf0\x9f\x98\x80",
    b"${jndi:ldap://x}", b"'; DROP TABLE events;--", b"HTTP/9.9", b"\\", b"#", b"?", b"&" * 3000,
)  # fmt: skip
NOT_HTTP = (
    b"",
    b"\r\n\r\n",
    b"\x00\xff" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
)
BODIES = {
    "zones": b'{"zones": [[[0.1, 0.1], [0.5, 0.1], [0.3, 0.6]]]}',
    "sensitivity": b'{"false_alarms": "1/day"}',
    "verdict": b'{"verdict": "normal"}',
    "session": b'{"password": "correct horse"}',
}


def good_requests(document: Mapping[str, Any], known: Mapping[str, str], token: str) -> list[bytes]:
    """One valid request of each operation.

    Args:
        known: values of the variables in paths.
    """
    made = []
    for path, methods in document["paths"].items():
        for method in methods:
            body = BODIES.get(path.rpartition("/")[2], b"") if method in ("put", "post") else b""
            head = f"{method.upper()} {path.format(**known)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            made.append(head.encode() + body)
    return made


def damage(request: bytes, chance: random.Random) -> bytes:
    """Damage a request in one to four places: bytes are changed, removed, repeated or inserted.

    >>> damage(b"GET / HTTP/1.1", random.Random(1)) == damage(b"GET / HTTP/1.1", random.Random(1))
    True
    """
    if chance.random() < 0.02:
        return chance.choice(NOT_HTTP)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(request) + 1)
        end = min(len(request), start + chance.choice((1, 1, 2, 8, 64)))
        middle = request[start:end]
        put = chance.choice(
            (b"", middle * 2, bytes([chance.randrange(256)]), chance.randbytes(8), middle + chance.choice(SNIPPETS))
        )
        request = request[:start] + put + request[end:]
    return request[: chance.randrange(len(request) + 1)] if chance.random() < 0.1 else request


@dataclass
class Outcome:
    """What the damaged requests led to."""

    n_requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    n_ended_without_an_answer: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def send(address: tuple[str, int], request: bytes, timeout_s: float = 60.0) -> int | None:
    """Send bytes and no more; the status, None where the server ends the connection without one."""
    with socket.create_connection(address, timeout_s) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        head = b""
        with suppress(ConnectionResetError):
            while len(head) < 12 and (more := connection.recv(12 - len(head))):
                head += more
    parts = head.split(b" ")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


def fuzz(port: int, token: str, n_requests: int, seed: int = 0) -> Outcome:
    """Send damaged requests to a running server of this machine, and count its answers."""

    def get(path: str) -> Any:
        with open_connection(port) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            return json.loads(connection.getresponse().read())

    document, cameras = get("/api/v1/openapi.json"), get("/api/v1/cameras")
    events = get("/api/v1/events?limit=1")["events"]
    known = {
        "name": cameras[0]["name"] if cameras else "gate",
        "id": events[0]["id"] if events else "0",
        "kind": "thumbnail",
    }
    good, chance = good_requests(document, known, token), random.Random(seed)
    outcome, started = Outcome(n_requests), time.monotonic()
    for _ in range(n_requests):
        request = damage(chance.choice(good), chance)
        try:
            status = send(("127.0.0.1", port), request)
        except TimeoutError:
            outcome.failures.append(f"no answer: {request[:300]!r}")
            continue
        if status is None:
            outcome.n_ended_without_an_answer += 1
            continue
        outcome.statuses[status] += 1
        if status >= 500:
            outcome.failures.append(f"{status}: {request[:300]!r}")
    outcome.seconds = time.monotonic() - started
    if get("/healthz") != {"status": "ok"}:
        outcome.failures.append("the server does not answer any more")
    return outcome


@contextmanager
def open_connection(port: int) -> Any:
    """A connection, closed at the end."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def measure(port: int, token: str, n_requests: int, seed: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Send both halves; gives the results, and one line for each failure."""
    described = run_schemathesis(
        f"http://localhost:{port}", token, folder, max(1, n_requests // 2 // PER_EXAMPLE), seed
    )
    outcome = fuzz(port, token, max(0, n_requests - described.n_cases), seed)
    results = {
        "requests": described.n_cases + outcome.n_requests,
        "described": {
            "requests": described.n_cases,
            "seconds": round(described.seconds, 1),
            "all_as_described": not described.failures,
        },
        "damaged": {
            "requests": outcome.n_requests,
            "answers": {str(status): count for status, count in sorted(outcome.statuses.items())},
            "ended_without_an_answer": outcome.n_ended_without_an_answer,
            "answers_5xx": sum(count for status, count in outcome.statuses.items() if status >= 500),
            "seconds": round(outcome.seconds, 1),
        },
    }
    return results, [*([described.failures] if described.failures else []), *outcome.failures[:20]]


def main() -> int:
    """Fuzz a server, one of its own unless `--url` names another; exit code 1 when something failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--url", help="a running server of this machine, such as http://localhost:8710")
    options.add_argument("--token", default=secrets.token_urlsafe(32), help="of its API, where --url is args")
    options.add_argument("--json", type=Path, help="also write the results there")
    args = options.parse_args()
    found = live_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.url:
            results, failures = measure(urlsplit(args.url).port or 80, args.token, args.requests, args.seed, folder)
        else:
            settings = ("--set", "web.token=env:API_TOKEN")
            with served(folder, *settings, environment={"API_TOKEN": args.token}) as running:
                results, failures = measure(running.port, args.token, args.requests, args.seed, folder)
    text = json.dumps({"seed": args.seed, **results, "environment": found}, indent=1)
    print(text)
    for failure in failures:
        print(failure, file=sys.stderr)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
