"""Writes events: a line in `events.jsonl`, a row in the store, and files beside it; never blocks a worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from comemory.errors import ComemoryError, StoreError
from comemory.live.recording.disk_writer import DiskWriter
from comemory.live.recording.event_lines import EventLines
from comemory.live.recording.task_queue import Task, TaskQueue
from comemory.store.event import FileKind, StateChange, StoredEvent
from comemory.store.routing import Change, ChangeStamp
from comemory.store.write_ahead import EventChange, WriteAheadEntry, WriteAheadLog

if TYPE_CHECKING:
    from comemory.live.recording.media_uploader import MediaUploader
    from comemory.store.activity import HourOfActivity
    from comemory.store.store import EventStore

FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
WRITE_ERRORS = (ComemoryError, OSError, ValueError, ArithmeticError)
Destination = Literal["store", "disk", "lines", "pictures", "clips", "uploads"]
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

    Alerts are notified of a change at once. It is then written to the store's write-ahead file, before anything else can
    be seen of it, and stays there until the database has it: what an outage, a crash or the end of the process leaves there
    is stored at the next start. A disk that hangs stops nothing: after a moment the caller goes on, see `DiskWriter`.

    Writes to the store are retried here, and nowhere else, for as long as the failure is temporary: a full disk, a
    database that is locked or not reachable. A write that can never succeed is reported and skipped. The lines of
    `events.jsonl` are written at once and do not wait for the store.

    While the store is away, the writes for it wait. Scores of minutes and activity take no more than half of the places,
    and are dropped then. Changes of events that find no place stay in the write-ahead file and are stored from there.

    Attributes:
        error: what cannot be written at the moment, in one line; empty if everything can.
        n_dropped: minutes of scores and parts of hours of activity that were dropped.

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
        self.n_dropped = 0
        self._on_error, self._alerts = on_error, alerts
        self._tasks = TaskQueue("event-writer")
        self._disk = DiskWriter("write-ahead", self._report_hang)
        self._uploader = self._open_uploader()
        self._lines = EventLines(out / "events.jsonl")
        self._has_backlog = False
        self._backlog_lock = threading.Lock()
        self._errors: dict[Destination, str] = {}
        self._errors_lock = threading.Lock()

    @property
    def scratch(self) -> Path:
        """Folder for files that are not attached to their event yet."""
        return self.out / "media" / ".scratch" if self.store is None else self.store.scratch

    def start(self) -> None:
        """Start the writing thread, with what an earlier process did not store."""
        if (store := self.store) is not None and store.write_ahead is not None and store.write_ahead.left_over:
            self._queue_write(store.replay, "what an earlier process left is stored at the next start")
        self._disk.start()
        self._tasks.start()
        if self._uploader is not None:
            self._uploader.start()

    def restart(self) -> None:
        """See `TaskQueue.restart`."""
        self._disk.restart()
        self._tasks.restart()
        if self._uploader is not None:
            self._uploader.restart()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits and end the threads; False if that takes longer than `timeout_s`."""
        end = time.monotonic() + timeout_s
        is_written = self._disk.stop(timeout_s / 2)
        is_written &= self._tasks.finish(max(0.0, end - time.monotonic()))
        if self._uploader is not None:
            self._uploader.stop(max(0.0, end - time.monotonic()))
        return is_written

    def upload(self) -> None:
        """Upload what waits for the object store, and delete there what was deleted here; does not wait for it."""
        if self._uploader is not None:
            self._uploader.look()

    @property
    def n_unstored(self) -> int:
        """Changes that wait in the write-ahead file."""
        return 0 if self.store is None or self.store.write_ahead is None else len(self.store.write_ahead)

    def write_event(self, change: EventChange, event: StoredEvent) -> None:
        """Write an event that is `new`, has an `update`, or has come to its `end`."""
        self._record(
            WriteAheadEntry(change, event, ChangeStamp()), {"change": change, "time": _now(), "event": event.to_json()}
        )

    def write_state(self, camera: str, state: str, message: str) -> None:
        """Write that a camera's state has changed."""
        at = datetime.now(UTC)
        line = {"change": "state", "time": _now(), "camera": camera, "state": state, "message": message}
        self._record(
            WriteAheadEntry("state", StateChange(camera, state, message or None, at), ChangeStamp(time=at)), line
        )

    def _record(self, entry: WriteAheadEntry, line: Mapping[str, object]) -> None:
        """Make the alerts of a change, write it ahead, then its line, and queue it for the database.

        The alerts wait for no disk. They are sent once the database has the change, or some seconds later: by then the
        write-ahead file has it, unless the disk hangs. So after a crash, what anybody can have seen is stored.
        """
        store = self.store
        log = None if store is None else store.write_ahead
        if log is not None:
            log.add(entry)
        if store is not None and self._alerts is not None:
            self._alerts.observe(entry.as_change())
        if not self._disk.run(lambda: self._write_ahead(log, entry, line)):
            self.report("disk", "too many changes wait for a disk that does not answer: one is in memory only")
        if store is not None:
            self._queue_change(store, entry)

    def _write_ahead(self, log: WriteAheadLog | None, entry: WriteAheadEntry, line: Mapping[str, object]) -> None:
        if log is not None:
            log.write(entry)
        self._write_line(line)

    def _report_hang(self, is_hanging: bool) -> None:
        error = f"the disk of {self.out} does not answer: changes wait in memory, and would be lost with the process"
        self.report("disk", error if is_hanging else "")

    def _queue_change(self, store: EventStore, entry: WriteAheadEntry) -> None:
        """Queue a change for the database. Once one found no place, those after it wait behind it: their order stays."""
        with self._backlog_lock:
            if not self._has_backlog:
                refused = "the store is too slow: changes wait in the write-ahead file"
                self._has_backlog = not self._queue_write(lambda: self._apply(store, entry), refused)

    def _store_backlog(self, subject: str | None = None) -> None:
        """Store the changes that found no place in the queue.

        Args:
            subject: those of one event; None stores all of them once nothing else waits.
        """
        store = self.store
        if store is None or (log := store.write_ahead) is None:
            return
        while self._has_backlog and not self._tasks.stopping.is_set() and (subject or not self._tasks.n_waiting):
            with self._backlog_lock:
                entry = next((entry for entry in log.waiting() if subject in (None, entry.subject)), None)
                if entry is None:
                    self._has_backlog = self._has_backlog and subject is not None
                    return
            self._write_with_retry(partial(self._apply, store, entry))

    def _apply(self, store: EventStore, entry: WriteAheadEntry) -> None:
        """Store a change, unless that was done; one that can never be stored leaves the write-ahead file."""
        if (log := store.write_ahead) is not None and not log.is_waiting(entry):
            return
        try:
            store.apply(entry)
        except WRITE_ERRORS as error:
            if log is not None and not _is_temporary(error):
                log.remove(entry)
            raise
        if entry.kind == "end":
            self.upload()
        if self._alerts is not None:
            self._alerts.mark_stored(entry.stamp.id)

    def write_scores(self, camera: str, minute: datetime, maxima: list[float], model: str) -> None:
        """Write the highest scores of the parts of a minute; to the store only."""
        if (store := self.store) is not None:
            self._queue_optional(lambda: store.record_scores(camera, minute, maxima, model))

    def write_activity(self, camera: str, part: HourOfActivity) -> None:
        """Write what moved in a part of an hour; to the store only."""
        if (store := self.store) is not None:
            self._queue_optional(lambda: store.record_activity(camera, part))

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

        self._submit(task, "what moved in earlier hours is not read")

    def attach(
        self, event_id: str, kind: FileKind, make: Callable[[], Path], on_lost: Callable[[], None] = lambda: None
    ) -> bool:
        """Make a file and store it with its event; False if too many writes wait, then nothing is made.

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

        if self._submit(task, "the store is too slow: images of events are dropped, and clips wait for the next start"):
            return True
        on_lost()
        return False

    def attach_clip(self, event_id: str, path: Path, on_lost: Callable[[], None] = lambda: None) -> None:
        """Store a clip with its event. Where too many writes wait, it stays where it is: the next start finds it there."""
        if not self.attach(event_id, "clip", lambda: path, on_lost):
            self.report("clips", f"too many writes wait for the store: the clip stays in {path}")

    def expire_lines(self, before: datetime) -> None:
        """Remove the lines of `events.jsonl` of changes before a time."""
        try:
            self._lines.expire(before)
        except OSError as error:
            self.report("lines", f"cannot shorten {self._lines.path}: {error.strerror or error}")

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
        if self.store is None:
            self._move(path, self.out / "media" / event_id / f"{kind}{path.suffix}")
            return
        self._store_backlog(event_id)
        try:
            self._attach_with_retry(self.store, event_id, kind, path, destination)
            self.upload()
        except (ComemoryError, OSError):
            if self._is_waiting(event_id) or self.store.get(event_id) is not None:
                raise
            with suppress(OSError):
                path.unlink()

    def _open_uploader(self) -> MediaUploader | None:
        if self.store is None or self.store.uploads is None:
            return None
        # Imported late, as below.
        from comemory.live.recording.media_uploader import MediaUploader

        return MediaUploader(self.store.uploads, partial(self.report, "uploads"))

    def _move(self, path: Path, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(f"cannot move {path} to {target}: {reason}; it stays where it is") from None

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

    def _queue_write(self, write: Callable[[], object], refused: str, *, is_optional: bool = False) -> bool:
        return self._submit(lambda: self._write_with_retry(write), refused, is_optional=is_optional)

    def _queue_optional(self, write: Callable[[], object]) -> None:
        refused = "the store is too slow: scores of minutes and activity are dropped, events are not"
        self.n_dropped += not self._queue_write(write, refused, is_optional=True)

    def _submit(self, task: Task, refused: str, *, is_optional: bool = False) -> bool:
        """Queue a task; where there is no place for it, report what follows."""

        def run() -> None:
            task()
            if self._has_backlog:
                self._store_backlog()

        is_queued = self._tasks.submit(run, is_optional=is_optional)
        if not is_queued:
            self.report("store", refused)
        return is_queued

    def _write_with_retry(self, write: Callable[[], object]) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            try:
                write()
            except WRITE_ERRORS as error:
                self.report("store", str(error))
                if not _is_temporary(error) or self._tasks.stopping.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, MAX_RETRY_S)
            else:
                self.report("store", "")
                return

    def _write_line(self, values: Mapping[str, object]) -> None:
        try:
            self._lines.append(values)
        except (OSError, ValueError) as error:
            self.report("lines", f"cannot write {self._lines.path}: {getattr(error, 'strerror', None) or error}")
        else:
            self.report("lines", "")


def _is_temporary(error: BaseException) -> bool:
    # Imported late: the store's libraries are not installed where events go to files only.
    from comemory.store.database import is_temporary

    return is_temporary(error)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
