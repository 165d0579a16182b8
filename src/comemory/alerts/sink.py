"""What every sink is, and how one is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from comemory.alerts import SINKS
from comemory.alerts.config import SinkSettings, read_alert
from comemory.store.retained_topics import Announced
from comemory.types import JSON


@dataclass(frozen=True, slots=True)
class Message:
    """One alert on its way.

    Attributes:
        id: the same at every try, so that a receiver can drop what it has.
        kind: `new`, `update`, `end`, `state` or `test`.
        camera: its name.
        payload: what is sent; it holds the above too.
        thumbnail: of the event, None when there is none (yet).
    """

    id: str
    kind: str
    camera: str
    payload: JSON
    thumbnail: Path | None = None


class Sink(Protocol):
    """A place that alerts go to. `deliver` is called by one thread at a time.

    Attributes:
        name: that of its table in the settings.
        settings: what it was told.
    """

    name: str
    settings: SinkSettings

    def start(self, cameras: Sequence[str], announced: Announced) -> None:
        """Connect, if the sink keeps a connection, without waiting for it.

        Args:
            cameras: that there are, for sinks that tell of them before anything has happened.
            announced: remembers what must be taken back once a camera or the sink is no more.

        Raises:
            StoreError: the store cannot be written.
        """
        ...

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """From now on there are these.

        Raises:
            StoreError: the store cannot be written.
        """
        ...

    def deliver(self, message: Message) -> None:
        """Send one alert and wait until it has arrived.

        Raises:
            DeliveryError: it has not, or may not have.
        """
        ...

    def close(self) -> None:
        """Let go of the connection; a `deliver` that waits ends soon."""
        ...


def open_sink(name: str, settings: SinkSettings | Mapping[str, Any]) -> Sink:
    """Build the sink of `[alerts.NAME]`.

    Raises:
        ConfigError: the settings do not fit, or name an environment variable that is not set.
        RuntimeMissing: the sink needs a package that is not installed.
    """
    told = settings if isinstance(settings, SinkSettings) else read_alert(name, settings)
    sink: Sink = SINKS.load(str(getattr(told, "kind", None)))(name, told)
    return sink
