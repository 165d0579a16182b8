"""Alerts on an MQTT broker, in the topics and with the discovery that Home Assistant understands."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from comemory.alerts.config import MqttSettings
from comemory.alerts.sink import Message
from comemory.alerts.webhook import tls_context
from comemory.errors import DeliveryError, StoreError, last_line
from comemory.secret_values import reveal
from comemory.store.media import slug, unlike
from comemory.store.retained_topics import Announced
from comemory.types import JSON

ONLINE, OFFLINE = "online", "offline"


class Mqtt:
    """Keeps a connection to a broker and publishes with an answer awaited (QoS 1).

    Topics below the prefix: `available` (retained, with last will), `events` (never retained), and for each camera
    `CAMERA/state`, `CAMERA/health` and `CAMERA/alarm` (retained). What is retained is remembered in the store, and taken
    back from the broker once the camera is no more.

    Raises:
        ConfigError: a variable is not set, or the certificates cannot be read.
    """

    def __init__(self, name: str, settings: MqttSettings) -> None:
        self.name, self.settings = name, settings
        where = f"of [alerts.{name}]"
        self._alarms: dict[str, str] = {}
        self._announced: Announced | None = None
        self._taking_back: dict[int, str] = {}
        self._lock = threading.Lock()
        self._port = settings.port or (8883 if settings.tls else 1883)
        self._broker = f"the broker {settings.host}:{self._port}"
        self._reason = "not connected yet"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=settings.client_id or f"{slug(settings.prefix)}-{unlike(name)}"
        )
        if settings.username is not None:
            password = None if settings.password is None else reveal(settings.password, f"the password {where}")
            self._client.username_pw_set(reveal(settings.username, f"the username {where}"), password)
        if settings.tls:
            self._client.tls_set_context(tls_context(settings.ca_file, where))
        self._client.will_set(self._topic("available"), OFFLINE, qos=1, retain=True)
        self._client.reconnect_delay_set(1, 30)
        self._client.connect_timeout = min(settings.timeout_s, 10.0)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish

    def start(self, cameras: Sequence[str], announced: Announced) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        with self._lock:
            self._alarms |= dict.fromkeys(cameras, "OFF")
        self._announced = announced
        announced.keep(self.name, self._broker, self._wanted())
        self._client.connect_async(self.settings.host, self._port, keepalive=30)
        self._client.loop_start()

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Announce those that are new, and take back what was announced of those that are gone."""
        with self._lock:
            new = [camera for camera in cameras if camera not in self._alarms]
            self._alarms = {camera: self._alarms.get(camera, "OFF") for camera in cameras}
        self._remember()
        if self._client.is_connected():
            self._announce(new)
            self._take_back()

    def deliver(self, message: Message) -> None:
        """Publish one alert and wait until the broker has it.

        Raises:
            DeliveryError: there is no connection, or the broker did not answer in time.
        """
        if not self._client.is_connected():
            raise DeliveryError(f"no connection to {self._broker}: {self._reason}")
        with self._lock:
            is_known = message.camera in self._alarms
        after = message.payload.get("after") or {}
        if message.kind == "state":
            self._publish(f"{unlike(message.camera)}/state", str(after["state"]), retain=is_known)
            self._publish(f"{unlike(message.camera)}/health", after, retain=is_known)
            return
        self._publish("events", message.payload, retain=False)
        if message.kind in ("new", "end") and {"new", "end"} <= set(self.settings.kinds):
            alarm = "ON" if message.kind == "new" else "OFF"
            with self._lock:
                if message.camera in self._alarms:
                    self._alarms[message.camera] = alarm
            self._publish(f"{unlike(message.camera)}/alarm", alarm, retain=is_known)

    def close(self) -> None:
        """Say that nobody is here any more, and disconnect."""
        if self._client.is_connected():
            with suppress(DeliveryError):
                self._publish("available", OFFLINE, retain=True, timeout_s=1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _topic(self, name: str) -> str:
        return f"{self.settings.prefix}/{name}"

    def _publish(self, name: str, value: JSON | str, *, retain: bool, timeout_s: float | None = None) -> None:
        self._send(self._topic(name), value if isinstance(value, str) else json.dumps(value), retain, timeout_s)

    def _send(self, topic: str, text: str, retain: bool, timeout_s: float | None = None) -> None:
        try:
            sent = self._client.publish(topic, text, qos=1, retain=retain)
            sent.wait_for_publish(self.settings.timeout_s if timeout_s is None else timeout_s)
            done = sent.is_published()
        except (ValueError, RuntimeError, OSError) as error:
            raise DeliveryError(f"cannot publish to {self._broker}: {last_line(error)}") from None
        if not done:
            raise DeliveryError(f"{self._broker} did not confirm a message on {topic}")

    def _announce(self, cameras: Sequence[str]) -> None:
        """Publish the alarms and the discovery of cameras, without waiting: it is repeated at every connection."""
        for camera in cameras:
            with self._lock:
                alarm = self._alarms.get(camera, "OFF")
            self._client.publish(self._topic(f"{unlike(camera)}/alarm"), alarm, qos=1, retain=True)
            if not self.settings.discovery:
                continue
            for topic, config in discovery(self.settings.discovery, self.settings.prefix, camera).items():
                self._client.publish(topic, json.dumps(config), qos=1, retain=True)

    def _wanted(self) -> set[str]:
        """The retained topics of all cameras."""
        topics = {self._topic("available")}
        with self._lock:
            cameras = list(self._alarms)
        for camera in cameras:
            topics |= {self._topic(f"{unlike(camera)}/{name}") for name in ("alarm", "state", "health")}
            if self.settings.discovery:
                topics |= discovery(self.settings.discovery, self.settings.prefix, camera).keys()
        return topics

    def _remember(self) -> None:
        if self._announced is not None:
            self._announced.keep(self.name, self._broker, self._wanted())

    def _take_back(self) -> None:
        """Publish nothing on the topics that nobody wants any more: the broker forgets what it kept of them."""
        if self._announced is None:
            return
        for topic in self._announced.stale(self.name, self._broker, self._wanted()):
            sent = self._client.publish(topic, b"", qos=1, retain=True)
            with self._lock:
                self._taking_back[sent.mid] = topic
            if sent.is_published():
                self._taken_back(sent.mid)

    def _taken_back(self, number: int) -> None:
        """The broker has confirmed a message; where that was one that takes a topic back, it need not be remembered."""
        with self._lock:
            topic = self._taking_back.pop(number, None)
        if topic is not None and self._announced is not None:
            with suppress(StoreError):
                self._announced.forget(self._broker, topic)

    def _on_publish(self, _client: paho.Client, _data: Any, number: int, _code: ReasonCode, _more: Any) -> None:
        self._taken_back(number)

    def _on_connect(self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _more: Any) -> None:
        if code.is_failure:
            self._reason = str(code)
            return
        self._client.publish(self._topic("available"), ONLINE, qos=1, retain=True)
        with self._lock:
            cameras = list(self._alarms)
        self._announce(cameras)
        if self.settings.discovery:
            self._client.subscribe(f"{self.settings.discovery}/status", qos=0)
        with suppress(StoreError):
            self._take_back()

    def _on_connect_fail(self, _client: paho.Client, _data: Any) -> None:
        self._reason = "it cannot be reached"

    def _on_disconnect(self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _more: Any) -> None:
        self._reason = str(code)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        """Home Assistant has started: tell it again what there is."""
        if message.payload == ONLINE.encode():
            with self._lock:
                cameras = list(self._alarms)
            self._announce(cameras)


def discovery(home: str, prefix: str, camera: str) -> dict[str, JSON]:
    """Topic to configuration of what Home Assistant shows of a camera: an alarm, and the camera's state."""
    key = f"{slug(prefix)}_{unlike(camera)}"
    topic = f"{prefix}/{unlike(camera)}"
    common: JSON = {
        "availability_topic": f"{prefix}/available",
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "device": {"identifiers": [key], "name": camera, "manufacturer": "comemory", "model": "camera"},
        "origin": {"name": "comemory"},
    }
    alarm = {"name": "Alarm", "unique_id": f"{key}_alarm", "state_topic": f"{topic}/alarm", "device_class": "safety"}
    state = {
        "name": "State",
        "unique_id": f"{key}_state",
        "state_topic": f"{topic}/state",
        "json_attributes_topic": f"{topic}/health",
        "entity_category": "diagnostic",
        "icon": "mdi:cctv",
    }
    return {
        f"{home}/binary_sensor/{key}/alarm/config": {**alarm, **common},
        f"{home}/sensor/{key}/state/config": {**state, **common},
    }
