"""Alerts while the store is away: they go out, the events wait in the write-ahead file, and nothing is sent again afterwards."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stored import Received, http_server, make_event, wait_until

from comemory.alerts import dispatcher as dispatching
from comemory.alerts.config import SinkSettings
from comemory.alerts.dispatcher import Dispatcher
from comemory.alerts.sink import open_sink
from comemory.live.recording.event_writer import EventWriter
from comemory.store.routing import ChangeStamp
from comemory.store.store import EventStore, StoredEvent
from comemory.store.write_ahead import WriteAheadEntry, WriteAheadLog


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SinkSettings, "retry_s", 0.02)
    monkeypatch.setattr(SinkSettings, "retry_max_s", 0.1)


@pytest.fixture
def server() -> Iterator[Received]:
    with http_server() as received:
        yield received


class Live:
    """The parts of a live system between an event and its alert."""

    def __init__(self, url: str, folder: Path, port: int, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = EventStore.open(url, folder / "media", may_be_away=True)
        hook = {"kind": "webhook", "url": f"http://127.0.0.1:{port}/", "allow_private": True, "state_delay_s": 0}
        self.dispatcher = Dispatcher(self.store, [open_sink("hook", {**hook, **settings})], ["gate"])
        self.dispatcher.start()
        self.errors: list[str] = []
        self.writer = EventWriter(folder, self.store, self.errors.append, self.dispatcher)
        self.writer.start()

    def start_and_end(self) -> StoredEvent:
        event = make_event(datetime.now(UTC).replace(microsecond=0))
        self.writer.write_event("new", event)
        ended = replace(event, end=event.start + timedelta(seconds=2))
        self.writer.write_event("end", ended)
        return ended

    def stop(self) -> bool:
        is_done = self.writer.stop(5)
        self.dispatcher.stop(1)
        self.store.close()
        return is_done


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that holds the lock of a SQLite file."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def kinds_of(server: Received, event: StoredEvent) -> list[str]:
    return [payload["kind"] for payload in server.payloads if (payload["after"] or {}).get("id") == event.id]


def test_alerts_go_out_while_sqlite_is_locked_and_are_not_repeated(tmp_path: Path, server: Received) -> None:
    live = Live(str(tmp_path / "events.db"), tmp_path, server.port)
    with locked(tmp_path / "events.db"):
        event = live.start_and_end()
        wait_until(lambda: kinds_of(server, event) == ["new", "end"])
        assert live.store.get(event.id) is None, "the database is locked"
    wait_until(lambda: live.writer.n_unstored == 0)
    assert live.store.get(event.id) == event
    wait_until(lambda: live.dispatcher.health()["hook"].pending == 0)
    assert live.dispatcher.health()["hook"].delivered == 2
    assert kinds_of(server, event) == ["new", "end"]
    live.stop()


def test_a_stop_during_an_outage_loses_nothing(tmp_path: Path, server: Received) -> None:
    live = Live(str(tmp_path / "events.db"), tmp_path, server.port)
    server.statuses = [500]
    with locked(tmp_path / "events.db"):
        event = live.start_and_end()
        left_open = make_event(datetime.now(UTC), camera="yard")
        live.writer.write_event("new", left_open)
        assert not live.writer.stop(0.2)
        assert live.writer.n_unstored == 3
        live.dispatcher.stop(0.5)
        shutil.copytree(tmp_path, tmp_path.with_name("after"), ignore=shutil.ignore_patterns("*.lock"))
    live.stop()
    server.statuses = [204]
    server.requests.clear()
    folder = tmp_path.with_name("after")
    again = Live(str(folder / "events.db"), folder, server.port)
    wait_until(lambda: again.writer.n_unstored == 0 and kinds_of(server, left_open) == ["new", "end"])
    assert kinds_of(server, event) == ["new", "end"]
    assert again.store.get(event.id) == event
    found = again.store.get(left_open.id)
    assert found is not None
    assert found.end is not None
    again.stop()


def test_alerts_go_out_while_the_disk_is_full(tmp_path: Path, server: Received) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        live = Live(str(disk / "events.db"), disk, server.port)
        live.start_and_end()
        wait_until(lambda: live.writer.n_unstored == 0)
        fill(disk / "filler")
        events = [live.start_and_end() for _ in range(20)]
        wait_until(lambda: all(kinds_of(server, event) == ["new", "end"] for event in events))
        assert live.store.write_ahead is not None
        assert live.store.write_ahead.error is None, "its space is reserved"
        wait_until(lambda: any(payload["kind"] == "system" for payload in server.payloads))
        (disk / "filler").unlink()
        wait_until(lambda: live.writer.n_unstored == 0)
        assert [live.store.get(event.id) for event in events] == events
        system = [payload["after"] for payload in server.payloads if payload["kind"] == "system"]
        assert system[0]["state"] == "error"
        assert "No space left" in system[0]["message"] or "disk is full" in system[0]["message"]
        live.start_and_end()
        wait_until(lambda: any((payload["after"] or {}).get("state") == "ok" for payload in server.payloads))
        live.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_service_starts_and_alerts_while_postgresql_is_away(
    tmp_path: Path, postgres: Callable[[], str], server: Received
) -> None:
    url = postgres()
    folder = Path(url.partition("?host=")[2])
    (socket_file,) = folder.glob(".s.PGSQL.*[0-9]")
    hidden = socket_file.with_name("hidden")
    socket_file.rename(hidden)
    try:
        live = Live(url, tmp_path, server.port)
        event = live.start_and_end()
        wait_until(lambda: kinds_of(server, event) == ["new", "end"])
        assert live.store.error is not None
        assert "hunter" not in live.store.error
        assert live.writer.n_unstored == 2
    finally:
        hidden.rename(socket_file)
    wait_until(lambda: live.writer.n_unstored == 0)
    assert live.store.get(event.id) == event
    assert live.store.error is None
    wait_until(lambda: live.dispatcher.health()["hook"].pending == 0)
    assert kinds_of(server, event) == ["new", "end"]
    live.stop()


def test_a_dead_sink_is_reported_to_the_others(
    tmp_path: Path, server: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "DEAD_SINK_S", 0.1)
    monkeypatch.setattr(dispatching, "RESTART_S", 0.1)
    with EventStore.open(str(tmp_path / "events.db"), tmp_path / "media") as store:
        hook = {"kind": "webhook", "allow_private": True, "timeout_s": 1, "state_delay_s": 0}
        sinks = [
            open_sink("alive", {**hook, "url": f"http://127.0.0.1:{server.port}/"}),
            open_sink("dead", {**hook, "url": "http://127.0.0.1:1/"}),
        ]
        dispatcher = Dispatcher(store, sinks, ["gate"])
        dispatcher.start()
        store.begin(make_event())
        wait_until(lambda: any(payload["kind"] == "system" for payload in server.payloads))
        (system,) = (payload["after"] for payload in server.payloads if payload["kind"] == "system")
        assert (system["part"], system["state"]) == ("alerts.dead", "error")
        assert "refused" in system["message"]
        dispatcher.stop()


def test_a_heartbeat_is_sent_and_never_repeated(tmp_path: Path, server: Received) -> None:
    live = Live(str(tmp_path / "events.db"), tmp_path, server.port, heartbeat_min=0.002)
    wait_until(lambda: sum(payload["kind"] == "heartbeat" for payload in server.payloads) >= 3)
    beats = [payload for payload in server.payloads if payload["kind"] == "heartbeat"]
    assert beats[0]["after"]["state"] == "ok"
    assert len({payload["id"] for payload in beats}) == len(beats)
    live.stop()


KILLED = """
import os, sys, threading
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from stored import make_event
from comemory.store.routing import ChangeStamp
from comemory.store.write_ahead import WriteAheadEntry, WriteAheadLog
log = WriteAheadLog(Path(sys.argv[1]))
while True:
    entry = WriteAheadEntry("new", make_event(datetime.now(UTC)), ChangeStamp())
    log.append(entry)
    print(entry.stamp.id, flush=True)
"""


class TestWriteAheadFile:
    def test_a_killed_process_leaves_every_entry_that_it_reported(self, tmp_path: Path) -> None:
        path = tmp_path / "ahead"
        command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parents[1])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        reported = [process.stdout.readline().strip() for _ in range(30)]
        process.send_signal(signal.SIGKILL)
        reported += process.communicate()[0].split("\n")[:-1]
        left = [entry.stamp.id for entry in WriteAheadLog(path).left_over]
        assert left[: len(reported)] == reported
        assert path.stat().st_mode & 0o077 == 0

    def test_a_torn_line_is_left_out_and_written_over(self, tmp_path: Path) -> None:
        path = tmp_path / "ahead"
        log = WriteAheadLog(path, 1 << 16)
        first, second = (WriteAheadEntry("new", make_event(), ChangeStamp()) for _ in range(2))
        log.append(first)
        log.close()
        with path.open("r+b") as file:
            file.seek(len(first.to_line()))
            file.write(second.to_line()[:50])
        log = WriteAheadLog(path, 1 << 16)
        assert [entry.stamp for entry in log.left_over] == [first.stamp]
        log.append(second)
        log.close()
        again = WriteAheadLog(path, 1 << 16)
        assert [entry.stamp for entry in again.left_over] == [first.stamp, second.stamp]
        for entry in again.left_over:
            again.remove(entry)
        again.close()
        assert WriteAheadLog(path, 1 << 16).left_over == ()

    def test_it_is_compacted_within_its_reserved_space(self, tmp_path: Path) -> None:
        log = WriteAheadLog(tmp_path / "ahead", 1 << 14)
        first = WriteAheadEntry("new", make_event(), ChangeStamp())
        log.append(first)
        for _ in range(200):
            entry = WriteAheadEntry("update", make_event(), ChangeStamp())
            log.append(entry)
            log.remove(entry)
        assert (tmp_path / "ahead").stat().st_size == 1 << 14
        log.close()
        left = WriteAheadLog(tmp_path / "ahead", 1 << 14).left_over
        assert first.stamp in {entry.stamp for entry in left}

    def test_threads_append_at_once(self, tmp_path: Path) -> None:
        log = WriteAheadLog(tmp_path / "ahead")

        def work() -> None:
            for _ in range(20):
                log.append(WriteAheadEntry("new", make_event(), ChangeStamp()))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.close()
        assert len(WriteAheadLog(tmp_path / "ahead").left_over) == 80


def test_alerts_in_memory_are_limited() -> None:
    from comemory.alerts.in_memory_outbox import MAX_ALERTS, MEMORY, InMemoryOutbox
    from comemory.alerts.rules import SinkRules

    direct = InMemoryOutbox({"hook": SinkRules(SinkSettings())})
    now = datetime.now(UTC)
    for k in range(50):
        entry = WriteAheadEntry("new", make_event(now), ChangeStamp(time=now - MEMORY * 2))
        direct.add(entry.as_change())
        if k % 2 == 0:
            direct.mark_stored(entry.stamp.id)
    assert direct.n_waiting("hook") == 25
    for _ in range(MAX_ALERTS + 10):
        direct.add(WriteAheadEntry("new", make_event(now), ChangeStamp(time=now)).as_change())
    assert direct.n_waiting("hook") == MAX_ALERTS


def test_an_alert_that_the_store_never_gets_keeps_no_others_in_memory() -> None:
    """A system alert is never stored: once it was sent, the alerts after it must still leave the memory."""
    from comemory.alerts.in_memory_outbox import MEMORY, InMemoryOutbox, system_change
    from comemory.alerts.rules import SinkRules

    direct = InMemoryOutbox({"hook": SinkRules(SinkSettings())})
    now = datetime.now(UTC)

    def deliver(at: datetime) -> None:
        while (alert := direct.claim("hook", at, is_store_away=False)) is not None:
            direct.mark_delivered(alert.id)

    overload = replace(system_change("overload", "error", "too slow", "ok"), stamp=ChangeStamp(time=now))
    direct.add(overload, timedelta())
    deliver(now)
    for k in range(1, 100):
        at = now + k * MEMORY
        stamp = ChangeStamp(time=at)
        direct.add(WriteAheadEntry("new", make_event(at), stamp).as_change())
        deliver(at + MEMORY / 2)
        direct.mark_stored(stamp.id)
        assert len(direct) <= 2


def test_an_alert_that_has_arrived_no_longer_holds_its_event() -> None:
    from comemory.alerts.in_memory_outbox import InMemoryOutbox
    from comemory.alerts.rules import SinkRules

    class Content(dict[str, Any]):
        """A dictionary that can be referred to weakly."""

    direct = InMemoryOutbox({"hook": SinkRules(SinkSettings())})
    now = datetime.now(UTC)
    content = Content(make_event(now).to_json())
    held = weakref.ref(content)
    direct.add(replace(WriteAheadEntry("new", make_event(now), ChangeStamp(time=now)).as_change(), after=content))
    del content
    alert = direct.claim("hook", now + timedelta(minutes=1), is_store_away=False)
    assert alert is not None
    assert held() is not None
    direct.mark_delivered(alert.id)
    assert direct.was_delivered(alert.id)
    del alert
    assert held() is None
