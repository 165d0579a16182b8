"""Writes events: a line in `events.jsonl`, a row in the store, and files beside it; never blocks a worker."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from comemory.errors import ComemoryError
from comemory.live.recording.task_queue import Task, TaskQueue
from comemory.store.event import FileKind, StateChange, StoredEvent
from comemory.store.routing import Change, Stamp
from comemory.store.write_ahead import Entry, EventChange

if TYPE_CHECKING:
    from comemory.store.activity import HourOfActivity
    from comemory.store.store import EventStore

FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
Destination = Literal["store", "lines", "pictures", "clips"]
"""What is written; each can fail while the others work."""


class AlertObserver(Protocol):
    """What the writer needs of alerts: they are sent whether the store takes the change or not."""

    def observe(self, change: Change) -> None:
        """A change has happened; it is not stored yet."""
        ...

    def mark_stored(self, change_id: str) -> None:
        """The store has the change, and its alerts."""
        ...

    def report(self, part: str, error: str) -> None:
        """A part of the service has an error; empty where it has none (any more)."""
        ...

    def set_pauses(self, paused: Collection[str], snoozed: Mapping[str, tuple[datetime, datetime]]) -> None:
        """These cameras are not watched, and those make no alerts between two times."""
        ...


class EventWriter:
    """Writes events, camera states and scores to `events.jsonl` and to the store, in order.

    Each change of an event or a state is first written to the store's write-ahead file, and stays there until the
    database has it: what an outage, a crash or the end of the process leaves there is stored at the next start.

    Writes to the store are retried here, and nowhere else, for as long as the failure is temporary: a full disk, a
    database that is locked or not reachable. A write that can never succeed is reported and skipped. The lines of
    `events.jsonl` are written at once and do not wait for the store.

    Attributes:
        error: what cannot be written at the moment, in one line; empty if everything can.

    Args:
        out: folder of `events.jsonl` and, without a store, of `media/`.
        store: None writes events to files only.
        on_error: called with each new value of `error`.
        alerts: notified of every change at once.
    """

    def __init__(
        self,
        out: Path,
        store: EventStore | None,
        on_error: Callable[[str], None],
        alerts: AlertObserver | None = None,
    ) -> None:
        self.out, self.store = out, store
        self.error = ""
        self._on_error, self._alerts = on_error, alerts
        self._tasks = TaskQueue("event-writer")
        self._lines_lock = threading.Lock()
        self._errors: dict[Destination, str] = {}
        self._errors_lock = threading.Lock()

    @property
    def scratch(self) -> Path:
        """Folder for files that are not attached to their event yet."""
        return self.out / "media" / ".scratch" if self.store is None else self.store.scratch

    def start(self) -> None:
        """Start the writing thread, with what an earlier process did not store."""
        if (store := self.store) is not None and store.write_ahead is not None and store.write_ahead.left_over:
            self._queue_write(store.replay)
        self._tasks.start()

    def restart(self) -> None:
        """See `TaskQueue.restart`."""
        self._tasks.restart()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits and end the thread; False if that takes longer than `timeout_s`."""
        return self._tasks.finish(timeout_s)

    @property
    def n_unstored(self) -> int:
        """Changes that wait in the write-ahead file."""
        return 0 if self.store is None or self.store.write_ahead is None else len(self.store.write_ahead)

    def write_event(self, change: EventChange, event: StoredEvent) -> None:
        """Write an event that is `new`, has an `update`, or has come to its `end`."""
        self._record(Entry(change, event, Stamp()), {"change": change, "time": _now(), "event": event.to_json()})

    def write_state(self, camera: str, state: str, message: str) -> None:
        """Write that a camera's state has changed."""
        at = datetime.now(UTC)
        line = {"change": "state", "time": _now(), "camera": camera, "state": state, "message": message}
        self._record(Entry("state", StateChange(camera, state, message or None, at), Stamp(time=at)), line)

    def _record(self, entry: Entry, line: Mapping[str, object]) -> None:
        """Write a change ahead, then its line, send its alerts, and queue it for the database.

        The write-ahead file comes first: after a crash, what anybody can have seen is stored.
        """
        store = self.store
        if store is not None and store.write_ahead is not None:
            store.write_ahead.append(entry)
        self._write_line(line)
        if store is None:
            return
        if self._alerts is not None:
            self._alerts.observe(entry.as_change())
        self._queue_write(lambda: self._apply(store, entry))

    def _apply(self, store: EventStore, entry: Entry) -> None:
        try:
            store.apply(entry)
        except ComemoryError as error:
            if store.write_ahead is not None and not _is_temporary(error):
                store.write_ahead.remove(entry)
            raise
        if self._alerts is not None:
            self._alerts.mark_stored(entry.stamp.id)

    def write_scores(self, camera: str, minute: datetime, maxima: list[float], model: str) -> None:
        """Write the highest scores of the parts of a minute; to the store only."""
        if (store := self.store) is not None:
            self._queue_write(lambda: store.record_scores(camera, minute, maxima, model))

    def write_activity(self, camera: str, part: HourOfActivity) -> None:
        """Write what moved in a part of an hour; to the store only."""
        if (store := self.store) is not None:
            self._queue_write(lambda: store.record_activity(camera, part))

    def read_activity(self, camera: str, since: datetime, take: Callable[[list[HourOfActivity]], None]) -> None:
        """Read what moved at a camera, and pass it on from the writing thread; nothing while the store is away.

        Args:
            camera: its name.
            since: beginning of the first hour.
            take: called with the hours, in order.
        """
        if (store := self.store) is None:
            return

        def task() -> None:
            with suppress(ComemoryError):
                take(store.activity(camera, since))

        self._submit(task)

    def attach(
        self, event_id: str, kind: FileKind, make: Callable[[], Path], on_lost: Callable[[], None] = lambda: None
    ) -> bool:
        """Make a file and store it with its event; False if too many writes wait.

        Args:
            event_id: id of the event.
            kind: of the file.
            make: writes the file and gives its path; called from the writing thread.
            on_lost: called if the file cannot be stored, from whichever thread finds that out.
        """
        destination: Destination = "clips" if kind == "clip" else "pictures"

        def task() -> None:
            try:
                self._store_file(event_id, kind, make(), destination)
            except (ComemoryError, OSError) as error:
                self.report(destination, str(error))
                on_lost()
            else:
                self.report(destination, "")

        if self._submit(task):
            return True
        on_lost()
        return False

    def report(self, destination: Destination, error: str) -> None:
        """Set why a destination cannot be written; an empty text if it can be again."""
        with self._errors_lock:
            if error != self._errors.get(destination, ""):
                self._errors[destination] = error
                before, self.error = self.error, "; ".join(filter(None, dict.fromkeys(self._errors.values())))
                if self.error != before:
                    self._on_error(self.error)
                    if self._alerts is not None:
                        self._alerts.report("store", self.error)

    def _store_file(self, event_id: str, kind: FileKind, path: Path, destination: Destination) -> None:
        """Move a file to its event. While the store is away it is tried again.

        A file that cannot be moved stays in `scratch`: the next start, or an operator, finds it there. It is deleted only if
        its event was.
        """
        try:
            if self.store is not None:
                self._attach_with_retry(self.store, event_id, kind, path, destination)
            else:
                target = self.out / "media" / event_id / f"{kind}{path.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
        except (ComemoryError, OSError):
            if self.store is not None and (self._is_waiting(event_id) or self.store.get(event_id) is not None):
                raise
            with suppress(OSError):
                path.unlink()
            if self.store is None:
                raise

    def _is_waiting(self, event_id: str) -> bool:
        """Whether an event is in the write-ahead file only."""
        log = None if self.store is None else self.store.write_ahead
        return log is not None and event_id in log.waiting_subjects()

    def _attach_with_retry(
        self, store: EventStore, event_id: str, kind: FileKind, path: Path, destination: Destination
    ) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            try:
                store.attach(event_id, kind, path)
                return
            except ComemoryError as error:
                is_lost = not path.exists() or not _is_temporary(error)
                if is_lost or self._tasks.stopping.wait(pause_s):
                    raise
                self.report(destination, str(error))
                pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _queue_write(self, write: Callable[[], object]) -> None:
        self._submit(lambda: self._write_with_retry(write))

    def _submit(self, task: Task) -> bool:
        is_queued = self._tasks.submit(task)
        if not is_queued:
            self.report("store", "the store is too slow: a change was dropped and is in events.jsonl only")
        return is_queued

    def _write_with_retry(self, write: Callable[[], object]) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            try:
                write()
            except (ComemoryError, OSError, ValueError, ArithmeticError) as error:
                self.report("store", str(error))
                if not _is_temporary(error) or self._tasks.stopping.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, MAX_RETRY_S)
            else:
                self.report("store", "")
                return

    def _write_line(self, values: Mapping[str, object]) -> None:
        path = self.out / "events.jsonl"
        try:
            text = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
            with self._lines_lock:
                _append(path, text.encode(errors="backslashreplace"))
        except (OSError, ValueError) as error:
            self.report("lines", f"cannot write {path}: {getattr(error, 'strerror', None) or error}")
        else:
            self.report("lines", "")


def _is_temporary(error: BaseException) -> bool:
    # Imported late: the store's libraries are not installed where events go to files only.
    from comemory.store.database import is_temporary

    return is_temporary(error)


def _append(path: Path, line: bytes) -> None:
    """Append a line as a whole or not at all, on a line of its own even if a crash left the last one incomplete."""
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            while line:
                line = line[file.write(line) :]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
