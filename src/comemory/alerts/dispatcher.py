"""Delivers alerts: two threads for each sink, so that a slow sink delays no other, and a slow store delays no alert."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from comemory.alerts.current import CurrentState
from comemory.alerts.in_memory_outbox import InMemoryOutbox, system_change
from comemory.alerts.rules import SinkRules
from comemory.alerts.sink import CameraCommand, CommandSink, Notification, Sink
from comemory.alerts.snoozes import Snoozes, Span
from comemory.errors import ConfigError, DeliveryError, StoreError, suggest
from comemory.store.event import iso, new_id
from comemory.store.outbox import Alert
from comemory.store.routing import Change
from comemory.store.store import EventStore

MAX_NAP_S = 15.0
CLOSE_S = 3.0
"""How long a sink that is replaced or removed may take to end."""
RESTART_S = 5.0
LATE = timedelta(seconds=60)
"""An alert that is sent so long after its change is marked as late: a siren should not start for it."""
DEAD_SINK_S = 300.0
"""How long a sink may fail before this is an error of the service, reported to the other sinks."""
STORE_AWAY_S = 2.0
"""How long the store must not answer before alerts that wait in its outbox are sent from memory."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """The condition of a sink.

    Attributes:
        pending: number of alerts that wait, in the store and in memory.
        delivered: number of alerts in the store that were delivered.
        failed: number of alerts that were given up.
        muted: number of alerts that a cool-down or quiet hours held back.
        attempts: number of attempts since the start of the dispatcher.
        failures: number of those that failed.
        last_error: why the last attempt failed; None after one that worked.
        last_delivery: None before the first one since the start.
    """

    pending: int
    delivered: int
    failed: int
    muted: int
    attempts: int
    failures: int
    last_error: str | None
    last_delivery: datetime | None


class Dispatcher:
    """Delivers alerts, each at least once, until it is too old. Once it is made, changes in the store make alerts.

    An alert comes from the store's outbox. Where the store does not take a change in time, or is away, the alert is sent
    from memory (`direct`).

    Args:
        store: whose outbox is emptied.
        sinks: each with a name of its own.
        cameras: announced to the sinks.

    Raises:
        ConfigError: two sinks have the same name.
    """

    def __init__(self, store: EventStore, sinks: Sequence[Sink], cameras: Sequence[str] = ()) -> None:
        names = [sink.name for sink in sinks]
        if len(set(names)) != len(names):
            raise ConfigError(f"two sinks have the same name: {', '.join(sorted(names))}; give each its own")
        self._store, self._cameras = store, tuple(cameras)
        self._stopping = threading.Event()
        self._snoozes = Snoozes()
        self._routes = {sink.name: SinkRules(sink.settings, self._snoozes) for sink in sinks}
        self._current, self._direct = CurrentState(), InMemoryOutbox(self._routes)
        self._parts: dict[str, str] = {}
        self._is_prepared = False
        self._workers = {sink.name: _Worker(store, sink, self._direct) for sink in sinks}
        self._supervisor: threading.Thread | None = None
        self._changing = threading.Lock()
        self.on_command: Callable[[CameraCommand], None] = lambda command: None
        self._use_routes()
        store.outbox.was_delivered = self._direct.was_delivered
        store.outbox.on_added = self._wake

    def start(self) -> None:
        """Connect the sinks and begin to deliver; a store that is away is no hindrance."""
        self._prepare()
        for worker in self._workers.values():
            self._connect(worker.sink)
        self._supervisor = threading.Thread(target=self._supervise, name="alerts", daemon=True)
        self._supervisor.start()

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Replace the cameras: sinks announce new ones, and remove what they announced of those that are gone.

        Raises:
            StoreError: the store cannot be written.
        """
        self._cameras = tuple(cameras)
        for worker in self._workers.values():
            worker.sink.set_cameras(self._cameras_of(worker.sink))

    def set_pauses(self, paused: Collection[str], snoozed: Mapping[str, Span]) -> None:
        """Replace the cameras that are not watched, and those whose events make no alerts."""
        self._snoozes.set(snoozed)
        self._current.set_pauses(paused, {camera: end for camera, (_, end) in snoozed.items()})
        self._show_current()

    def set_sinks(self, sinks: Sequence[Sink], removed: Collection[str] = ()) -> None:
        """Add or replace sinks, and remove others; all other sinks go on undisturbed.

        What waits for a sink that is replaced is delivered by the new one; what waits for a removed one is given up.
        """
        with self._changing:
            workers = dict(self._workers)
            ending = [workers.pop(name) for name in {*removed, *(sink.name for sink in sinks)} if name in workers]
            for worker in ending:
                if worker.sink.name in removed:
                    with suppress(StoreError):
                        worker.sink.set_cameras([])
                worker.end(CLOSE_S)
            added = {sink.name: _Worker(self._store, sink, self._direct) for sink in sinks}
            kept = {name: route for name, route in self._routes.items() if name in workers}
            self._routes = kept | {sink.name: SinkRules(sink.settings, self._snoozes) for sink in sinks}
            self._workers = workers | added
            self._direct.set_routes(self._routes)
            self._use_routes()
            self._prepare()
            for worker in added.values():
                self._connect(worker.sink)
                worker.start()
            self._show_current()

    def observe(self, change: Change) -> None:
        """Take in a change as it happens, before it is stored: alarms are switched, and its alerts are made in memory."""
        if change.kind == "state":
            before = self._current.state(change.camera)
            change = Change("state", change.subject, change.camera, before, change.after, stamp=change.stamp)
        self._current.update(change)
        self._direct.add(change)
        self._show_current()
        self._wake()

    def mark_stored(self, change_id: str) -> None:
        """The store has a change: its alerts are delivered from the outbox."""
        self._direct.mark_stored(change_id)

    def report(self, part: str, error: str) -> None:
        """Report the condition of a part of the service; only changes are sent.

        Args:
            part: such as `store` or `disk`.
            error: in one line; empty where all is well (again).
        """
        state, before = "error" if error else "ok", self._parts.get(part, "ok")
        if state != before:
            self._parts[part] = state
            self._direct.add(system_change(part, state, error, before), timedelta())
            self._wake()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Deliver what is due in half of the time, then stop; the rest stays in the outbox. May be called twice."""
        deadline = time.monotonic() + timeout_s
        self._drain(time.monotonic() + timeout_s / 2)
        self._stopping.set()
        self._store.outbox.on_added = None
        for worker in self._workers.values():
            worker.stopping.set()
        self._wake()
        if self._supervisor is not None:
            self._supervisor.join(max(0.0, deadline - time.monotonic()))
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
        """The condition of each sink.

        Raises:
            StoreError: the database does not answer.
        """
        counts = self._store.outbox.counts()
        return {name: worker.health(counts[name]) for name, worker in self._workers.items()}

    def send_test(self, name: str) -> None:
        """Send a test alert to one sink at once, past the outbox.

        Raises:
            ConfigError: there is no such sink.
            DeliveryError: it did not arrive.
        """
        if name not in self._workers:
            raise ConfigError(f"no sink {name!r}: {suggest(name, self._workers)}")
        id, camera = new_id(), self._cameras[0] if self._cameras else "test"
        payload = {"id": id, "kind": "test", "time": iso(self._store.clock()), "camera": camera}
        self._workers[name].send(Notification(id, "test", camera, {**payload, "before": None, "after": None}))

    def _use_routes(self) -> None:
        self._store.outbox.set_routes(self._routes)
        self._store.retained_topics.set_sinks(list(self._routes))

    def _connect(self, sink: Sink) -> None:
        if isinstance(sink, CommandSink):
            sink.on_command = lambda command: self.on_command(command)
        sink.start(self._cameras_of(sink), self._store.retained_topics)

    def _show_current(self) -> None:
        routes = self._routes
        for name, worker in self._workers.items():
            if (route := routes.get(name)) is not None:
                worker.sink.set_current(self._current.for_sink(route))

    def _cameras_of(self, sink: Sink) -> list[str]:
        chosen = sink.settings.cameras
        return [camera for camera in self._cameras if not chosen or camera in chosen]

    def _prepare(self) -> None:
        """Bring the outbox up to date with the settings, as soon as the store answers."""
        if not self._workers:
            return  # alerts of a start without sinks, such as one without the settings file, are not given up
        try:
            given_up = self._store.outbox.give_up_unknown(self._store.clock())
            self._store.queue_missed_ends()
            orphaned = self._store.retained_topics.orphaned()
        except StoreError as error:
            _LOG.warning("alerts are sent without the store until it is back: %s", error)
            return
        self._is_prepared = True
        if given_up:
            _LOG.warning("%d alerts waited for sinks that the settings no longer have: given up", given_up)
        for name, brokers in orphaned.items():
            _LOG.warning("sink %s is gone, and %s may still retain its topics", name, ", ".join(brokers))

    def _drain(self, until: float) -> None:
        """Wait until nothing is due any more."""
        running = [worker for worker in self._workers.values() if worker.is_alive()]
        while time.monotonic() < until and not self._stopping.is_set():
            if not any(worker.is_busy() for worker in running):
                return
            time.sleep(0.02)

    def _wake(self) -> None:
        for worker in self._workers.values():
            worker.wake()

    def _supervise(self) -> None:
        """Start the workers, and again one whose thread has died; report sinks that are dead."""
        for worker in self._workers.values():
            worker.start()
        while not self._stopping.wait(RESTART_S):
            if not self._is_prepared:
                self._prepare()
            for name, worker in self._workers.items():
                if not worker.is_alive():
                    _LOG.error("the thread of sink %s has died: started again", name)
                    worker.start()
                is_dead = worker.failing_since is not None and time.monotonic() - worker.failing_since > DEAD_SINK_S
                self.report(f"alerts.{name}", (worker.last_error or "") if is_dead else "")


@dataclass
class _Worker:
    """The threads of one sink: one delivers what the store has, one what is in memory.

    Attributes:
        failing_since: when the first of the failures since the last delivery was, on the monotonic clock.
        away_since: when the store stopped to answer, on the monotonic clock.
    """

    store: EventStore
    sink: Sink
    direct: InMemoryOutbox
    stopping: threading.Event = field(default_factory=threading.Event)
    attempts: int = 0
    failures: int = 0
    last_error: str | None = None
    last_delivery: datetime | None = None
    failing_since: float | None = None
    away_since: float | None = None

    def __post_init__(self) -> None:
        self._sending = threading.Lock()
        self._loops = (
            _Loop(f"alerts-{self.sink.name}", self._deliver_stored, self._stored_nap_s, self.stopping),
            _Loop(f"alerts-{self.sink.name}-direct", self._deliver_direct, self._direct_nap_s, self.stopping),
        )
        minutes = getattr(self.sink.settings, "heartbeat_min", None)
        self._heartbeat_s: float = math.inf if minutes is None else minutes * 60
        self._next_heartbeat = time.monotonic() if minutes is not None else math.inf

    def start(self) -> None:
        """Start the threads that do not run."""
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """Look for alerts at once."""
        for loop in self._loops:
            loop.wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the threads."""
        deadline = time.monotonic() + timeout_s
        for loop in self._loops:
            loop.join(max(0.0, deadline - time.monotonic()))

    def end(self, timeout_s: float) -> None:
        """Stop the threads, and close the sink."""
        deadline = time.monotonic() + timeout_s
        self.stopping.set()
        self.wake()
        self.join(timeout_s / 2)
        closing = threading.Thread(target=self.sink.close, daemon=True)
        closing.start()
        closing.join(max(0.0, deadline - time.monotonic()))
        self.join(max(0.0, deadline - time.monotonic()))

    def is_alive(self) -> bool:
        """Whether both threads run."""
        return all(loop.is_alive() for loop in self._loops)

    def is_busy(self) -> bool:
        """Whether an alert is on its way or due."""
        if self._sending.locked():
            return True
        direct = self.direct.next_due(self.sink.name)
        if direct is not None and direct <= datetime.now(UTC):
            return True
        try:
            due = self.store.outbox.next_due(self.sink.name)
        except StoreError:
            return False
        return due is not None and due <= self.store.clock()

    def health(self, counts: Mapping[str, int]) -> SinkHealth:
        return SinkHealth(
            counts["pending"] + self.direct.n_waiting(self.sink.name),
            counts["delivered"],
            counts["failed"],
            counts["muted"],
            self.attempts,
            self.failures,
            self.last_error,
            self.last_delivery,
        )

    def send(self, notification: Notification) -> None:
        """Deliver, and note how it went. Raises DeliveryError."""
        with self._sending:
            self.attempts += 1
            try:
                self.sink.deliver(notification)
            except DeliveryError as error:
                self.failures += 1
                self.last_error = str(error)
                self.failing_since = self.failing_since or time.monotonic()
                raise
            self.last_error, self.failing_since, self.last_delivery = None, None, self.store.clock()

    def _deliver_stored(self) -> bool:
        """Deliver the next alert of the outbox; False where nothing is due, or the store does not answer."""
        try:
            alert = self.store.outbox.claim(self.sink.name, self.store.clock())
            self.away_since = None
            if alert is not None:
                self._deliver_claimed(alert)
        except StoreError as error:
            if self.away_since is None:
                self.away_since = time.monotonic()
                _LOG.warning("sink %s: %s", self.sink.name, error)
            return False
        return alert is not None

    def _deliver_claimed(self, alert: Alert) -> None:
        if self.direct.was_delivered(alert.id):
            self.store.outbox.mark_delivered(alert, self.store.clock())
            return
        try:
            self.send(self._notification(alert))
        except DeliveryError as error:
            if self.stopping.is_set():
                return  # the sink may be gone; the next attempt is planned already
            if self.store.outbox.mark_failed(alert, str(error), self.store.clock()):
                _LOG.error("sink %s: alert %s given up: %s", self.sink.name, alert.id, error)
            else:
                self._log_failure(alert, error)
            return
        self.direct.mark_delivered(alert.id)
        self.store.outbox.mark_delivered(alert, self.store.clock())

    def _deliver_direct(self) -> bool:
        """Deliver the next alert that the store does not have, and heartbeats; False where nothing is due."""
        if time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + self._heartbeat_s
            self._send_heartbeat()
        is_away = self.away_since is not None and time.monotonic() - self.away_since > STORE_AWAY_S
        alert = self.direct.claim(self.sink.name, datetime.now(UTC), is_store_away=is_away)
        if alert is None:
            return False
        try:
            self.send(self._notification(alert))
        except DeliveryError as error:
            if self.stopping.is_set():
                return False
            self.direct.mark_failed(alert, datetime.now(UTC))
            self._log_failure(alert, error)
        else:
            self.direct.mark_delivered(alert.id)
        return True

    def _send_heartbeat(self) -> None:
        """Tell a watchdog that the service lives. A heartbeat that does not arrive is not repeated: the next one is."""
        id, error = new_id(), self.store.error or self.store.warning or ""
        payload = {"id": id, "kind": "heartbeat", "time": iso(datetime.now(UTC)), "camera": "", "before": None}
        after = {"state": "error" if error else "ok", "message": error}
        with suppress(DeliveryError):
            self.send(Notification(id, "heartbeat", "", {**payload, "after": after}))

    def _log_failure(self, alert: Alert, error: DeliveryError) -> None:
        if alert.attempts in (1, 10, 100):
            _LOG.warning("sink %s: attempt %d of alert %s: %s", self.sink.name, alert.attempts, alert.id, error)

    def _stored_nap_s(self) -> float:
        """Until the next alert of the outbox is due; a second while the store does not answer."""
        if self.away_since is not None:
            return 1.0
        try:
            due = self.store.outbox.next_due(self.sink.name)
        except StoreError:
            return 1.0
        return MAX_NAP_S if due is None else (due - self.store.clock()).total_seconds()

    def _direct_nap_s(self) -> float:
        """Until the next alert in memory is due; a second while the store does not answer."""
        due = self.direct.next_due(self.sink.name)
        nap_s = MAX_NAP_S if due is None else (due - datetime.now(UTC)).total_seconds()
        nap_s = min(nap_s, self._next_heartbeat - time.monotonic())
        return nap_s if self.away_since is None else min(nap_s, 1.0)

    def _notification(self, alert: Alert) -> Notification:
        payload = alert.payload
        if datetime.now(UTC) - alert.created > LATE:
            payload = {**payload, "late": True}
        return Notification(alert.id, alert.kind, alert.camera, payload, self._thumbnail(alert))

    def _thumbnail(self, alert: Alert) -> Path | None:
        try:
            return None if alert.event_id is None else self.store.file(alert.event_id, "thumbnail")
        except StoreError:
            return None


class _Loop:
    """A thread that does a piece of work again and again, and naps while there is none."""

    def __init__(
        self, name: str, work: Callable[[], bool], nap_s: Callable[[], float], stopping: threading.Event
    ) -> None:
        self.wake = threading.Event()
        self._name, self._work, self._nap_s, self._stopping = name, work, nap_s, stopping
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if not self.is_alive():
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.wake.clear()
            if not self._work():
                self.wake.wait(min(MAX_NAP_S, max(0.02, self._nap_s())))
