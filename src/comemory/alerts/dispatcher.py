"""Takes alerts out of the outbox and delivers them: one thread for each sink, so that a slow one delays no other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from comemory.alerts.sink import Message, Sink
from comemory.errors import ConfigError, DeliveryError, StoreError, nearest
from comemory.store.event import iso, new_id
from comemory.store.outbox import Alert
from comemory.store.store import EventStore

LONGEST_NAP_S = 15.0
RESTART_S = 5.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """How a sink is doing.

    Attributes:
        pending, delivered, failed, held: alerts, as the store has them.
        tries, failures: since the start of the dispatcher.
        last_error: why the last try failed, None after one that worked.
        last_delivery: None before the first one since the start.
    """

    pending: int
    delivered: int
    failed: int
    held: int
    tries: int
    failures: int
    last_error: str | None
    last_delivery: datetime | None


class Dispatcher:
    """Delivers what the outbox of a store holds, at least once each, until it is given up.

    From its making on, what is written to the store makes alerts for the sinks.

    Args:
        store: of which the outbox is emptied.
        sinks: each with a name of its own.
        cameras: told to the sinks before anything has happened.

    Raises:
        ConfigError: two sinks have the same name.
    """

    def __init__(self, store: EventStore, sinks: Sequence[Sink], cameras: Sequence[str] = ()) -> None:
        names = [sink.name for sink in sinks]
        if len(set(names)) != len(names):
            raise ConfigError(f"two sinks have the same name: {', '.join(sorted(names))}; give each its own")
        self._store, self._cameras = store, tuple(cameras)
        self._stopping = threading.Event()
        self._workers = {sink.name: _Worker(store, sink, self._stopping) for sink in sinks}
        self._keeper: threading.Thread | None = None
        store.outbox.route({sink.name: sink.settings for sink in sinks})
        store.announced.route(names)
        store.outbox.on_put = self._wake

    def start(self) -> None:
        """Connect the sinks and begin to deliver.

        Raises:
            StoreError: the outbox cannot be written.
        """
        lost = self._store.outbox.abandon_strangers(self._store.clock())
        if lost:
            _LOG.warning("%d alerts waited for sinks that the settings no longer have: given up", lost)
        self._store.tell_missed_ends()
        for name, brokers in self._store.announced.left().items():
            _LOG.warning("sink %s is no more, and its retained topics may still be on %s", name, ", ".join(brokers))
        for worker in self._workers.values():
            worker.sink.start(self._told_to(worker.sink), self._store.announced)
        self._keeper = threading.Thread(target=self._keep, name="alerts", daemon=True)
        self._keeper.start()

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """From now on there are these: sinks that announce cameras announce new ones, and take back those gone.

        Raises:
            StoreError: the store cannot be written.
        """
        self._cameras = tuple(cameras)
        for worker in self._workers.values():
            worker.sink.set_cameras(self._told_to(worker.sink))

    def _told_to(self, sink: Sink) -> list[str]:
        chosen = sink.settings.cameras
        return [camera for camera in self._cameras if not chosen or camera in chosen]

    def stop(self, timeout_s: float = 5.0) -> None:
        """Deliver what is due in half of the time, then stop; the rest stays in the outbox. May be called twice."""
        deadline = time.monotonic() + timeout_s
        self._drain(time.monotonic() + timeout_s / 2)
        self._stopping.set()
        self._store.outbox.on_put = None
        self._wake()
        if self._keeper is not None:
            self._keeper.join(max(0.0, deadline - time.monotonic()))
        for worker in self._workers.values():
            worker.join(min(timeout_s / 2, max(0.0, deadline - time.monotonic())))
        closing = [threading.Thread(target=worker.sink.close, daemon=True) for worker in self._workers.values()]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(0.0, deadline - time.monotonic()))
        for worker in self._workers.values():
            worker.join(max(0.0, deadline - time.monotonic()))

    def health(self) -> Mapping[str, SinkHealth]:
        """Sink to how it is doing.

        Raises:
            StoreError: the database does not answer.
        """
        counts = self._store.outbox.counts()
        return {name: worker.health(counts[name]) for name, worker in self._workers.items()}

    def test(self, name: str) -> None:
        """Send a trial alert to one sink at once, past the outbox.

        Raises:
            ConfigError: there is no such sink.
            DeliveryError: it did not arrive.
        """
        if name not in self._workers:
            raise ConfigError(f"no sink {name!r}: {nearest(name, self._workers)}")
        camera = self._cameras[0] if self._cameras else "test"
        payload = {"id": new_id(), "kind": "test", "time": iso(self._store.clock()), "camera": camera}
        self._workers[name].send(
            Message(payload["id"] or "", "test", camera, {**payload, "before": None, "after": None})
        )

    def _drain(self, until: float) -> None:
        """Wait until nothing is due any more."""
        running = [worker for worker in self._workers.values() if worker.is_alive()]
        while time.monotonic() < until and not self._stopping.is_set():
            try:
                if not any(worker.is_busy() for worker in running):
                    return
            except StoreError:
                return
            time.sleep(0.02)

    def _wake(self) -> None:
        for worker in self._workers.values():
            worker.wake.set()

    def _keep(self) -> None:
        """Start the workers, and one that died again."""
        for worker in self._workers.values():
            worker.begin()
        while not self._stopping.wait(RESTART_S):
            for name, worker in self._workers.items():
                if not worker.is_alive():
                    _LOG.error("the thread of sink %s has died: started again", name)
                    worker.begin()


@dataclass
class _Worker:
    """The thread of one sink."""

    store: EventStore
    sink: Sink
    stopping: threading.Event
    wake: threading.Event = field(default_factory=threading.Event)
    tries: int = 0
    failures: int = 0
    last_error: str | None = None
    last_delivery: datetime | None = None

    def __post_init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._sending = threading.Lock()

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"alerts-{self.sink.name}", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def is_busy(self) -> bool:
        """Whether an alert is on its way or due."""
        if self._sending.locked():
            return True
        due = self.store.outbox.next_due(self.sink.name)
        return due is not None and due <= self.store.clock()

    def health(self, counts: Mapping[str, int]) -> SinkHealth:
        return SinkHealth(
            counts["pending"],
            counts["delivered"],
            counts["failed"],
            counts["held"],
            self.tries,
            self.failures,
            self.last_error,
            self.last_delivery,
        )

    def send(self, message: Message) -> None:
        with self._sending:
            self.sink.deliver(message)

    def _run(self) -> None:
        while not self.stopping.is_set():
            self.wake.clear()
            try:
                alert = self.store.outbox.claim(self.sink.name, self.store.clock())
                if alert is None:
                    self.wake.wait(self._nap_s())
                else:
                    self._deliver(alert)
            except StoreError as error:
                _LOG.warning("sink %s: %s", self.sink.name, error)
                self.stopping.wait(1.0)

    def _nap_s(self) -> float:
        due = self.store.outbox.next_due(self.sink.name)
        if due is None:
            return LONGEST_NAP_S
        return min(LONGEST_NAP_S, max(0.02, (due - self.store.clock()).total_seconds()))

    def _deliver(self, alert: Alert) -> None:
        self.tries += 1
        try:
            self.send(Message(alert.id, alert.kind, alert.camera, alert.payload, self._thumbnail(alert)))
        except DeliveryError as error:
            self.failures += 1
            self.last_error = str(error)
            if self.store.outbox.failed(alert, str(error), self.store.clock()):
                _LOG.error("sink %s: alert %s given up: %s", self.sink.name, alert.id, error)
            elif alert.attempts in (1, 10, 100):
                _LOG.warning("sink %s: try %d of alert %s: %s", self.sink.name, alert.attempts, alert.id, error)
            return
        self.last_error, self.last_delivery = None, self.store.clock()
        self.store.outbox.delivered(alert, self.last_delivery)

    def _thumbnail(self, alert: Alert) -> Path | None:
        return None if alert.event_id is None else self.store.file(alert.event_id, "thumbnail")
