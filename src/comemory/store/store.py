"""The store: events, what became of them, and the alerts they make, each written in one transaction or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import delete, insert, select

from comemory.alerts.rules import Change
from comemory.errors import StoreError, short
from comemory.store.database import Database
from comemory.store.event import (
    FILE_KINDS,
    Counts,
    FileKind,
    Mark,
    StateChange,
    StoredEvent,
    Swept,
    Verdict,
    VerdictChange,
    new_id,
    utc,
)
from comemory.store.media import Media
from comemory.store.reader import StoreReader
from comemory.store.retained_topics import Announced
from comemory.store.retention import Retention
from comemory.store.rows import read_event, read_events, read_states, write_event, write_scores, write_state
from comemory.store.schema import events, files
from comemory.store.scores import ScoreSummary, pack
from comemory.store.verdicts import missing, say, take_back

STALE = timedelta(days=7)
"""A file that has waited so long to be attached is not waited for any more."""

__all__ = [
    "Counts",
    "EventStore",
    "FileKind",
    "Mark",
    "ScoreSummary",
    "StateChange",
    "StoredEvent",
    "Swept",
    "Verdict",
    "VerdictChange",
    "new_id",
]


class EventStore(StoreReader):
    """Events in a database, their files in a folder. Every method may be called from any thread.

    Attributes:
        media: the folder of files.
        scratch: where files may be written before they are attached; emptied at every opening.
        url: of the database, its password masked.
        outbox: the alerts that wait; a `Dispatcher` tells it of the sinks.
        announced: what brokers keep of us.
        clock: what time it is, with a time zone.
    """

    def __init__(self, database: Database, media: Media, clock: Callable[[], datetime]) -> None:
        super().__init__(database, media)
        self.media, self.scratch, self.url = media.folder, media.scratch, database.shown
        self.announced = Announced(database, media.site)
        self.clock = clock
        self._begun: set[str] = set()
        self._retention = Retention(database, media)
        self._filing = threading.RLock()

    @classmethod
    def open(
        cls,
        url: str,
        media: Path,
        *,
        shared: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> EventStore:
        """Open a store, made where there is none: bring its schema up to date, and repair what a crash left.

        Args:
            url: `sqlite:///PATH`, a bare path, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.
            media: folder of files; one process owns it at a time.
            shared: look on beside the process that owns the folder; nothing is repaired or swept.
            clock: what time it is, with a time zone.

        Raises:
            ConfigError: the URL is of another kind.
            RuntimeMissing: PostgreSQL is asked for and psycopg is not installed.
            StoreError: it cannot be opened, is newer than this program, or another process owns the folder.
        """
        folder = Media(media, shared=shared)
        try:
            database = Database(url)
        except BaseException:
            folder.close()
            raise
        store = cls(database, folder, clock)
        try:
            if not shared:
                folder.clear_scratch()
                store.recover()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def trouble(self) -> str | None:
        """Why the last write failed, such as a full disk; None after one that worked."""
        return self._database.trouble or self._media.trouble

    def close(self) -> None:
        """Let go of the database and the folder. May be called twice."""
        self._database.close()
        self._media.close()

    def __enter__(self) -> EventStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, event: StoredEvent) -> None:
        """Store an event that has just begun.

        Raises:
            StoreError: it cannot be written, StoreFull because the disk is full; call `update` or `end` later.
        """
        self._begun.add(event.id)
        self._write_event(event, "new")

    def update(self, event: StoredEvent) -> None:
        """Store how an open event stands; its verdict and files stay as they are. Inserts it if `begin` failed.

        Raises:
            StoreError: it cannot be written.
        """
        self._begun.add(event.id)
        self._write_event(event, "update")

    def end(self, event: StoredEvent) -> None:
        """Store an event that is over; its verdict and files stay as they are. Inserts it if `begin` failed.

        Raises:
            StoreError: it cannot be written, or has no end.
        """
        if event.end is None:
            raise StoreError(f"event {event.id} has no end: set it before the event is ended")
        self._write_event(event, "end")
        self._begun.discard(event.id)

    def _write_event(self, event: StoredEvent, kind: Literal["new", "update", "end"]) -> None:
        now = self.clock()
        with self._database.write() as connection:
            before = read_event(connection, event.id)
            if before is not None and before.end is not None and event.end is None:
                raise StoreError(f"event {event.id} has ended: it cannot be open again")
            write_event(connection, event, self._media.site, now, is_new=before is None)
            after = read_event(connection, event.id)
            if after is not None:
                told = before.to_json() if before else None
                change = Change(kind, event.id, event.camera, told, after.to_json(), after)
                self.outbox.put(connection, change, now)
        self.outbox.announce()

    def tell_missed_ends(self) -> int:
        """Put the ends of events that a crash left open into the outbox, for sinks that heard of their beginning.

        Events are closed when the store is opened, before it knows of sinks; a `Dispatcher` asks for this when it starts.

        Raises:
            StoreError: it cannot be written.
        """
        with self._database.write() as connection:
            missed = self.outbox.missed_ends(connection)
            for sink, id in missed:
                event = read_event(connection, id)
                if event is not None:
                    after = event.to_json()
                    change = Change("end", id, event.camera, {**after, "end": None}, after, event)
                    self.outbox.put(connection, change, self.clock(), only=sink)
        return len(missed)

    def attach(self, id: str, kind: FileKind, source_path: Path) -> str:
        """Move a file into the store and say where it lies, relative to `media`; it replaces one of its kind.

        Raises:
            StoreError: there is no such event or kind, or the file cannot be moved; StoreFull on a full disk.
        """
        if kind not in FILE_KINDS:
            raise StoreError(f"unknown kind of file {short(kind)}: expected one of {', '.join(FILE_KINDS)}")
        with self._filing:
            event = self._existing(id)
            path = self._media.path_for(event.camera, id, event.start, kind, source_path.suffix)
            size = self._media.take(source_path, path)
            replaced = event.files.get(kind)
            try:
                with self._database.write() as connection:
                    connection.execute(delete(files).where(files.c.event_id == id, files.c.kind == kind))
                    connection.execute(insert(files).values(event_id=id, kind=kind, path=path, bytes=size))
            except StoreError:
                if replaced != path:
                    self._media.remove(path)
                raise
            if replaced is not None and replaced != path:
                self._media.remove(replaced)
        return path

    def set_verdict(self, id: str, verdict: Verdict | None, by: str) -> StoredEvent:
        """Keep what a person says of an event, and give the event as it is now; None takes the verdict away.

        Raises:
            StoreError: there is no such event or verdict, or it cannot be written.
        """
        if verdict not in (None, "normal", "abnormal"):
            raise StoreError(f"unknown verdict {short(verdict)}: expected 'normal', 'abnormal' or None")
        with self._database.write() as connection:
            return say(connection, id, verdict, by, self.clock())

    def undo_verdict(self, id: str, by: str) -> StoredEvent:
        """Take back the newest verdict that stands; with none, nothing changes.

        Raises:
            StoreError: there is no such event, or it cannot be written.
        """
        with self._database.write() as connection:
            return take_back(connection, id, by, self.clock())

    def record_state(self, camera: str, state: str, message: str | None = None, at: datetime | None = None) -> None:
        """Keep a camera's health from now (or `at`) on; the state it is in already is not written again.

        Raises:
            StoreError: it cannot be written.
        """
        now = utc(at) if at is not None else self.clock()
        after = StateChange(camera, state, message, now)
        with self._database.write() as connection:
            last = read_states(connection, camera, None, 1, self._media.site)
            if last and last[0].state == state:
                return
            write_state(connection, after, self._media.site)
            before = last[0].to_json() if last else None
            change = Change("state", f"state:{camera}", camera, before, after.to_json())
            self.outbox.put(connection, change, self.clock())
        self.outbox.announce()

    def record_scores(self, camera: str, minute: datetime, maxima: Sequence[float], model: str = "") -> None:
        """Keep the highest scores of equal parts of one minute, 1 to 60 of them; a minute given again is replaced.

        Args:
            minute: any time in it.
            model: scores of different models cannot be compared: the bundle's hash, as in events.

        Raises:
            StoreError: the maxima are not that, or cannot be written.
        """
        packed = pack(maxima)
        with self._database.write() as connection:
            write_scores(connection, camera, utc(minute), max(maxima), packed, model, self._media.site)

    def delete(self, id: str) -> bool:
        """Delete an event with its files and history; say whether it was there.

        Raises:
            StoreError: it is still open, or cannot be deleted.
        """
        with self._filing:
            event = self.get(id)
            if event is not None and event.end is None:
                raise StoreError(f"event {id} is still open: delete it when it is over")
            return self._retention.delete(id)

    def recover(self) -> Swept:
        """Close events that no running process of this folder began, and delete files that belong to none.

        Raises:
            StoreError: the store is shared, or cannot be written.
        """
        self._require_owned()
        closed = 0
        with self._database.read() as connection:
            left = events.c.end.is_(None), events.c.site == self._media.site
            lost = [event for event in read_events(connection, *left) if event.id not in self._begun]
            rows = connection.execute(select(events.c.id, events.c.updated).where(*left))
            updated = {row.id: row.updated for row in rows}
        for event in lost:
            self.end(replace(event, end=max(event.start, event.peak, updated[event.id])))
            closed += 1
        with self._filing:
            orphans, freed = self._retention.remove_orphans()
        return Swept(closed=closed, orphans=orphans, bytes_freed=freed)

    def sweep(self, now: datetime, days: float | None, max_bytes: int | None, min_free_bytes: int = 0) -> Swept:
        """Delete the oldest files until the quota and the disk are kept, repair, and delete what is too old.

        Files that were to be attached for `STALE` and never were go too.

        Events with a verdict lose their files but stay, since feedback rests on them; `delete` takes those too.

        Args:
            days: how long events, scores and states are kept; None keeps them.
            max_bytes: of all files together; None is no quota.
            min_free_bytes: on the disk of the files.

        Raises:
            StoreError: the store is shared, or cannot be written.
        """
        self._require_owned()
        with self._filing:
            done = self._retention.make_room(max_bytes, min_free_bytes, Swept())
            if done.files and not done.short:
                self._media.trouble = None
            repaired = self.recover()
            done = replace(
                done,
                closed=repaired.closed,
                orphans=repaired.orphans,
                bytes_freed=done.bytes_freed + repaired.bytes_freed + self._clear_stale(utc(now)),
            )
            return self._retention.expire(utc(now), days, done)

    def _clear_stale(self, now: datetime) -> int:
        """Delete what was left in `scratch`, and say how many bytes that was."""
        freed = 0
        for path in self.scratch.rglob("*"):
            with suppress(OSError):
                status = path.stat()
                if path.is_file() and now.timestamp() - status.st_mtime > STALE.total_seconds():
                    path.unlink()
                    freed += status.st_size
        return freed

    def _existing(self, id: str) -> StoredEvent:
        event = self.get(id)
        if event is None:
            raise missing(id)
        return event

    def _require_owned(self) -> None:
        if not self._media.is_owned:
            raise StoreError(f"the media folder {self.media} is shared: only the process that owns it may sweep it")
