"""Alerts on an MQTT broker, with the topics and the discovery that Home Assistant understands."""

from __future__ import annotations

import json
import queue
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from comemory.alerts.config import MqttSettings
from comemory.alerts.current import CameraNow
from comemory.alerts.sink import CameraCommand, Notification
from comemory.alerts.webhook import tls_context
from comemory.errors import DeliveryError, StoreError, last_line
from comemory.secret_values import resolve_secret
from comemory.store.event import iso
from comemory.store.media import slug, unique_slug
from comemory.store.retained_topics import RetainedTopics
from comemory.types import JSON

ONLINE, OFFLINE = "online", "offline"
ON, OFF = "ON", "OFF"
SNOOZE_MIN = 60.0
"""Minutes of a snooze that is switched `ON` without a number."""
MAX_SNOOZE_MIN = 7 * 1440.0
_NUMBER = re.compile(r"\d{1,6}(\.\d{1,3})?", re.ASCII)
CAMERA_TOPICS, PAUSE_TOPICS = ("alarm", "state", "health"), ("pause", "snooze", "snooze/until")
"""Retained topics of each camera. `PAUSE_TOPICS` are published only where the sink reads commands."""
_NOTHING = CameraNow()
_ABORT = struct.pack("ii", 1, 0)
"""`SO_LINGER` that drops what was not sent when the socket is closed, in place of sending it once the network is back."""


class Mqtt:
    """Keeps a connection to a broker. An alert is delivered when the broker has confirmed it (QoS 1).

    Topics below the prefix:

    - `available`, retained: `online`, or `offline` by the last will where the process or its network dies.
    - `events`, never retained: the JSON of every event's alerts; late ones are marked `"late": true`.
    - `CAMERA/alarm`, retained: `ON` while an event is open, else `OFF`.
    - `CAMERA/state` and `CAMERA/health`, retained: the camera's state, and the same as JSON with its message.
    - `CAMERA/pause/set` and `CAMERA/snooze/set`, read where the settings allow commands: `ON`, `OFF`, or for a snooze
      a number of minutes. `CAMERA/pause` and `CAMERA/snooze`, retained, follow: `ON` while the camera is not watched,
      or makes no alerts; `CAMERA/snooze/until`, retained: `{"until": time or null}`.
      Retained commands are ignored: nothing is done a second time after a reconnection.
    - `system`, never retained: the JSON of system alerts.

    The retained topics are set by what is true now (`set_current`), never by an alert that is delivered: alerts that
    waited during an outage switch nothing. They are published at QoS 0 and only while connected, since the client would
    repeat unconfirmed QoS 1 messages after a reconnection, behind newer ones. After a reconnection they are published
    again. All retained topics are remembered in the store, and removed from the broker once they are not needed.

    An alert never arrives late and unmarked. The broker must answer a request before a message is sent: a broker that hangs
    would otherwise find the message in its connection when it goes on. A message that is not confirmed in time is dropped with
    its connection, since the client would send it again after a reconnection, as it was; the next attempt marks it as late.

    Raises:
        ConfigError: a variable is not set, or the certificates cannot be read.
    """

    Settings = MqttSettings

    def __init__(self, name: str, settings: MqttSettings) -> None:
        self.name, self.settings = name, settings
        self._cameras: list[str] = []
        self._current: Mapping[str, CameraNow] = {}
        self._topics: RetainedTopics | None = None
        self._must_remember, self._is_closed = True, False
        self._removals: dict[int, str] = {}
        self._lock = threading.RLock()
        self.on_command: Callable[[CameraCommand], None] = lambda command: None
        self._port = settings.port or (8883 if settings.tls else 1883)
        self._broker = f"the broker {settings.host}:{self._port}"
        self._reason = "not connected yet"
        self._client_id = settings.client_id or f"{slug(settings.prefix)}-{unique_slug(name)}"
        self._credentials: tuple[str, str | None] | None = None
        where = f"of [alerts.{name}]"
        if settings.username is not None:
            password = settings.password and resolve_secret(settings.password, f"the password {where}")
            self._credentials = resolve_secret(settings.username, f"the username {where}"), password
        self._tls = tls_context(settings.ca_file, where) if settings.tls else None
        self._answered = threading.Condition()
        self._answers: set[tuple[paho.Client, int]] = set()
        self._client = self._new_client()

    def _new_client(self) -> paho.Client:
        """The client of a running system: with a last will, and callbacks."""
        client = self._unconnected_client(self._client_id)
        client.will_set(self._topic("available"), OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(1, 30)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_unsubscribe = self._on_unsubscribe
        return client

    def _unconnected_client(self, client_id: str) -> paho.Client:
        """A client with the user, password and certificates of the settings."""
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        if self._credentials is not None:
            client.username_pw_set(*self._credentials)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.connect_timeout = min(self.settings.timeout_s, 10.0)
        return client

    def start(self, cameras: Sequence[str], topics: RetainedTopics) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        with self._lock:
            self._cameras = list(cameras)
        self._topics = topics
        self._remember()
        self._connect()

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Announce new cameras, and remove the retained topics of those that are gone."""
        with self._lock:
            new = [camera for camera in cameras if camera not in self._cameras]
            self._cameras = list(cameras)
        self._remember()
        if self._client.is_connected():
            self._announce(new)
            self._remove_stale()

    def set_current(self, current: Mapping[str, CameraNow]) -> None:
        """Publish what is true of the cameras now, where it has changed."""
        with self._lock:
            before, self._current = self._current, dict(current)
            if self._client.is_connected():
                for camera in self._cameras:
                    if before.get(camera, _NOTHING) != current.get(camera, _NOTHING):
                        self._publish_current(camera)

    def deliver(self, notification: Notification) -> None:
        """Publish one alert and wait until the broker has confirmed it.

        Raises:
            DeliveryError: there is no connection, or the broker did not confirm in time.
        """
        if not self._client.is_connected():
            raise DeliveryError(f"no connection to {self._broker}: {self._reason}")
        if self._must_remember:
            self._remember()
        if notification.kind == "state":
            return  # the retained topics already say how the camera is
        topic = self._topic("system" if notification.kind == "system" else "events")
        self._publish(topic, json.dumps(notification.payload))

    def deliver_once(self, notification: Notification) -> None:
        """Connect under a client id of its own, publish one alert, and disconnect.

        The broker would end the connection of a running system if a second client came with its id. There is no last
        will: it would say that the system is offline.

        Raises:
            DeliveryError: the broker cannot be reached, refuses the connection, or did not confirm in time.
        """
        client = self._unconnected_client(f"{self._client_id}-test")
        answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        client.on_connect = lambda _client, _data, _flags, code, _more: answers.put(
            str(code) if code.is_failure else ""
        )
        try:
            client.connect(self.settings.host, self._port, keepalive=10)
            client.loop_start()
            refusal = answers.get(timeout=self.settings.timeout_s)
            if refusal:
                raise DeliveryError(f"{self._broker} refuses the connection: {refusal}")
            topic = self._topic("events")
            sent = client.publish(topic, json.dumps(notification.payload), qos=1)
            sent.wait_for_publish(self.settings.timeout_s)
            if not sent.is_published():
                raise DeliveryError(f"{self._broker} did not confirm a message on {topic}")
        except queue.Empty:
            raise DeliveryError(f"{self._broker} did not answer in {self.settings.timeout_s:g} s") from None
        except (ValueError, RuntimeError, OSError) as error:
            if isinstance(error, DeliveryError):
                raise
            raise DeliveryError(f"no connection to {self._broker}: {last_line(error)}") from None
        finally:
            client.disconnect()
            client.loop_stop()
            left_open = client.socket()  # paho leaves it open where the broker did not accept the connection
            if left_open is not None:
                left_open.close()

    def close(self) -> None:
        """Publish `offline`, and disconnect."""
        with self._lock:
            self._is_closed, client = True, self._client
        if client.is_connected():
            with suppress(DeliveryError):
                self._is_confirmed(client, self._topic("available"), OFFLINE, retain=True, timeout_s=1.0)
        client.disconnect()
        client.loop_stop()
        # Without these references to this object, the client and its sockets are released with it at once.
        client.on_connect = client.on_connect_fail = client.on_disconnect = None
        client.on_message = client.on_publish = client.on_unsubscribe = None

    def _topic(self, name: str) -> str:
        return f"{self.settings.prefix}/{name}"

    def _connect(self) -> None:
        self._client.connect_async(self.settings.host, self._port, keepalive=30)
        self._client.loop_start()

    def _publish(self, topic: str, text: str) -> None:
        """Publish once, and wait; what is not confirmed in time is never sent again."""
        client, until = self._client, time.monotonic() + self.settings.timeout_s
        if not self._has_answer(client, until):
            self._replace(client)
            raise DeliveryError(f"{self._broker} does not answer")
        if not self._is_confirmed(client, topic, text, retain=False, timeout_s=until - time.monotonic()):
            self._replace(client)
            raise DeliveryError(f"{self._broker} did not confirm a message on {topic}")

    def _has_answer(self, client: paho.Client, until: float) -> bool:
        """Whether the broker answers a request; this one changes nothing, since there is no such subscription."""
        with self._answered:
            _, message_id = client.unsubscribe(self._topic("available"))
            if message_id is None:
                return False
            try:
                timeout_s = max(0.0, until - time.monotonic())
                return self._answered.wait_for(lambda: (client, message_id) in self._answers, timeout_s)
            finally:
                self._answers.discard((client, message_id))

    def _is_confirmed(self, client: paho.Client, topic: str, text: str, *, retain: bool, timeout_s: float) -> bool:
        try:
            sent = client.publish(topic, text, qos=1, retain=retain)
            sent.wait_for_publish(max(0.0, timeout_s))
            return sent.is_published()
        except (ValueError, RuntimeError, OSError) as error:
            raise DeliveryError(f"cannot publish to {self._broker}: {last_line(error)}") from None

    def _replace(self, client: paho.Client) -> None:
        """Drop a connection with all that waits in it, and connect anew: paho cannot forget a message."""
        with self._lock:
            if client is not self._client or self._is_closed:
                return
            self._removals.clear()
            self._client = self._new_client()
            self._reason = "it does not answer"
            self._connect()
        threading.Thread(target=_abort, args=(client,), name=f"mqtt-{self.name}-abort", daemon=True).start()

    def _publish_current(self, camera: str) -> None:
        """Publish the retained topics of a camera, without waiting."""
        now, place = self._current.get(camera, _NOTHING), unique_slug(camera)
        self._client.publish(self._topic(f"{place}/alarm"), ON if now.has_open_event else OFF, qos=0, retain=True)
        if now.state is not None:
            self._client.publish(self._topic(f"{place}/state"), str(now.state["state"]), qos=0, retain=True)
            self._client.publish(self._topic(f"{place}/health"), json.dumps(now.state), qos=0, retain=True)
        if self.settings.commands:
            self._publish_pauses(place, now)

    def _publish_pauses(self, place: str, now: CameraNow) -> None:
        self._client.publish(self._topic(f"{place}/pause"), ON if now.is_paused else OFF, qos=0, retain=True)
        until = now.snoozed_until
        self._client.publish(self._topic(f"{place}/snooze"), OFF if until is None else ON, qos=0, retain=True)
        text = json.dumps({"until": None if until is None else iso(until)})
        self._client.publish(self._topic(f"{place}/snooze/until"), text, qos=0, retain=True)

    def _announce(self, cameras: Sequence[str]) -> None:
        """Publish the discovery and the present of cameras, without waiting: every connection repeats it."""
        with self._lock:
            for camera in cameras:
                self._publish_current(camera)
                for topic, config in self._discovery(camera).items():
                    self._client.publish(topic, json.dumps(config), qos=0, retain=True)

    @property
    def _camera_topics(self) -> Sequence[str]:
        return (*CAMERA_TOPICS, *PAUSE_TOPICS) if self.settings.commands else CAMERA_TOPICS

    def _discovery(self, camera: str) -> dict[str, JSON]:
        home, commands = self.settings.discovery, self.settings.commands
        return discovery_messages(home, self.settings.prefix, camera, commands=commands) if home else {}

    def _needed_topics(self) -> set[str]:
        """The retained topics of all cameras."""
        topics = {self._topic("available")}
        with self._lock:
            cameras = list(self._cameras)
        for camera in cameras:
            topics |= {self._topic(f"{unique_slug(camera)}/{name}") for name in self._camera_topics}
            topics |= self._discovery(camera).keys()
        return topics

    def _remember(self) -> None:
        """Remember the retained topics in the store; where it is away, the next delivery tries again."""
        if self._topics is not None:
            try:
                self._topics.remember(self.name, self._broker, self._needed_topics())
            except StoreError:
                self._must_remember = True
            else:
                self._must_remember = False

    def _remove_stale(self) -> None:
        """Remove the retained topics that are not needed any more: an empty message makes the broker drop its own."""
        if self._topics is None:
            return
        for topic in self._topics.stale(self.name, self._broker, self._needed_topics()):
            sent = self._client.publish(topic, b"", qos=1, retain=True)
            with self._lock:
                self._removals[sent.mid] = topic
            if sent.is_published():
                self._removed(sent.mid)

    def _removed(self, message_id: int) -> None:
        """Forget a topic whose removal the broker has confirmed; other messages are ignored.

        A topic that is needed again is published again: the client may have repeated its removal after a reconnection.
        """
        with self._lock:
            topic = self._removals.pop(message_id, None)
        if topic in self._needed_topics():
            self._announce(self._cameras)
        elif topic is not None and self._topics is not None:
            with suppress(StoreError):
                self._topics.forget(self._broker, topic)

    def _on_publish(self, client: paho.Client, _data: Any, message_id: int, _code: ReasonCode, _more: Any) -> None:
        if client is self._client:
            self._removed(message_id)

    def _on_unsubscribe(self, client: paho.Client, _data: Any, message_id: int, _codes: Any, _more: Any) -> None:
        with self._answered:
            self._answers.add((client, message_id))
            self._answered.notify_all()

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _more: Any) -> None:
        if client is not self._client:
            return
        if code.is_failure:
            self._reason = str(code)
            return
        self._client.publish(self._topic("available"), ONLINE, qos=1, retain=True)
        self._announce(self._cameras)
        if self.settings.discovery:
            self._client.subscribe(f"{self.settings.discovery}/status", qos=0)
        if self.settings.commands:
            self._client.subscribe([(self._topic(f"+/{action}/set"), 1) for action in ("pause", "snooze")])
        with suppress(StoreError):
            self._remove_stale()

    def _on_connect_fail(self, _client: paho.Client, _data: Any) -> None:
        self._reason = "it cannot be reached"

    def _on_disconnect(self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _more: Any) -> None:
        self._reason = str(code)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        """Home Assistant has started: announce the cameras again. Or a command has come."""
        if message.topic.endswith("/set"):
            command = None if message.retain else self._command(message.topic, bytes(message.payload))
            if command is not None:
                self.on_command(command)
        elif message.payload == ONLINE.encode():
            self._announce(self._cameras)

    def _command(self, topic: str, payload: bytes) -> CameraCommand | None:
        """The command in a message; None for what is none, or is for no camera of this sink."""
        place, _, action = topic.removeprefix(f"{self.settings.prefix}/").removesuffix("/set").rpartition("/")
        with self._lock:
            camera = next((camera for camera in self._cameras if unique_slug(camera) == place), None)
        text = payload.decode("ascii", "replace").strip().upper()
        if camera is None:
            return None
        if action == "pause" and text in (ON, OFF):
            return CameraCommand(self.name, camera, "pause", None if text == ON else 0.0)
        if action == "snooze" and (text in (ON, OFF) or _NUMBER.fullmatch(text)):
            minutes = {ON: SNOOZE_MIN, OFF: 0.0}.get(text)
            minutes = min(float(text), MAX_SNOOZE_MIN) if minutes is None else minutes
            return CameraCommand(self.name, camera, "snooze", minutes)
        return None


def _abort(client: paho.Client) -> None:
    """End a client and its connection at once; what it had not sent yet is not sent."""
    connection = client.socket()
    if isinstance(connection, socket.socket):
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    client.loop_stop()
    if connection is not None:
        with suppress(OSError):
            connection.close()


def discovery_messages(home: str, prefix: str, camera: str, *, commands: bool = False) -> dict[str, JSON]:
    """Topic to configuration of what Home Assistant shows of a camera: an alarm, the camera's state, and its switches.

    Args:
        home: prefix of the discovery.
        prefix: of the sink's topics.
        camera: its name.
        commands: whether there are switches.
    """
    key = f"{slug(prefix)}_{unique_slug(camera)}"
    topic = f"{prefix}/{unique_slug(camera)}"
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
    found: dict[str, JSON] = {
        f"{home}/binary_sensor/{key}/alarm/config": {**alarm, **common},
        f"{home}/sensor/{key}/state/config": {**state, **common},
    }
    for action, icon in (("pause", "mdi:pause"), ("snooze", "mdi:bell-sleep")) if commands else ():
        switch = {
            "name": action.capitalize(),
            "unique_id": f"{key}_{action}",
            "state_topic": f"{topic}/{action}",
            "command_topic": f"{topic}/{action}/set",
            "icon": icon,
        }
        found[f"{home}/switch/{key}/{action}/config"] = {**switch, **common}
    return found
