"""The store: events, camera states, scores and the alerts that follow. Each change is one transaction, or nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Literal

from sqlalchemy import delete, insert, select, update

from comemory.errors import StoreError, short_repr
from comemory.store.activity import HourOfActivity
from comemory.store.adoption import AdoptionResult, adopt
from comemory.store.backup import BackupResult, back_up, read_waiting, restore
from comemory.store.database import Database, is_temporary
from comemory.store.event import (
    FILE_KINDS,
    EventSummary,
    FileKind,
    StateChange,
    StoreCounts,
    StoredEvent,
    SweepResult,
    Verdict,
    VerdictChange,
    new_id,
    utc,
)
from comemory.store.media import MediaFolder, Quarantined, event_of, kind_of
from comemory.store.objects import MediaObjects
from comemory.store.reader import StoreReader
from comemory.store.retained_topics import RetainedTopics
from comemory.store.retention import Mismatch, Retention, note_removals
from comemory.store.routing import Change, ChangeStamp
from comemory.store.rows import (
    add_activity,
    read_event,
    read_events,
    read_states,
    write_event,
    write_score_minute,
    write_state,
)
from comemory.store.schema import events, files, removals
from comemory.store.scores import ScoreSummary, pack
from comemory.store.sites import Sites
from comemory.store.uploads import Uploads
from comemory.store.verdicts import add_verdict, no_such_event, undo_verdict
from comemory.store.write_ahead import WriteAheadEntry, WriteAheadLog

STALE = timedelta(days=7)
"""Age at which a file that belongs to no event goes to the quarantine: its clip was abandoned."""
_LOG = logging.getLogger(__name__)

__all__ = [
    "EventStore",
    "EventSummary",
    "FileKind",
    "ScoreSummary",
    "StateChange",
    "StoreCounts",
    "StoredEvent",
    "SweepResult",
    "Verdict",
    "VerdictChange",
    "new_id",
]


class EventStore(StoreReader):
    """Events in a database, their files in a folder. All methods may be called from any thread.

    Attributes:
        media: the folder of files.
        scratch: where files may be written before they are attached.
        url: of the database, its password masked.
        outbox: alerts to be delivered; a `Dispatcher` sets the rules of its sinks.
        retained_topics: what MQTT brokers retain for us.
        write_ahead: changes that the database has not stored yet; None in a shared store.
        uploads: of files to the object store; None without one, and in a shared store.
        warning: database and folder do not fit together, and nothing was changed; None where they do.
        clock: the time now, with a time zone.
    """

    def __init__(
        self,
        url: str,
        media: MediaFolder,
        clock: Callable[[], datetime],
        *,
        shared: bool,
        may_be_away: bool,
        sites: Sites | None = None,
        objects: MediaObjects | None = None,
    ) -> None:
        self.media, self.scratch = media.folder, media.scratch
        self.clock = clock
        self.warning: str | None = None
        self._begun: set[str] = set()
        self._filing = threading.RLock()
        self._is_ready = self._is_salvaged = False
        self._opened_at = time.time()
        self.write_ahead = None if shared else WriteAheadLog(media.write_ahead)
        database = Database(url, may_be_away=may_be_away, on_open=self._on_open)
        super().__init__(database, media, sites, objects)
        self.url = database.safe_url
        self.retained_topics = RetainedTopics(database, media.site)
        self.uploads: Uploads | None = None
        if objects is not None and not shared:
            self.uploads = Uploads(database, media, objects, self._filing, clock, self._known_sites)
        self._retention = Retention(database, media, has_objects=objects is not None)

    @classmethod
    def open(
        cls,
        url: str,
        media: Path,
        *,
        shared: bool = False,
        may_be_away: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sites: Sites | None = None,
        media_url: str | None = None,
    ) -> EventStore:
        """Open a store, created where there is none, migrate its schema, and repair what a crash left.

        Args:
            url: `sqlite:///PATH`, a bare path, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.
            media: folder of files; one process owns it at a time.
            shared: read beside the process that owns the folder; nothing is repaired or swept.
            may_be_away: a database that cannot be reached now is no error. Methods raise StoreError until it is back;
                then the first one that reaches it opens it.
            clock: the time now, with a time zone.
            sites: media folders of other processes whose events are listed too; each repairs and sweeps its own.
            media_url: of an object store for the files; see `uploads`. None leaves them in the folder.

        Raises:
            ConfigError: a URL is of another kind.
            RuntimeMissing: a package is not installed that PostgreSQL or the object store needs.
            StoreError: it cannot be opened, is newer than this program, or another process owns the folder.
        """
        objects = None if media_url is None else MediaObjects(media_url)
        folder = MediaFolder(media, shared=shared)
        try:
            store = cls(url, folder, clock, shared=shared, may_be_away=may_be_away, sites=sites, objects=objects)
        except BaseException:
            folder.close()
            raise
        try:
            if not shared:
                store._is_ready = True
                store._recover_at_start(may_be_away)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def error(self) -> str | None:
        """Why the last write failed, such as a full disk; None after one that worked."""
        return self._database.error or self._media.error

    def close(self) -> None:
        """Close the database and release the folder. May be called twice."""
        self._database.close()
        self._media.close()
        if self.write_ahead is not None:
            self.write_ahead.close()

    def __enter__(self) -> EventStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def apply(self, entry: WriteAheadEntry) -> None:
        """Store a change, and remove it from the write-ahead file. Applied again, it changes nothing.

        Raises:
            StoreError: it cannot be written; the entry stays in the file. `database.is_temporary` says whether a later
                attempt may work.
        """
        if isinstance(entry.content, StateChange):
            self._write_state(entry.content, entry.stamp)
        elif entry.kind == "end":
            self.end(entry.content, entry.stamp)
        else:
            self._begun.add(entry.content.id)
            self._write_event(entry.content, "new" if entry.kind == "new" else "update", entry.stamp)
        if self.write_ahead is not None:
            self.write_ahead.remove(entry)

    def replay(self) -> None:
        """Store what an earlier process left in the write-ahead file, end the events that it left open, attach their clips.

        Raises:
            StoreError: the database cannot be written now; called again, this goes on where it stopped.
        """
        if self.write_ahead is None:
            return
        waiting = self.write_ahead.waiting_ids()
        for entry in self.write_ahead.left_over:
            if entry.stamp.id in waiting:
                self._replay_one(self.write_ahead, entry)
        self._end_abandoned()
        with self._filing:
            self._salvage()

    def _replay_one(self, write_ahead: WriteAheadLog, entry: WriteAheadEntry) -> None:
        try:
            self.apply(entry)
        except StoreError as error:
            if is_temporary(error):
                raise
            _LOG.warning("a change of %s cannot be stored: %s", entry.stamp.time.isoformat(), error)
            write_ahead.remove(entry)
        self._begun.discard(entry.subject)

    def begin(self, event: StoredEvent, stamp: ChangeStamp | None = None) -> None:
        """Store an event that has just started.

        Raises:
            StoreError: it cannot be written, StoreFull because the disk is full; call `update` or `end` later.
        """
        self._begun.add(event.id)
        self._write_event(event, "new", stamp)

    def update(self, event: StoredEvent, stamp: ChangeStamp | None = None) -> None:
        """Store the present state of an open event; its verdict and files are not changed. Inserts it if `begin` failed.

        Raises:
            StoreError: it cannot be written.
        """
        self._begun.add(event.id)
        self._write_event(event, "update", stamp)

    def end(self, event: StoredEvent, stamp: ChangeStamp | None = None) -> None:
        """Store an event that has ended; its verdict and files are not changed. Inserts it if `begin` failed.

        Raises:
            StoreError: it cannot be written, or has no end.
        """
        if event.end is None:
            raise StoreError(f"event {event.id} has no end: set it before the event is ended")
        self._write_event(event, "end", stamp)
        self._begun.discard(event.id)

    def _write_event(
        self, event: StoredEvent, kind: Literal["new", "update", "end"], stamp: ChangeStamp | None
    ) -> None:
        stamp = stamp or ChangeStamp(time=self.clock())
        with self._database.write() as connection:
            before = read_event(connection, event.id)
            if before is not None and before.end is not None and event.end is None:
                raise StoreError(f"event {event.id} has ended: it cannot be open again")
            write_event(connection, event, self._media.site, stamp.time, is_new=before is None)
            after = read_event(connection, event.id)
            if after is not None:
                before_json = before.to_json() if before else None
                change = Change(kind, event.id, event.camera, before_json, after.to_json(), after, stamp)
                self.outbox.add(connection, change)
        self.outbox.notify()
        if after is not None and kind == "end":
            self._media.write_sidecar(after)

    def queue_missed_ends(self) -> int:
        """Add alerts for events that were ended by a recovery, for the sinks that were notified of their start.

        A recovery runs when the store is opened, before the sinks are known: a `Dispatcher` calls this at its start.

        Returns:
            The number of alerts.

        Raises:
            StoreError: it cannot be written.
        """
        with self._database.write() as connection:
            missed = self.outbox.missed_ends(connection)
            for sink, id in missed:
                event = read_event(connection, id)
                if event is not None:
                    after, stamp = event.to_json(), ChangeStamp(time=self.clock())
                    change = Change("end", id, event.camera, {**after, "end": None}, after, event, stamp)
                    self.outbox.add(connection, change, only=sink)
        return len(missed)

    def attach(self, id: str, kind: FileKind, source_path: Path) -> str:
        """Move a file into the store, replacing one of its kind; its path relative to `media`.

        Raises:
            StoreError: there is no such event or kind, or the file cannot be moved; StoreFull on a full disk. The file is
                where it was.
        """
        if kind not in FILE_KINDS:
            raise StoreError(f"unknown kind of file {short_repr(kind)}: expected one of {', '.join(FILE_KINDS)}")
        with self._filing:
            event = self._existing(id)
            path = self._media.path_for(event.camera, id, event.start, kind, source_path.suffix)
            size = self._media.move_in(source_path, path)
            replaced = event.files.get(kind)
            try:
                self._write_file(id, kind, path, size)
            except StoreError:
                if replaced != path:
                    self._media.move_back(path, source_path)
                raise
            if replaced is not None and replaced != path:
                self._media.remove(replaced)
            self._media.write_sidecar(replace(event, files={**event.files, kind: path}))
        return path

    def _write_file(self, id: str, kind: FileKind, path: str, size: int) -> None:
        with self._database.write() as connection:
            note_removals(connection, [id], including_pending=self._objects is not None, kind=kind)
            connection.execute(delete(files).where(files.c.event_id == id, files.c.kind == kind))
            connection.execute(delete(removals).where(removals.c.path == path))
            connection.execute(insert(files).values(event_id=id, kind=kind, path=path, bytes=size))

    def set_verdict(self, id: str, verdict: Verdict | None, by: str) -> StoredEvent:
        """Set the verdict on an event, None removes it; the event with it.

        Raises:
            StoreError: there is no such event or verdict, or it cannot be written.
        """
        if verdict not in (None, "normal", "abnormal"):
            raise StoreError(f"unknown verdict {short_repr(verdict)}: expected 'normal', 'abnormal' or None")
        with self._database.write() as connection:
            event = add_verdict(connection, id, verdict, by, self.clock())
        self._write_sidecar(event)
        return event

    def undo_verdict(self, id: str, by: str) -> StoredEvent:
        """Undo the newest verdict that counts; without one, nothing changes.

        Raises:
            StoreError: there is no such event, or it cannot be written.
        """
        with self._database.write() as connection:
            event = undo_verdict(connection, id, by, self.clock())
        self._write_sidecar(event)
        return event

    def annotate(self, id: str, *, note: str | None = None, favourite: bool | None = None) -> StoredEvent:
        """Set the note of an event, make it a favourite or no longer; the event with it.

        Args:
            id: of the event.
            note: an empty one removes it; None leaves it.
            favourite: None leaves it.

        Raises:
            StoreError: there is no such event, or it cannot be written.
        """
        values: dict[str, str | bool | None] = {}
        if note is not None:
            values["note"] = note.strip() or None
        if favourite is not None:
            values["favourite"] = favourite
        with self._database.write() as connection:
            if values:
                connection.execute(update(events).where(events.c.id == id).values(**values))
            event = read_event(connection, id)
        if event is None:
            raise no_such_event(id)
        self._write_sidecar(event)
        return event

    def record_activity(self, camera: str, activity: HourOfActivity) -> None:
        """Add what moved in a part of an hour to what is stored of that hour.

        Raises:
            StoreError: it cannot be written.
        """
        with self._database.write() as connection:
            add_activity(connection, camera, activity, self._media.site)

    def record_state(self, camera: str, state: str, message: str | None = None, at: datetime | None = None) -> None:
        """Store the state of a camera from now (or `at`) on; a state that has not changed is not written again.

        Raises:
            StoreError: it cannot be written.
        """
        now = utc(at) if at is not None else self.clock()
        self._write_state(StateChange(camera, state, message, now), ChangeStamp(time=now))

    def _write_state(self, after: StateChange, stamp: ChangeStamp) -> None:
        camera = after.camera
        with self._database.write() as connection:
            last = read_states(connection, camera, None, 1, [self._media.site])
            if last and last[0].state == after.state:
                return
            write_state(connection, after, self._media.site)
            before = last[0].to_json() if last else None
            change = Change("state", f"state:{camera}", camera, before, after.to_json(), stamp=stamp)
            self.outbox.add(connection, change)
        self.outbox.notify()

    def record_scores(self, camera: str, minute: datetime, maxima: Sequence[float], model: str = "") -> None:
        """Store the maximum score of each of 1 to 60 equal parts of a minute; a minute that is there is replaced.

        Args:
            camera: its name.
            minute: any time in it.
            maxima: one for each part.
            model: the bundle's hash, as in events: scores of different models cannot be compared.

        Raises:
            StoreError: the maxima do not fit, or cannot be written.
        """
        packed = pack(maxima)
        with self._database.write() as connection:
            write_score_minute(connection, camera, utc(minute), max(maxima), packed, model, self._media.site)

    def delete(self, id: str) -> bool:
        """Delete an event with its files and verdicts; False where there is none.

        Raises:
            StoreError: it is still open, or cannot be deleted.
        """
        with self._filing:
            event = self.get(id)
            if event is not None and event.end is None:
                raise StoreError(f"event {id} is still open: delete it when it has ended")
            media = self._owner_of(id) or self._media
            if media is self._media:
                return self._retention.delete(id)
            return Retention(self._database, media, has_objects=self._objects is not None).delete(id)

    def compare(self) -> Mismatch:
        """The differences between the database and the media folder.

        Raises:
            StoreError: the database does not answer.
        """
        return self._retention.compare()

    def adopt(self) -> AdoptionResult:
        """Take the files that the database does not know, and the quarantine, into it; see `adoption`.

        Raises:
            StoreError: the store is shared, the database cannot be written, or a file cannot be moved.
        """
        self._require_owned()
        with self._filing:
            adopted = adopt(self._database, self._media, self._retention.compare().unknown, self._objects)
        self.recover()
        return adopted

    def back_up(self, target: Path) -> BackupResult:
        """Copy the store into a new folder; see `backup`. The service may go on meanwhile.

        Raises:
            StoreError: the folder is not empty or cannot be written, or the database does not answer.
        """
        return back_up(self._database, self._media, target)

    def restore(self, source: Path) -> BackupResult:
        """Copy a backup into this store, which must be empty.

        Raises:
            StoreError: the store is shared or not empty, or the folder is not a backup.
        """
        self._require_owned()
        with self._filing:
            copied = restore(self._database, self._media, source)
            for entry in read_waiting(source):
                if self.write_ahead is not None:
                    self.write_ahead.append(entry)
                    self._replay_one(self.write_ahead, entry)
        self.recover()
        return copied

    def quarantined(self) -> list[Path]:
        """The files in the quarantine."""
        return self._media.quarantined()

    def sum_of_quarantine(self) -> Quarantined:
        """How much is in the quarantine, and since when. After `QUARANTINE_AGE` a file in it is deleted."""
        return self._media.sum_of_quarantine()

    def check_database(self) -> list[str]:
        """What SQLite finds wrong with its file; nothing for PostgreSQL, which has tools of its own.

        Raises:
            StoreError: the database does not answer.
        """
        return self._database.check()

    def recover(self) -> SweepResult:
        """End events that a crash left open, and set aside files that the database does not know.

        Files are moved to the quarantine, never deleted. Where more files are concerned than a crash can leave, such as
        after a change of the database, nothing is moved and `warning` says so.

        Raises:
            StoreError: the store is shared, or cannot be written.
        """
        self._require_owned()
        closed = self._end_abandoned()
        self._salvage()
        with self._filing:
            mismatch = self._retention.compare()
            if mismatch.is_large:
                self._warn(mismatch)
                return SweepResult(closed=closed)
            self.warning = None
            mismatch = replace(mismatch, unknown=self._reclaim(mismatch.unknown))
            if mismatch:
                self._retention.reconcile(mismatch)
                _LOG.warning(
                    "%d media files without an event were moved to %s, %d events lost a file",
                    len(mismatch.unknown),
                    self._media.quarantine,
                    len(mismatch.missing),
                )
        return SweepResult(closed=closed, quarantined=len(mismatch.unknown))

    def _reclaim(self, unknown: Sequence[str]) -> tuple[str, ...]:
        """Attach the files that a crash left at their place before their row was written; the rest of them."""
        rest: list[str] = []
        for path in unknown:
            name = PurePosixPath(path).name
            id, kind = event_of(name), kind_of(name)
            event = None if id is None else self.get(id)
            if event is None or kind is None or kind in event.files:
                rest.append(path)
            else:
                self._write_file(event.id, kind, path, self._media.size(path))
                self._media.write_sidecar(replace(event, files={**event.files, kind: path}))
        return tuple(rest)

    def _salvage(self) -> None:
        """Attach the clips that a crash interrupted to their events, and set aside what else it left half written.

        A clip whose event is still in the write-ahead file waits until that is stored.
        """
        if self._is_salvaged:
            return
        waiting = self.write_ahead.waiting_subjects() if self.write_ahead is not None else set()
        later: set[Path] = set()
        for path, id in self._media.unfinished_clips(self._opened_at):
            event = self.get(id)
            if event is None and id in waiting:
                later.add(path)
            elif event is not None and "clip" not in event.files:
                try:
                    self.attach(id, "clip", path)
                except StoreError as error:
                    if is_temporary(error):
                        later.add(path)
        self._media.quarantine_scratch(self._opened_at, later)
        self._is_salvaged = not later

    def _recover_at_start(self, may_be_away: bool) -> None:
        """Recover; where the database cannot be written now, such as on a full disk, the next sweep does it."""
        try:
            if self._database.is_open:
                self.recover()
        except StoreError as error:
            if not (may_be_away and is_temporary(error)):
                raise
            _LOG.warning("%s", error)

    def _on_open(self) -> None:
        """A database that was away at the start is back: recover, as at any start."""
        if self._is_ready:
            _LOG.warning("the store %s is back", self.url)
            self.recover()

    def _end_abandoned(self) -> int:
        """End the open events that neither this process nor the write-ahead file knows; the number of them."""
        own = self._begun | (self.write_ahead.waiting_subjects() if self.write_ahead is not None else set())
        of_site = events.c.end.is_(None), events.c.site == self._media.site
        with self._database.read() as connection:
            abandoned = [event for event in read_events(connection, *of_site) if event.id not in own]
            rows = connection.execute(select(events.c.id, events.c.updated).where(*of_site))
            updated = {row.id: row.updated for row in rows}
        for event in abandoned:
            self.end(replace(event, end=max(event.start, event.peak, updated[event.id])))
        return len(abandoned)

    def _warn(self, mismatch: Mismatch) -> None:
        text = (
            f"{len(mismatch.unknown)} media files have no event in {self.url}, and {len(mismatch.missing)} files of its "
            f"events are not in {self.media}: nothing was changed. Is it the right database? Run comemory store check"
        )
        if text != self.warning:
            _LOG.error("%s", text)
        self.warning = text

    def sweep(self, now: datetime, days: float | None, max_bytes: int | None, min_free_bytes: int = 0) -> SweepResult:
        """Delete the oldest files until the quota and the disk are respected, recover, and delete what is too old.

        Events with a verdict lose their files but stay, since feedback rests on them; `delete` removes those too.

        Args:
            now: in UTC.
            days: how long events, scores and states are stored; None keeps them.
            max_bytes: of all files together; None for no quota.
            min_free_bytes: on the disk of the files.

        Raises:
            StoreError: the store is shared, or cannot be written.
        """
        self._require_owned()
        with self._filing:
            done = self._retention.make_room(max_bytes, min_free_bytes, SweepResult())
            if done.files and not done.over_quota:
                self._media.error = None
            repaired = self.recover()
            aside = self._media.quarantine_scratch((utc(now) - STALE).timestamp())
            done = replace(done, closed=repaired.closed, quarantined=repaired.quarantined + aside)
            return self._retention.expire(utc(now), days, done)

    def _owner_of(self, id: str) -> MediaFolder | None:
        """The media folder with the files of an event; None where it is on another machine."""
        if self._sites is None:
            return self._media
        with self._database.read() as connection:
            return self._media_of(connection.execute(select(events.c.site).where(events.c.id == id)).scalar())

    def _write_sidecar(self, event: StoredEvent) -> None:
        if (media := self._owner_of(event.id)) is not None:
            media.write_sidecar(event)

    def _existing(self, id: str) -> StoredEvent:
        event = self.get(id)
        if event is None:
            raise no_such_event(id)
        return event

    def _require_owned(self) -> None:
        if not self._media.is_owned:
            raise StoreError(f"the media folder {self.media} is shared: only the process that owns it may change it")
