"""MQTT against a real mosquitto, listened to by a client of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Protocol

import paho.mqtt.client as paho
import pytest
from stored import NOON, free_port, make_event, wait_until

from comemory.alerts.dispatcher import Dispatcher
from comemory.alerts.mqtt import discovery
from comemory.alerts.sink import Message, Sink, open_sink
from comemory.errors import DeliveryError
from comemory.store.event import new_id
from comemory.store.retained_topics import Announced
from comemory.store.store import EventStore


class Started(Protocol):
    port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Listener:
    """A client that keeps what it hears: topic, text, whether the broker had retained it."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, str, bool]] = []
        self._lock = threading.Lock()
        subscribed = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = self._hear
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe("#", qos=1)
        assert subscribed.wait(10)

    def _hear(self, _client: Any, _data: Any, message: Any) -> None:
        with self._lock:
            self.heard.append((message.topic, message.payload.decode(), message.retain))

    def of(self, topic: str) -> list[str]:
        with self._lock:
            return [text for name, text, _ in self.heard if name == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def announced(file_store: EventStore) -> Announced:
    """What a store with one sink remembers."""
    file_store.announced.route(["home"])
    return file_store.announced


@pytest.fixture
def listener(broker: Started) -> Iterator[Listener]:
    heard = Listener(broker.port)
    yield heard
    heard.close()


def message(kind: str, camera: str = "gate", **after: Any) -> Message:
    id = new_id()
    payload = {
        "id": id,
        "kind": kind,
        "time": "2026-03-02T12:00:00.000Z",
        "camera": camera,
        "before": None,
        "after": after,
    }
    return Message(id, kind, camera, payload)


def opened(port: int, **settings: Any) -> Sink:
    return open_sink("home", {"kind": "mqtt", "host": "127.0.0.1", "port": port, "timeout_s": 5, **settings})


def connected(sink: Sink, cameras: list[str], heard: Listener, announced: Announced) -> Sink:
    sink.start(cameras, announced)
    wait_until(lambda: "online" in heard.of("comemory/available"))
    return sink


class TestTopics:
    def test_events_alarm_and_state(self, broker: Started, listener: Listener, announced: Announced) -> None:
        sink = connected(opened(broker.port), ["gate"], listener, announced)
        sent = [message(kind, score=1.5) for kind in ("new", "update", "end")]
        for each in sent:
            sink.deliver(each)
        sink.deliver(message("state", state="stalled", message="no frame"))
        wait_until(lambda: listener.of("comemory/gate/state"))
        assert [json.loads(text) for text in listener.of("comemory/events")] == [each.payload for each in sent]
        assert listener.of("comemory/gate/alarm")[-2:] == ["ON", "OFF"]
        assert listener.of("comemory/gate/state") == ["stalled"]
        sink.close()
        wait_until(lambda: listener.of("comemory/available")[-1] == "offline")
        late = Listener(broker.port)
        wait_until(lambda: len(late.heard) >= 6)
        late.close()
        assert all(retained for _, _, retained in late.heard)
        assert {topic for topic, _, _ in late.heard} == {
            "comemory/available",
            "comemory/gate/alarm",
            "comemory/gate/state",
            "comemory/gate/health",
            "homeassistant/binary_sensor/comemory_gate/alarm/config",
            "homeassistant/sensor/comemory_gate/state/config",
        }

    def test_discovery_fits_the_topics_and_is_told_again(
        self, broker: Started, listener: Listener, announced: Announced
    ) -> None:
        sink = connected(opened(broker.port), ["gate"], listener, announced)
        topic = "homeassistant/binary_sensor/comemory_gate/alarm/config"
        wait_until(lambda: listener.of(topic))
        config = json.loads(listener.of(topic)[0])
        assert (config["state_topic"], config["availability_topic"]) == ("comemory/gate/alarm", "comemory/available")
        assert config["device"]["name"] == "gate"
        listener.client.publish("homeassistant/status", "online", qos=1)
        wait_until(lambda: len(listener.of(topic)) == 2)
        sink.set_cameras(["gate", "yard/#+ ü"])
        wait_until(lambda: listener.of("homeassistant/sensor/comemory_yard_____-66dbdc/state/config"))
        sink.close()

    def test_without_discovery(self, broker: Started, listener: Listener, announced: Announced) -> None:
        sink = open_sink(
            "home", {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "discovery": "", "prefix": "a/b"}
        )
        sink.start(["gate"], announced)
        wait_until(lambda: listener.of("a/b/gate/alarm"))
        sink.close()
        assert not any(topic.startswith("homeassistant") for topic, _, _ in listener.heard)

    def test_ids_of_discovery_are_unique(self) -> None:
        configs = [config for camera in ("gate", "yard") for config in discovery("ha", "comemory", camera).values()]
        assert len({config["unique_id"] for config in configs}) == 4

    def test_names_that_differ_in_a_mark_alone_share_nothing(
        self, broker: Started, listener: Listener, announced: Announced
    ) -> None:
        names = ("gate.1", "gate_1", "gate-1")
        found = [discovery("ha", "comemory", camera) for camera in names]
        assert len({topic for one in found for topic in one}) == 6
        for key in ("unique_id", "state_topic"):
            assert len({config[key] for one in found for config in one.values()}) == 6
        sink = connected(opened(broker.port), list(names), listener, announced)
        for name in names:
            sink.deliver(message("state", camera=name, state=f"of {name}", message=""))
        wait_until(lambda: len([topic for topic, _, _ in listener.heard if topic.endswith("/state")]) == 3)
        sink.close()
        assert listener.of("comemory/gate_1/state") == ["of gate_1"]
        assert listener.of("comemory/gate-1/state") == ["of gate-1"]


def retained(port: int) -> set[str]:
    """The topics that a broker keeps."""
    late = Listener(port)
    done = new_id()
    late.client.publish("done", done, qos=1)
    wait_until(lambda: done in late.of("done"))
    late.close()
    return {topic for topic, _, kept in late.heard if kept}


def of_camera(camera: str, prefix: str = "comemory") -> set[str]:
    """What is kept of a camera before anything has happened."""
    return {f"{prefix}/{camera}/alarm", *discovery("homeassistant", prefix, camera)}


class TestTakingBack:
    def test_a_camera_that_is_gone_at_the_next_start(
        self, broker: Started, listener: Listener, announced: Announced
    ) -> None:
        sink = connected(opened(broker.port), ["gate", "yard"], listener, announced)
        sink.deliver(message("state", camera="yard", state="down", message=""))
        sink.close()
        kept = retained(broker.port)
        assert kept >= of_camera("yard") | of_camera("gate") | {"comemory/yard/state", "comemory/yard/health"}
        listener.heard.clear()
        sink = connected(opened(broker.port), ["gate"], listener, announced)
        wait_until(lambda: retained(broker.port) == of_camera("gate") | {"comemory/available"})
        sink.close()

    def test_a_camera_that_goes_while_it_runs(self, broker: Started, listener: Listener, announced: Announced) -> None:
        sink = connected(opened(broker.port), ["gate", "yard"], listener, announced)
        wait_until(lambda: retained(broker.port) >= of_camera("yard"))
        sink.set_cameras(["gate", "door"])
        wait_until(lambda: retained(broker.port) == of_camera("gate") | of_camera("door") | {"comemory/available"})
        sink.deliver(message("end", camera="yard", score=1.0))
        assert not any("yard" in topic for topic in retained(broker.port))
        sink.close()

    def test_discovery_that_is_switched_off_and_another_prefix(
        self, broker: Started, listener: Listener, announced: Announced
    ) -> None:
        connected(opened(broker.port), ["gate"], listener, announced).close()
        for told, left in (({"discovery": ""}, {"comemory/gate/alarm"}), ({"prefix": "b"}, of_camera("gate", "b"))):
            sink = opened(broker.port, **told)
            sink.start(["gate"], announced)
            expected = left | {f"{told.get('prefix', 'comemory')}/available"}
            wait_until(lambda expected=expected: retained(broker.port) == expected)  # type: ignore[misc]
            sink.close()

    def test_a_sink_that_is_renamed_takes_its_old_topics_over(
        self, broker: Started, listener: Listener, announced: Announced
    ) -> None:
        connected(opened(broker.port), ["gate", "yard"], listener, announced).close()
        announced.route(["other"])
        assert list(announced.left()) == ["home"]
        sink = open_sink("other", {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port})
        sink.start(["gate"], announced)
        wait_until(lambda: retained(broker.port) == of_camera("gate") | {"comemory/available"})
        wait_until(lambda: announced.left() == {})
        sink.close()

    def test_what_others_announced_stays(self, broker: Started, listener: Listener, announced: Announced) -> None:
        listener.client.publish("homeassistant/sensor/comemory_cellar/state/config", "{}", qos=1, retain=True)
        sink = connected(opened(broker.port), ["gate"], listener, announced)
        wait_until(lambda: retained(broker.port) >= of_camera("gate"))
        assert "homeassistant/sensor/comemory_cellar/state/config" in retained(broker.port)
        sink.close()

    def test_a_broker_that_is_away_is_told_later(
        self, broker: Started, announced: Announced, listener: Listener
    ) -> None:
        connected(opened(broker.port), ["gate", "yard"], listener, announced).close()
        where = f"the broker 127.0.0.1:{broker.port}"
        broker.stop()
        sink = opened(broker.port, timeout_s=1)
        sink.start(["gate"], announced)
        wanted = of_camera("gate") | {"comemory/available", "comemory/gate/state", "comemory/gate/health"}
        assert len(announced.stale("home", where, wanted)) == 5
        broker.start()
        wait_until(lambda: announced.stale("home", where, wanted) == [], 40)
        sink.close()


class TestConnection:
    def test_the_last_will_speaks_for_one_that_died(
        self, broker: Started, listener: Listener, announced: Announced
    ) -> None:
        sink = connected(opened(broker.port), [], listener, announced)
        sink._client.socket().close()  # type: ignore[attr-defined]
        wait_until(lambda: "offline" in listener.of("comemory/available"))
        sink.close()

    def test_nobody_there(self, announced: Announced) -> None:
        sink = opened(free_port(), timeout_s=1)
        with pytest.raises(DeliveryError, match=r"no connection to the broker 127\.0\.0\.1:"):
            sink.deliver(message("new"))
        sink.start([], announced)
        with pytest.raises(DeliveryError, match="no connection"):
            sink.deliver(message("new"))
        sink.close()

    def test_every_alert_arrives_though_the_broker_was_away(self, broker: Started, file_store: EventStore) -> None:
        sink = opened(broker.port, timeout_s=1, retry_s=0.05, retry_max_s=0.2, kinds=["new", "end"])
        broker.stop()
        dispatcher = Dispatcher(file_store, [sink], ["gate"])
        dispatcher.start()
        events = [make_event(NOON + timedelta(seconds=k)) for k in range(5)]
        for event in events:
            file_store.begin(event)
        wait_until(lambda: dispatcher.health()["home"].failures > 0)
        assert "no connection" in str(dispatcher.health()["home"].last_error)
        broker.start()
        heard = Listener(broker.port)
        wait_until(lambda: len({json.loads(text)["after"]["id"] for text in heard.of("comemory/events")}) == 5, 40)
        wait_until(lambda: dispatcher.health()["home"].pending == 0)
        assert dispatcher.health()["home"].last_error is None
        dispatcher.stop()
        heard.close()
