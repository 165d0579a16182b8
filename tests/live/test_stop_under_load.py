"""SIGTERM on a busy machine with clients that read streams: the open event is closed in the store."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from live.conftest import until

pytest.importorskip("uvicorn", reason="needs comemory[web]")

PATIENT = (
    "import sys; from comemory.live import service; from comemory.cli import main;"
    "service.STOP_S, service.ENGINE_S, service.HARD_END_S = 45.0, 27.0, 90.0; main(sys.argv[1:])"
)
"""The command with ten times its shutdown budget: what is tested is that it ends, not how fast this machine is."""


@contextmanager
def busy_cores() -> Iterator[None]:
    """A busy loop for each core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def listen(port: int, path: str, stack: ExitStack) -> http.client.HTTPResponse:
    """An endless response whose first bytes have arrived."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    stack.callback(connection.close)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read(20)
    return answer


def open_event(port: int) -> Any:
    """The id of the event under way, None without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/v1/cameras/gate")
    event = json.loads(connection.getresponse().read())["open_event"]
    connection.close()
    return event


@pytest.mark.slow
def test_sigterm_closes_the_open_event(quick_bundle: Path, clips: list[Path], tmp_path: Path) -> None:
    from comemory.store.store import EventStore

    out = tmp_path / "live"
    command = [sys.executable, "-c", PATIENT, "serve", "--camera", f"gate={clips[0]}", "--model", str(quick_bundle)]
    options = ["--set", "cameras.gate.loop=true", "--false-alarms", "30/min", "--port", "0", "--out", str(out)]
    with ExitStack() as stack:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        stack.enter_context(process.stdout)
        port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        for _ in range(3):
            listen(port, "/api/v1/stream", stack)
            listen(port, "/api/v1/cameras/gate/video", stack)
        stack.enter_context(busy_cores())
        time.sleep(1.0)
        known: list[str] = []

        def is_open() -> bool:
            if (event := open_event(port)) is not None:
                known.append(event)
            return bool(known)

        until(is_open)
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    assert process.returncode == 0
    assert not (out / "hung.txt").exists()
    written = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    begun = {line["event"]["id"] for line in written if line["change"] == "new"}
    over = {line["event"]["id"] for line in written if line["change"] == "end"}
    assert begun == over
    with EventStore.open(f"sqlite:///{out.absolute() / 'events.db'}", out / "media", shared=True) as store:
        for event_id in begun:
            stored = store.get(event_id)
            assert stored is not None
            assert stored.end is not None


def test_stop_that_hangs_is_killed_and_leaves_a_report(quick_bundle: Path, clips: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys, threading; from comemory.live import service; from comemory.cli import main;"
        "service.Service.stop_engine = lambda self: threading.Event().wait(); main(sys.argv[1:])"
    )
    out = tmp_path / "live"
    command = [sys.executable, "-c", code, "watch", "--camera", f"gate={clips[0]}", "--model", str(quick_bundle)]
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--set", "cameras.gate.loop=true", "--out", str(out), "--false-alarms", "60/h"], stderr=errors
        )
    try:
        until(lambda: (out / "events.jsonl").exists())
        with closing(sqlite3.connect(out / "events.db", timeout=60, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")  # the changes from now on wait
            n_bytes = (out / "events.jsonl").stat().st_size
            until(lambda: (out / "events.jsonl").stat().st_size > n_bytes)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 1
    finally:
        process.kill()
    said = [line for line in log.read_text().splitlines() if "the service does not end" in line]
    assert len(said) == 1
    assert re.search(r"[1-9]\d* changes wait in \S+ and are stored at the next start", said[0])
    assert "live_options.py" in (out / "hung.txt").read_text()
