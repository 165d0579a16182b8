"""The dispatcher: every alert arrives, a slow sink delays no other, and a killed process loses nothing."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from stored import NOON, Received, free_port, http_server, make_event, picture, wait_until

from comemory.alerts import dispatcher as dispatching
from comemory.alerts.config import SinkSettings
from comemory.alerts.dispatcher import Dispatcher
from comemory.alerts.sink import Notification, Sink, StatelessSink, open_sink
from comemory.errors import ConfigError, DeliveryError
from comemory.store.retained_topics import RetainedTopics
from comemory.store.store import EventStore

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "alerts_under_kill.py"
QUICK = {"timeout_s": 2, "allow_private": True}


class RecordingSink(StatelessSink):
    """A sink that records what is delivered, after a delay, and fails on request."""

    def __init__(self, name: str, delay_s: float = 0.0, **settings: Any) -> None:
        self.name, self.settings = (
            name,
            SinkSettings(**{"timeout_s": 2, **settings}),
        )
        self.delivered: list[Notification] = []
        self.cameras: Sequence[str] = ()
        self.broken: BaseException | None = None
        self._delay_s = delay_s
        self._closed = threading.Event()

    def start(self, cameras: Sequence[str], topics: RetainedTopics) -> None:
        self.cameras = cameras

    def set_cameras(self, cameras: Sequence[str]) -> None:
        self.cameras = cameras

    def deliver(self, notification: Notification) -> None:
        if self._closed.wait(self._delay_s):
            raise DeliveryError("closed")
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        self.delivered.append(notification)

    def close(self) -> None:
        self._closed.set()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SinkSettings, "retry_s", 0.02)
    monkeypatch.setattr(SinkSettings, "retry_max_s", 0.1)


@pytest.fixture
def server() -> Iterator[Received]:
    with http_server() as received:
        yield received


def hook(server: Received, name: str = "hook", **settings: Any) -> Sink:
    url = f"http://127.0.0.1:{server.port}/"
    return open_sink(name, {"kind": "webhook", "url": url, **QUICK, **settings})


def test_a_sink_gets_its_own_cameras_only(file_store: EventStore) -> None:
    all_of_them, one = RecordingSink("all"), RecordingSink("one", cameras=("yard",))
    dispatcher = Dispatcher(file_store, [all_of_them, one], ["gate", "yard"])
    dispatcher.start()
    assert (all_of_them.cameras, one.cameras) == (["gate", "yard"], ["yard"])
    dispatcher.set_cameras(["gate"])
    assert (all_of_them.cameras, one.cameras) == (["gate"], [])
    dispatcher.stop()


class TestDelivery:
    def test_all_alerts_arrive_though_half_of_the_attempts_fail(self, file_store: EventStore, server: Received) -> None:
        server.statuses = [500, 204, 503, 204, 204, 500, 204, 500, 500, 204]
        dispatcher = Dispatcher(file_store, [hook(server)], ["gate"])
        dispatcher.start()
        events = [make_event(NOON + timedelta(seconds=k)) for k in range(6)]
        for event in events:
            file_store.begin(event)
            file_store.end(replace(event, end=NOON + timedelta(minutes=1)))
        wait_until(lambda: dispatcher.health()["hook"].delivered == 12)
        dispatcher.stop()
        ids = [payload["id"] for payload in server.payloads]
        assert len(set(ids)) == 12
        assert {p["after"]["id"] for p in server.payloads} == {event.id for event in events}
        for event in events:
            kinds = [p["kind"] for p in server.payloads if p["after"]["id"] == event.id]
            assert kinds == sorted(kinds, reverse=True)
        health = dispatcher.health()["hook"]
        assert (health.pending, health.failed, health.attempts - health.failures) == (0, 0, 12)

    def test_a_slow_sink_delays_no_other(self, file_store: EventStore) -> None:
        slow, quick = RecordingSink("slow", delay_s=60), RecordingSink("quick")
        dispatcher = Dispatcher(file_store, [slow, quick], ["gate", "yard"])
        dispatcher.start()
        assert quick.cameras == ["gate", "yard"]
        for k in range(5):
            file_store.begin(make_event(NOON + timedelta(seconds=k)))
        wait_until(lambda: len(quick.delivered) == 5)
        assert slow.delivered == []
        dispatcher.stop(timeout_s=2)
        dispatcher.stop(timeout_s=2)
        assert slow.delivered == []

    def test_due_alerts_are_delivered_before_it_stops(self, file_store: EventStore) -> None:
        sink = RecordingSink("sink", delay_s=0.05)
        dispatcher = Dispatcher(file_store, [sink])
        dispatcher.start()
        for k in range(5):
            file_store.begin(make_event(NOON + timedelta(seconds=k)))
        dispatcher.stop(timeout_s=20)
        assert len(sink.delivered) == 5

    def test_the_thumbnail_is_sent_along(self, file_store: EventStore) -> None:
        sink = RecordingSink("sink", delay_s=0.0)
        event = make_event()
        dispatcher = Dispatcher(file_store, [sink])
        file_store.begin(event)
        path = file_store.media / file_store.attach(event.id, "thumbnail", picture(file_store))
        dispatcher.start()
        wait_until(lambda: sink.delivered)
        dispatcher.stop()
        assert sink.delivered[0].thumbnail == path

    def test_a_thread_that_dies_is_started_again(self, file_store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dispatching, "RESTART_S", 0.05)
        died: list[Any] = []
        monkeypatch.setattr(threading, "excepthook", died.append)
        sink = RecordingSink("sink", timeout_s=0.1)
        sink.broken = ZeroDivisionError("a fault of our own")
        dispatcher = Dispatcher(file_store, [sink])
        dispatcher.start()
        file_store.begin(make_event())
        wait_until(lambda: sink.delivered)
        dispatcher.stop()
        assert len(died) == 1

    def test_a_test_alert(self, file_store: EventStore, server: Received) -> None:
        dispatcher = Dispatcher(file_store, [hook(server)], ["gate"])
        dispatcher.send_test("hook")
        assert server.payloads[0]["kind"] == "test"
        server.statuses = [500]
        with pytest.raises(DeliveryError, match="answered 500"):
            dispatcher.send_test("hook")
        with pytest.raises(ConfigError, match="did you mean 'hook'"):
            dispatcher.send_test("hok")

    def test_two_sinks_of_one_name_are_refused(self, file_store: EventStore) -> None:
        with pytest.raises(ConfigError, match="the same name"):
            Dispatcher(file_store, [RecordingSink("a"), RecordingSink("a")])

    def test_alerts_of_a_sink_that_is_away_are_given_up_in_the_end(self, file_store: EventStore) -> None:
        sink = open_sink(
            "hook", {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/", **QUICK, "give_up_h": 1e-5}
        )
        dispatcher = Dispatcher(file_store, [sink])
        dispatcher.start()
        file_store.begin(make_event())
        wait_until(lambda: dispatcher.health()["hook"].failed == 1)
        dispatcher.stop()
        assert "refused" in str(dispatcher.health()["hook"].last_error)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("alerts_under_kill", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOSSES = (
    "events_lost",
    "images_lost",
    "events_left_open",
    "orphans",
    "rows_without_file",
    "alerts_lost",
    "events_without_alert",
)


class TestKilled:
    def test_nothing_is_lost_in_sqlite(self, script: ModuleType, tmp_path: Path) -> None:
        results = script.measure(4, tmp_path, str(tmp_path / "events.db"), seed=os.getpid())
        assert not any(results[name] for name in (*LOSSES, "forged")), results
        assert results["events"] > 3
        assert results["refused"] > 0

    def test_nothing_is_lost_in_postgresql(
        self, script: ModuleType, tmp_path: Path, postgres: Callable[[], str]
    ) -> None:
        results = script.measure(2, tmp_path, postgres(), seed=os.getpid())
        assert not any(results[name] for name in (*LOSSES, "forged")), results
        assert results["events"] > 0
