"""Pausing and snoozing cameras: by the engine, through a broker, and over a restart."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from live.conftest import until
from live.test_live import BUDGET
from services import Broker, broker  # noqa: F401
from stored import http_server

from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.engine import Engine
from comemory.live.pauses import Pause, Pauses
from comemory.live.service import Service

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


@pytest.fixture
def looping(clips: list[Path]) -> dict[str, Any]:
    return {"url": str(clips[0]), "loop": True, "realtime": False, "false_alarms": BUDGET}


@contextmanager
def running(settings: LiveSettings) -> Iterator[Service]:
    """A service that runs in a thread."""
    with Service(settings) as service:
        thread = threading.Thread(target=service.run, kwargs={"until_finished": False})
        thread.start()
        try:
            yield service
        finally:
            service.end()
            thread.join(60)


def test_a_paused_camera_is_not_watched_also_after_a_restart(
    live: Live, looping: dict[str, Any], engines: Engines
) -> None:
    settings = live({"gate": looping})
    engine = engines(settings)
    until(lambda: engine.status()[0].scored > 5)
    engine.pause("gate", None, "desk")
    status = engine.status()[0]
    assert (status.state, status.open_event, status.last_score) == (CameraState.PAUSED, None, None)
    assert "paused by desk" in status.message
    assert engine.snapshot("gate") is None
    engine.stop()
    again = engines(settings)
    until(lambda: again.status()[0].state is CameraState.PAUSED)
    assert again.metrics().frames["gate"] == 0
    again.resume("gate")
    until(lambda: again.status()[0].scored > 5)
    assert again.snapshot("gate") is not None


def test_a_pause_ends_at_its_time_and_with_its_camera(live: Live, looping: dict[str, Any], engines: Engines) -> None:
    engine = engines(live({"gate": looping, "yard": looping}))
    engine.pause("gate", datetime.now(UTC) + timedelta(seconds=0.5), "desk")
    engine.pause("yard", None, "desk")
    until(lambda: engine.status()[0].paused_until is None)
    before = engine.status()[0].scored  # frames before the pause count too
    until(lambda: engine.status()[0].scored > before + 2)
    engine.reload(live({"gate": looping}))
    engine.reload(live({"gate": looping, "yard": looping}))
    until(lambda: engine.status()[1].scored > 2)


def test_events_of_a_snoozed_camera_are_stored_and_make_no_alerts(live: Live, looping: dict[str, Any]) -> None:
    with http_server() as hook:
        sink = {"kind": "webhook", "url": f"http://127.0.0.1:{hook.port}/", "allow_private": True, "kinds": ["new"]}
        settings = live({"gate": looping}, alerts={"desk": sink}, events={"clips": False})
        settings.out.mkdir()
        Pauses(settings.out).set("snooze", "gate", snoozed_for(hours=1))
        with running(settings) as service:
            store = service.store
            assert store is not None
            until(lambda: len(store.page(camera="gate")) > 1)
            assert service.engine.status()[0].snoozed_until is not None
            assert hook.payloads == []
            service.engine.end_snooze("gate")
            ended = datetime.now(UTC)
            until(lambda: len(hook.payloads) > 1)
        starts = [datetime.fromisoformat(payload["after"]["start"]) for payload in hook.payloads]
        assert min(starts) >= ended - timedelta(seconds=1)


def snoozed_for(**time: float) -> Pause:
    now = datetime.now(UTC)
    return Pause(now - timedelta(seconds=5), now + timedelta(**time), "desk")


def test_a_camera_is_paused_and_snoozed_through_a_broker(
    live: Live,
    looping: dict[str, Any],
    broker: Broker,  # noqa: F811
) -> None:
    retained: dict[str, str] = {}
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: retained.update({message.topic: message.payload.decode()})
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.subscribe("#", qos=1)
    client.publish("comemory/gate/pause/set", "ON", qos=1, retain=True).wait_for_publish(10)
    sink = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "commands": True}
    heard = []
    with running(live({"gate": looping}, alerts={"home": sink})) as service:
        service.on_command = lambda command, error: heard.append((command.action, command.minutes, error))
        until(lambda: retained.get("comemory/gate/state") == "live")
        assert retained["comemory/gate/pause"] == "OFF"
        config = json.loads(retained["homeassistant/switch/comemory_gate/snooze/config"])
        client.publish(config["command_topic"], "90", qos=1)
        until(lambda: retained.get("comemory/gate/snooze") == "ON")
        assert json.loads(retained["comemory/gate/snooze/until"])["until"] is not None
        client.publish("comemory/gate/pause/set", "ON", qos=1)
        until(lambda: retained.get("comemory/gate/pause") == "ON")
        until(lambda: retained.get("comemory/gate/state") == "paused")
        for topic, text in (("pause", "OFF"), ("snooze", "nonsense"), ("snooze", "OFF")):
            client.publish(f"comemory/gate/{topic}/set", text, qos=1)
        until(lambda: retained.get("comemory/gate/snooze") == "OFF")
        until(lambda: retained.get("comemory/gate/state") == "live")
    client.disconnect()
    client.loop_stop()
    assert heard == [("snooze", 90.0, ""), ("pause", None, ""), ("pause", 0.0, ""), ("snooze", 0.0, "")]


def test_a_damaged_file_watches_every_camera(tmp_path: Path) -> None:
    (tmp_path / "pauses.json").write_text('{"pause": {"gate": 1}}')
    assert Pauses(tmp_path).of_kind("pause") == {}
