"""Shared by the benchmarks of the live system: an RTSP server with rendered videos, and a `comemory serve`."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from comemory.bench import measurement_environment
from comemory.errors import RuntimeMissing, SourceError

REPOSITORY = Path(__file__).resolve().parents[1]
RTSP_SERVER = REPOSITORY / "tests" / "live" / "rtsp_server.py"
SYSTEM_PYTHON = "/usr/bin/python3"
"""The Python that has GStreamer's bindings, which are in no package index."""
PACKAGES = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "pydantic", "paho-mqtt")
START_S = 60.0


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@contextmanager
def rtsp_server(videos: Mapping[str, Path]) -> Iterator[Callable[[str], str]]:
    """A real RTSP server that plays each video from its beginning to every client; gives the URL of a video.

    Raises:
        RuntimeMissing: GStreamer's RTSP server is not installed.
    """
    port = free_port()
    command = [SYSTEM_PYTHON, str(RTSP_SERVER), str(port), *(f"{name}={path}" for name, path in videos.items())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        if process.stdout is None or process.stdout.readline().strip() != "listening":
            raise RuntimeMissing("GStreamer's RTSP server does not start: run scripts/services")
        yield lambda name: f"rtsp://127.0.0.1:{port}/{name}"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def mosquitto() -> Iterator[int]:
    """A real MQTT broker on this machine; gives its port.

    Raises:
        RuntimeMissing: mosquitto is not installed, or does not start.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise RuntimeMissing("mosquitto is not installed: run scripts/services")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="comemory-broker-") as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n", encoding="utf-8")
        process = subprocess.Popen(
            [program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )
        try:
            if not _listens(port):
                raise RuntimeMissing(f"{program} does not listen on port {port}")
            yield port
        finally:
            process.terminate()
            process.wait()


def _listens(port: int) -> bool:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.1)
    return False


class Served:
    """A running `comemory serve`.

    Attributes:
        port: of the page, on the loopback.
        pid: of the process.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.pid, self.log = port, process.pid, log
        self._process = process

    def require_alive(self) -> None:
        """Raise SourceError with the end of the log if the process has ended."""
        if self._process.poll() is not None:
            last = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SourceError(f"comemory serve ended by itself with status {self._process.returncode}: {last}")

    def connect(self, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        """A connection to the page."""
        return http.client.HTTPConnection("localhost", self.port, timeout=timeout_s)

    def get(self, path: str) -> bytes:
        """The body of the answer to a GET. Raises SourceError if the status is not 2xx."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise SourceError(f"GET {path} is answered with {answer.status}: {body[:200]!r}")
        return body

    def api(self, path: str) -> Any:
        """The JSON of an address of the API."""
        return json.loads(self.get(f"/api/v1{path}"))


@contextmanager
def served(config: str, folder: Path) -> Iterator[Served]:
    """`comemory serve` in its own process with these settings, stopped by SIGTERM at the end.

    Raises:
        SourceError: it ended by itself, or does not listen in time.
    """
    file, log = folder / "live.toml", folder / "log"
    file.write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "comemory", "serve", "--config", str(file), "--out", str(folder / "live")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", "0"], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    running = Served(0, process, log)
    try:
        running.port = _port_of(running)
        yield running
        running.require_alive()
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port_of(running: Served) -> int:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        running.require_alive()
        found = re.search(r"the page is at http://[^:]+:(\d+)", running.log.read_text(encoding="utf-8"))
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise SourceError(f"comemory serve does not listen after {START_S:g} s")


def live_environment() -> dict[str, Any]:
    """What a result of the live system depends on: machine, versions of its libraries, load over 1, 5 and 15 minutes."""
    found: dict[str, Any] = dict(measurement_environment())
    found["versions"] |= {package: version(package) for package in PACKAGES}
    found["load_average"] = [round(load, 2) for load in os.getloadavg()]
    return found
