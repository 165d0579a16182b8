"""A proxy in front of an object store that fails requests, or takes its time. The benchmarks use it too."""

from __future__ import annotations

import http.client
import random
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Unreliable(ThreadingHTTPServer):
    """A proxy that answers a share of the requests with an error, or hangs up.

    Attributes:
        n_requests: so far.
        n_writes: of these, objects that were sent.
        n_failed: of these.

    Args:
        target: URL of the store.
        share: of the requests that fail.
        write_s: seconds that each write takes at least.
    """

    daemon_threads = True

    def __init__(self, target: str, share: float = 0.1, write_s: float = 0.0) -> None:
        self.target = urlsplit(target).netloc
        self.share, self.write_s = share, write_s
        self.dice = random.Random(1)
        self.n_requests = self.n_writes = self.n_failed = 0
        super().__init__(("127.0.0.1", 0), _Forward)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that was killed in the middle of a request."""


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Unreliable

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.n_requests += 1
        if self.command == "PUT":
            self.server.n_writes += 1
            time.sleep(self.server.write_s)
        if self.server.dice.random() < self.server.share:
            self.server.n_failed += 1
            if self.server.dice.random() < 0.5:
                self.close_connection = True
                return
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        upstream = http.client.HTTPConnection(self.server.target, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        upstream.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        return
