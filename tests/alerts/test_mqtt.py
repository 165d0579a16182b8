"""MQTT against a real mosquitto, with a client that records all messages."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import paho.mqtt.client as paho
import pytest
from stored import NOON, free_port, make_event, wait_until

from comemory.alerts.config import MqttSettings
from comemory.alerts.current import CameraNow
from comemory.alerts.dispatcher import Dispatcher
from comemory.alerts.mqtt import discovery_messages
from comemory.alerts.sink import Notification, Sink, open_sink
from comemory.errors import DeliveryError
from comemory.live.config import LiveSettings
from comemory.live.doctor import Check, run_checks
from comemory.store.event import new_id
from comemory.store.retained_topics import RetainedTopics
from comemory.store.routing import ChangeStamp
from comemory.store.store import EventStore, StoredEvent
from comemory.store.write_ahead import WriteAheadEntry

STALLED = {"state": "stalled", "message": "no frame", "at": "2026-03-02T12:00:00.000Z"}


class Started(Protocol):
    port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class Listener:
    """A client that records all messages: topic, text, whether the broker had retained it."""

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
def topics(file_store: EventStore) -> RetainedTopics:
    """The retained topics of a store with one sink."""
    file_store.retained_topics.set_sinks(["home"])
    return file_store.retained_topics


@pytest.fixture
def listener(broker: Started) -> Iterator[Listener]:
    heard = Listener(broker.port)
    yield heard
    heard.close()


def message(kind: str, camera: str = "gate", **after: Any) -> Notification:
    id = new_id()
    payload = {
        "id": id,
        "kind": kind,
        "time": "2026-03-02T12:00:00.000Z",
        "camera": camera,
        "before": None,
        "after": after,
    }
    return Notification(id, kind, camera, payload)


def opened(port: int, **settings: Any) -> Sink:
    return open_sink("home", {"kind": "mqtt", "host": "127.0.0.1", "port": port, "timeout_s": 5, **settings})


def connected(sink: Sink, cameras: list[str], heard: Listener, topics: RetainedTopics) -> Sink:
    sink.start(cameras, topics)
    wait_until(lambda: "online" in heard.of("comemory/available"))
    return sink


class TestTopics:
    def test_events_alarm_and_state(self, broker: Started, listener: Listener, topics: RetainedTopics) -> None:
        sink = connected(opened(broker.port), ["gate"], listener, topics)
        sent = [message(kind, score=1.5) for kind in ("new", "update", "end")]
        for each in sent:
            sink.deliver(each)
        sink.deliver(message("system", camera="", part="store", state="error"))
        sink.set_current({"gate": CameraNow(True, STALLED)})
        sink.set_current({"gate": CameraNow(False, STALLED)})
        wait_until(lambda: listener.of("comemory/gate/alarm")[-2:] == ["ON", "OFF"])
        assert [json.loads(text) for text in listener.of("comemory/events")] == [each.payload for each in sent]
        assert json.loads(listener.of("comemory/system")[0])["after"]["part"] == "store"
        assert listener.of("comemory/gate/state") == ["stalled"] * 2
        sink.close()
        wait_until(lambda: listener.of("comemory/available")[-1] == "offline")
        late = Listener(broker.port)
        wait_until(lambda: len(late.heard) >= 6)
        late.close()
        assert all(is_retained for _, _, is_retained in late.heard)
        assert {topic for topic, _, _ in late.heard} == {
            "comemory/available",
            "comemory/gate/alarm",
            "comemory/gate/state",
            "comemory/gate/health",
            "homeassistant/binary_sensor/comemory_gate/alarm/config",
            "homeassistant/sensor/comemory_gate/state/config",
        }

    def test_alerts_switch_no_alarm(self, broker: Started, listener: Listener, topics: RetainedTopics) -> None:
        sink = connected(opened(broker.port), ["gate"], listener, topics)
        sink.set_current({"gate": CameraNow(True)})
        for kind in ("new", "end", "state"):
            sink.deliver(message(kind, score=1.5, state="down"))
        wait_until(lambda: len(listener.of("comemory/events")) == 2)
        assert listener.of("comemory/gate/alarm") == ["OFF", "ON"]
        sink.close()

    def test_discovery_fits_the_topics_and_is_repeated(
        self, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        sink = connected(opened(broker.port), ["gate"], listener, topics)
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

    def test_without_discovery(self, broker: Started, listener: Listener, topics: RetainedTopics) -> None:
        sink = open_sink(
            "home", {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "discovery": "", "prefix": "a/b"}
        )
        sink.start(["gate"], topics)
        wait_until(lambda: listener.of("a/b/gate/alarm"))
        sink.close()
        assert not any(topic.startswith("homeassistant") for topic, _, _ in listener.heard)

    def test_ids_of_discovery_are_unique(self) -> None:
        configs = [
            config for camera in ("gate", "yard") for config in discovery_messages("ha", "comemory", camera).values()
        ]
        assert len({config["unique_id"] for config in configs}) == 4

    def test_names_that_differ_in_one_character_share_no_topic(
        self, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        names = ("gate.1", "gate_1", "gate-1")
        found = [discovery_messages("ha", "comemory", camera) for camera in names]
        assert len({topic for one in found for topic in one}) == 6
        for key in ("unique_id", "state_topic"):
            assert len({config[key] for one in found for config in one.values()}) == 6
        sink = connected(opened(broker.port), list(names), listener, topics)
        sink.set_current({name: CameraNow(False, {"state": f"of {name}", "message": ""}) for name in names})
        wait_until(lambda: len([topic for topic, _, _ in listener.heard if topic.endswith("/state")]) == 3)
        sink.close()
        assert listener.of("comemory/gate_1/state") == ["of gate_1"]
        assert listener.of("comemory/gate-1/state") == ["of gate-1"]


def retained(port: int) -> set[str]:
    """The topics that a broker retains."""
    late = Listener(port)
    done = new_id()
    late.client.publish("done", done, qos=1)
    wait_until(lambda: done in late.of("done"))
    late.close()
    return {topic for topic, _, is_retained in late.heard if is_retained}


def of_camera(camera: str, prefix: str = "comemory") -> set[str]:
    """The topics that are retained of a camera before anything has happened."""
    return {f"{prefix}/{camera}/alarm", *discovery_messages("homeassistant", prefix, camera)}


class TestRemoval:
    def test_the_topics_of_a_camera_that_is_gone_at_the_next_start(
        self, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        sink = connected(opened(broker.port), ["gate", "yard"], listener, topics)
        sink.set_current({"yard": CameraNow(False, STALLED)})
        wait_until(lambda: listener.of("comemory/yard/health"))
        sink.close()
        assert retained(broker.port) >= of_camera("yard") | of_camera("gate") | {
            "comemory/yard/state",
            "comemory/yard/health",
        }
        listener.heard.clear()
        sink = connected(opened(broker.port), ["gate"], listener, topics)
        wait_until(lambda: retained(broker.port) == of_camera("gate") | {"comemory/available"})
        sink.close()

    def test_the_topics_of_a_camera_that_is_removed_while_it_runs(
        self, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        sink = connected(opened(broker.port), ["gate", "yard"], listener, topics)
        wait_until(lambda: retained(broker.port) >= of_camera("yard"))
        sink.set_cameras(["gate", "door"])
        wait_until(lambda: retained(broker.port) == of_camera("gate") | of_camera("door") | {"comemory/available"})
        sink.deliver(message("end", camera="yard", score=1.0))
        assert not any("yard" in topic for topic in retained(broker.port))
        sink.close()

    def test_the_topics_of_discovery_switched_off_and_of_another_prefix(
        self, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        connected(opened(broker.port), ["gate"], listener, topics).close()
        for changes, left in (({"discovery": ""}, {"comemory/gate/alarm"}), ({"prefix": "b"}, of_camera("gate", "b"))):
            sink = opened(broker.port, **changes)
            sink.start(["gate"], topics)
            expected = left | {f"{changes.get('prefix', 'comemory')}/available"}
            wait_until(lambda expected=expected: retained(broker.port) == expected)  # type: ignore[misc]
            sink.close()

    def test_a_renamed_sink_takes_its_old_topics_over(
        self, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        connected(opened(broker.port), ["gate", "yard"], listener, topics).close()
        topics.set_sinks(["other"])
        assert list(topics.orphaned()) == ["home"]
        sink = open_sink("other", {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port})
        sink.start(["gate"], topics)
        wait_until(lambda: retained(broker.port) == of_camera("gate") | {"comemory/available"})
        wait_until(lambda: topics.orphaned() == {})
        sink.close()

    def test_topics_of_others_stay(self, broker: Started, listener: Listener, topics: RetainedTopics) -> None:
        listener.client.publish("homeassistant/sensor/comemory_cellar/state/config", "{}", qos=1, retain=True)
        sink = connected(opened(broker.port), ["gate"], listener, topics)
        wait_until(lambda: retained(broker.port) >= of_camera("gate"))
        assert "homeassistant/sensor/comemory_cellar/state/config" in retained(broker.port)
        sink.close()

    def test_topics_are_removed_once_the_broker_is_back(
        self, broker: Started, topics: RetainedTopics, listener: Listener
    ) -> None:
        connected(opened(broker.port), ["gate", "yard"], listener, topics).close()
        where = f"the broker 127.0.0.1:{broker.port}"
        broker.stop()
        sink = opened(broker.port, timeout_s=1)
        sink.start(["gate"], topics)
        needed = of_camera("gate") | {"comemory/available", "comemory/gate/state", "comemory/gate/health"}
        assert len(topics.stale("home", where, needed)) == 5
        broker.start()
        wait_until(lambda: topics.stale("home", where, needed) == [], 40)
        sink.close()


class TestConnection:
    def test_the_last_will_publishes_offline(self, broker: Started, listener: Listener, topics: RetainedTopics) -> None:
        sink = connected(opened(broker.port), [], listener, topics)
        sink._client.socket().close()  # type: ignore[attr-defined]
        wait_until(lambda: "offline" in listener.of("comemory/available"))
        sink.close()

    def test_no_broker(self, topics: RetainedTopics) -> None:
        sink = opened(free_port(), timeout_s=1)
        with pytest.raises(DeliveryError, match=r"no connection to the broker 127\.0\.0\.1:"):
            sink.deliver(message("new"))
        sink.start([], topics)
        with pytest.raises(DeliveryError, match="no connection"):
            sink.deliver(message("new"))
        sink.close()

    def test_a_broker_that_hung_gets_one_message_and_no_old_copy(
        self, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        sink = connected(opened(broker.port, timeout_s=0.3), ["gate"], listener, topics)
        broker.freeze()
        alert = message("new")
        with pytest.raises(DeliveryError, match="does not answer"):
            sink.deliver(alert)
        with pytest.raises(DeliveryError, match="no connection"):
            sink.deliver(alert)
        broker.thaw()
        deliver_late(sink, alert)
        sink.close()
        hear_all(listener)
        assert [json.loads(text)["late"] for text in listener.of("comemory/events")] == [True]

    def test_a_message_that_was_not_confirmed_is_not_repeated_after_the_reconnection(
        self, broker: Started, listener: Listener, topics: RetainedTopics, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The broker hangs just after it has answered: it may have the message, which it gets at most once."""
        sink = connected(opened(broker.port, timeout_s=0.3), ["gate"], listener, topics)
        broker.freeze()
        alert = message("new")
        with monkeypatch.context() as patch:
            patch.setattr(sink, "_has_answer", lambda client, until: True)
            with pytest.raises(DeliveryError, match="did not confirm"):
                sink.deliver(alert)
            with pytest.raises(DeliveryError, match="no connection"):
                sink.deliver(alert)
        broker.thaw()
        deliver_late(sink, alert)
        sink.close()
        hear_all(listener)
        assert [json.loads(text).get("late") for text in listener.of("comemory/events")] in ([True], [None, True])

    def test_every_alert_arrives_though_the_broker_was_away(
        self, broker: Started, file_store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MqttSettings, "retry_s", 0.05)
        monkeypatch.setattr(MqttSettings, "retry_max_s", 0.2)
        sink = opened(broker.port, timeout_s=1, kinds=["new", "end"])
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
        wait_until(lambda: len({json.loads(text)["after"]["id"] for text in heard.of("comemory/events")}) == 5)
        wait_until(lambda: dispatcher.health()["home"].pending == 0)
        assert dispatcher.health()["home"].last_error is None
        dispatcher.stop()
        heard.close()

    def test_after_an_outage_the_alarm_is_what_is_open_now_and_old_messages_are_late(
        self, broker: Started, file_store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MqttSettings, "retry_s", 0.05)
        monkeypatch.setattr(MqttSettings, "retry_max_s", 0.2)
        before = datetime.now(UTC) - timedelta(minutes=5)
        old, now = make_event(before), make_event(before + timedelta(minutes=1))
        dispatcher = Dispatcher(file_store, [opened(broker.port, timeout_s=1)], ["gate"])
        dispatcher.start()
        heard = Listener(broker.port)
        wait_until(lambda: heard.of("comemory/gate/alarm") == ["OFF"])
        broker.stop()
        heard.close()
        for kind, event in (("new", old), ("end", replace(old, end=before + timedelta(seconds=9))), ("new", now)):
            happen(dispatcher, file_store, kind, event, before)
        broker.start()
        heard = Listener(broker.port)
        wait_until(lambda: len(heard.of("comemory/events")) >= 3)
        wait_until(lambda: dispatcher.health()["home"].pending == 0)
        assert set(heard.of("comemory/gate/alarm")) <= {"ON", "OFF"}
        alarms = [
            text for topic, text, is_retained in heard.heard if topic == "comemory/gate/alarm" and not is_retained
        ]
        assert set(alarms) == {"ON"}
        assert all(json.loads(text)["late"] for text in heard.of("comemory/events"))
        late = Listener(broker.port)
        wait_until(lambda: late.of("comemory/gate/alarm"))
        assert late.of("comemory/gate/alarm") == ["ON"]
        late.close()
        dispatcher.stop()
        heard.close()


def hear_all(listener: Listener) -> None:
    """Wait until a client has heard what the broker had before."""
    done = new_id()
    listener.client.publish("done", done, qos=1)
    wait_until(lambda: done in listener.of("done"))


def deliver_late(sink: Sink, alert: Notification) -> None:
    """Deliver an alert, marked as late, once the broker answers."""

    def is_delivered() -> bool:
        try:
            sink.deliver(replace(alert, payload={**alert.payload, "late": True}))
        except DeliveryError:
            return False
        return True

    wait_until(is_delivered)


class TestDoctor:
    """`doctor` connects with the settings of the sink, under a client id of its own, and publishes a test alert."""

    @staticmethod
    def check(tmp_path: Path, port: int, **settings: Any) -> Check:
        sink = {"kind": "mqtt", "host": "127.0.0.1", "port": port, "timeout_s": 5, **settings}
        live = LiveSettings.model_validate({"out": str(tmp_path / "out"), "alerts": {"home": sink}, "cameras": {}})
        return next(check for check in run_checks(live) if check.name == "alert home")

    def test_a_wrong_password_fails_in_one_line(self, tmp_path: Path, guarded_broker: Started) -> None:
        user = {"username": "home", "password": "right"}
        assert self.check(tmp_path, guarded_broker.port, **user).ok
        for wrong in ({**user, "password": "wrong"}, {}):
            found = self.check(tmp_path, guarded_broker.port, **wrong)
            where = f"the broker 127.0.0.1:{guarded_broker.port}"
            assert found.found == f"the test alert did not arrive: {where} refuses the connection: Not authorized"
            assert (found.ok, found.hint) == (False, "correct what this line reports")

    def test_a_running_system_keeps_its_connection(
        self, tmp_path: Path, broker: Started, listener: Listener, topics: RetainedTopics
    ) -> None:
        sink = connected(opened(broker.port), ["gate"], listener, topics)
        assert self.check(tmp_path, broker.port) == Check("alert home", True, "a test alert was sent and has arrived")
        sink.deliver(message("new"))
        wait_until(lambda: len(listener.of("comemory/events")) == 2)
        assert [json.loads(text)["kind"] for text in listener.of("comemory/events")] == ["test", "new"]
        assert listener.of("comemory/available") == ["online"]  # neither a second connection nor a last will
        sink.close()

    def test_no_broker_and_one_that_says_nothing(self, tmp_path: Path) -> None:
        found = self.check(tmp_path, free_port())
        assert found.found.endswith("Connection refused")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            found = self.check(tmp_path, port, timeout_s=0.5)
        assert found.found == f"the test alert did not arrive: the broker 127.0.0.1:{port} did not answer in 0.5 s"


def happen(dispatcher: Dispatcher, store: EventStore, kind: Any, event: StoredEvent, time: datetime) -> None:
    """A change as the engine makes it: observed at once, then stored."""
    entry = WriteAheadEntry(kind, event, ChangeStamp(time=time))
    dispatcher.observe(entry.as_change())
    store.apply(entry)
    dispatcher.mark_stored(entry.stamp.id)
