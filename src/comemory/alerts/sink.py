"""What every sink is, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from comemory.alerts import SINKS
from comemory.alerts.config import SinkSettings, parse_sink_settings
from comemory.alerts.current import CameraNow
from comemory.store.retained_topics import RetainedTopics
from comemory.types import JSON


@dataclass(frozen=True, slots=True)
class Notification:
    """One alert on its way to a sink.

    Attributes:
        id: the same at every attempt, so that a receiver can drop an alert it already has.
        kind: `new`, `update`, `end`, `state`, `system` or `test`.
        camera: its name; empty for `system`.
        payload: the JSON that is sent; it repeats the fields above.
        thumbnail: of the event, None where there is none (yet).
    """

    id: str
    kind: str
    camera: str
    payload: JSON
    thumbnail: Path | None = None


@dataclass(frozen=True, slots=True)
class CameraCommand:
    """What somebody asks for through a sink.

    Attributes:
        sink: its name.
        camera: its name.
        action: `pause` or `snooze`.
        minutes: how long; None without a limit, 0 ends what is in force.
    """

    sink: str
    camera: str
    action: Literal["pause", "snooze"]
    minutes: float | None


@runtime_checkable
class CommandSink(Protocol):
    """A sink through which cameras can be paused and snoozed.

    Attributes:
        on_command: called for each command, from a thread of the sink; it must not wait.
    """

    on_command: Callable[[CameraCommand], None]


@runtime_checkable
class TestableSink(Protocol):
    """A sink that keeps a connection, and can deliver an alert without disturbing the one of a running system."""

    def deliver_once(self, notification: Notification) -> None:
        """Connect, deliver one alert, and disconnect.

        Raises:
            DeliveryError: it has not arrived, or may not have.
        """
        ...


class Sink(Protocol):
    """A place that alerts go to. `deliver` is called by one thread at a time.

    Its class names the class of its settings as `Settings`.

    Attributes:
        name: NAME of `[alerts.NAME]`.
        settings: of that table.
    """

    name: str
    settings: SinkSettings

    def start(self, cameras: Sequence[str], topics: RetainedTopics) -> None:
        """Connect without waiting, where the sink keeps a connection.

        Args:
            cameras: the cameras of this sink, for sinks that announce them.
            topics: remembers what a broker retains for us, so that it can be removed later.

        Raises:
            StoreError: the store cannot be written.
        """
        ...

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Replace the cameras of this sink.

        Raises:
            StoreError: the store cannot be written.
        """
        ...

    def set_current(self, current: Mapping[str, CameraNow]) -> None:
        """Show the present state of the cameras, without waiting; for sinks with a state, such as an alarm that is `ON`."""
        ...

    def deliver(self, notification: Notification) -> None:
        """Send one alert and wait until it has arrived.

        Raises:
            DeliveryError: it has not arrived, or may not have.
        """
        ...

    def close(self) -> None:
        """Close the connection. A `deliver` that is waiting returns soon."""
        ...


class StatelessSink:
    """The parts of `Sink` that a sink without a connection and without announcements does not need."""

    def start(self, cameras: Sequence[str], topics: RetainedTopics) -> None:
        """Nothing to do: every alert makes its own connection."""

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Nothing to do: cameras are not announced."""

    def set_current(self, current: Mapping[str, CameraNow]) -> None:
        """Nothing to do: only alerts are sent."""


def open_sink(name: str, settings: SinkSettings | Mapping[str, Any]) -> Sink:
    """The sink of `[alerts.NAME]`.

    Raises:
        ConfigError: the settings do not fit, or name an environment variable that is not set.
        RuntimeMissing: the sink needs a package that is not installed.
    """
    checked = settings if isinstance(settings, SinkSettings) else parse_sink_settings(name, settings)
    sink: Sink = SINKS.load(str(getattr(checked, "kind", None)))(name, checked)
    return sink
