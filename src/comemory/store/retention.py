"""What is deleted by age and quota, favourites never, and how files without a row are set aside.

The order of each deletion is such that a crash in between leaves nothing that the next start does not find. Only the rules
of retention delete: a file that the database does not know is moved to the quarantine, and waits there for its age limit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from comemory.errors import StoreFull
from comemory.store.database import Database
from comemory.store.event import FileKind, SweepResult
from comemory.store.media import MediaFolder, event_of, kind_of
from comemory.store.schema import activity, events, files, outbox, removals, scores, states

BATCH = 4
"""Events a transaction. A crash between their rows and their files leaves at most 16 files, fewer than `MAX_RECONCILED`."""
FINISHED_ALERTS_AGE = timedelta(days=7)
QUARANTINE_AGE = timedelta(days=30)
MAX_RECONCILED = 20
"""A crash leaves a few files without a row, or rows without a file. More of them mean another database or folder."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Differences between the database and the media folder.

    Attributes:
        unknown: files that no row belongs to, relative to the folder.
        missing: rows whose file is missing, as event and kind.
    """

    unknown: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.unknown or self.missing)

    @property
    def is_large(self) -> bool:
        """Whether it is more than a crash can leave."""
        return max(len(self.unknown), len(self.missing)) > MAX_RECONCILED


class Retention:
    """Deletes events and files of one media folder.

    Args:
        database: with the events.
        media: the folder.
        has_objects: its files are uploaded to an object store.
    """

    def __init__(self, database: Database, media: MediaFolder, *, has_objects: bool = False) -> None:
        self._database, self._media, self._has_objects = database, media, has_objects

    def delete(self, id: str) -> bool:
        """Delete one event, also one with a verdict; False where there is none."""
        with self._database.read() as connection:
            is_known = connection.execute(select(events.c.id).where(events.c.id == id)).first() is not None
        if is_known:
            self._delete([id], keep_rows=[])
        return is_known

    def compare(self) -> Mismatch:
        """The differences between database and folder. A sidecar is known where its event is.

        A file that the object store has is not missing.
        """
        with self._database.read() as connection:
            of_site = select(files.c.path, files.c.event_id, files.c.kind, files.c.uploaded).join(events)
            rows = connection.execute(of_site.where(events.c.site == self._media.site)).all()
            ids = set(connection.execute(select(events.c.id).where(events.c.site == self._media.site)).scalars())
        known, present = {row.path for row in rows}, set(self._media.event_files())
        unknown = (path for path in sorted(present - known) if kind_of(_name(path)) or event_of(_name(path)) not in ids)
        missing = ((row.event_id, row.kind) for row in rows if row.uploaded is None and row.path not in present)
        return Mismatch(tuple(unknown), tuple(missing))

    def reconcile(self, mismatch: Mismatch) -> None:
        """Move unknown files to the quarantine, and forget the missing ones."""
        for path in mismatch.unknown:
            self._media.quarantine_file(path)
        if mismatch.missing:
            with self._database.write() as connection:
                for event_id, kind in mismatch.missing:
                    connection.execute(delete(files).where(files.c.event_id == event_id, files.c.kind == kind))

    def expire(self, now: datetime, days: float | None, done: SweepResult) -> SweepResult:
        """Delete what is too old; the result is added to `done`."""
        if days is not None:
            done = self._expire_events(now - timedelta(days=days), done)
        self._expire_rest(now, days)
        freed = self._media.expire_quarantine((now - QUARANTINE_AGE).timestamp())
        return replace(done, bytes_freed=done.bytes_freed + freed)

    def make_room(self, max_bytes: int | None, min_free_bytes: int, done: SweepResult) -> SweepResult:
        """Delete the oldest files until they fit the quota and the disk, favourites excepted; the result is added to `done`.

        Copies of files that the object store has go first; what is in the object store stays.

        On a disk so full that not even a deletion can be recorded, files are deleted first, until it can.
        """
        n_copied, freed = self._drop_copies(max_bytes, min_free_bytes)
        done = replace(done, bytes_freed=done.bytes_freed + freed)
        unrecorded: list[str] = []
        while self._is_over(max_bytes, min_free_bytes, n_copied):
            candidates = events.c.end.is_not(None), events.c.favourite.is_(False), events.c.id.not_in(unrecorded)
            with self._database.read() as connection:
                oldest = self._ids(connection, *candidates, with_files=True, on_disk=True, limit=1)
            if not oldest:
                done = replace(done, over_quota=True)
                break
            unrecorded += oldest
            try:
                done, unrecorded = self._remove(unrecorded, done), []
            except StoreFull:
                continue
        return self._remove(unrecorded, done) if unrecorded else done

    def _drop_copies(self, max_bytes: int | None, min_free_bytes: int) -> tuple[int, int]:
        """Delete the oldest copies of uploaded files as long as there is too little room; the bytes left and freed."""
        query = (
            select(files.c.path).join(events).where(events.c.site == self._media.site, files.c.uploaded.is_not(None))
        )
        with self._database.read() as connection:
            paths = connection.execute(query.order_by(events.c.start, events.c.id)).scalars().all()
        copies = [(path, size) for path in paths if (size := self._media.size(path))]
        left, freed = sum(size for _, size in copies), 0
        for path, size in copies:
            if not self._is_over(max_bytes, min_free_bytes, left):
                break
            self._media.remove(path)
            left, freed = left - size, freed + size
        return left, freed

    def _expire_events(self, before: datetime, done: SweepResult) -> SweepResult:
        while True:
            old = (events.c.end < before) & events.c.favourite.is_(False)
            with self._database.read() as connection:
                ids = self._ids(connection, old, events.c.verdict.is_(None), limit=BATCH)
                ids += self._ids(connection, old, events.c.verdict.is_not(None), with_files=True, limit=BATCH)
            if not ids:
                return done
            done = self._remove(ids, done)

    def _ids(
        self,
        connection: Connection,
        *conditions: ColumnElement[bool],
        with_files: bool = False,
        on_disk: bool = False,
        limit: int,
    ) -> list[str]:
        query = select(events.c.id).where(events.c.site == self._media.site, *conditions)
        if with_files:
            of_event = select(files.c.path).where(files.c.event_id == events.c.id)
            query = query.where((of_event.where(files.c.uploaded.is_(None)) if on_disk else of_event).exists())
        return list(connection.execute(query.order_by(events.c.start, events.c.id).limit(limit)).scalars())

    def _remove(self, ids: Sequence[str], done: SweepResult) -> SweepResult:
        """Delete events; those with a verdict keep their row, since feedback rests on it."""
        with self._database.read() as connection:
            with_verdict = select(events.c.id).where(events.c.id.in_(ids), events.c.verdict.is_not(None))
            keep_rows = list(connection.execute(with_verdict).scalars())
        n_files, freed = self._delete(ids, keep_rows)
        return replace(
            done,
            events=done.events + len(ids) - len(keep_rows),
            files=done.files + n_files,
            bytes_freed=done.bytes_freed + freed,
        )

    def _delete(self, ids: Sequence[str], keep_rows: Sequence[str]) -> tuple[int, int]:
        """Delete rows, then files. On a full disk the files go first, to make room for the deletion of the rows."""
        with self._database.read() as connection:
            query = select(files.c.path, files.c.bytes).where(files.c.event_id.in_(ids))
            found = [(row.path, row.bytes) for row in connection.execute(query)]
        paths = [path for path, _ in found]
        try:
            self._delete_rows(ids, keep_rows)
        except StoreFull:
            self._delete_files(paths)
            self._delete_rows(ids, keep_rows)
        self._delete_files(paths)
        return len(found), sum(size for _, size in found)

    def _delete_rows(self, ids: Sequence[str], keep_rows: Collection[str]) -> None:
        whole = [id for id in ids if id not in keep_rows]
        with self._database.write() as connection:
            note_removals(connection, ids, including_pending=self._has_objects)
            connection.execute(delete(files).where(files.c.event_id.in_(ids)))
            connection.execute(delete(events).where(events.c.id.in_(whole)))

    def _delete_files(self, paths: Sequence[str]) -> None:
        """Delete files and the sidecars beside them."""
        for path in paths:
            self._media.remove(path)
            folder, _, name = path.rpartition("/")
            self._media.remove(f"{folder}/{event_of(name)}.json")

    def _expire_rest(self, now: datetime, days: float | None) -> None:
        """Delete scores, activity and states that are too old, and alerts that were finished a week ago."""
        with self._database.write() as connection:
            finished = outbox.c.next_try.is_(None), outbox.c.created < now - FINISHED_ALERTS_AGE
            connection.execute(delete(outbox).where(outbox.c.site == self._media.site, *finished))
            if days is not None:
                before = now - timedelta(days=days)
                site = self._media.site
                connection.execute(delete(scores).where(scores.c.site == site, scores.c.minute < before))
                connection.execute(delete(activity).where(activity.c.site == site, activity.c.hour < before))
                newest = select(func.max(states.c.id)).where(states.c.site == site).group_by(states.c.camera)
                old = states.c.site == site, states.c.at < before, states.c.id.not_in(newest)
                connection.execute(delete(states).where(*old))

    def _is_over(self, max_bytes: int | None, min_free_bytes: int, n_copied: int) -> bool:
        """Whether there is too little room; `n_copied` bytes are copies of uploaded files."""
        if max_bytes is not None and self._bytes() + n_copied > max_bytes:
            return True
        free = self._media.free_bytes()
        return min_free_bytes > 0 and free is not None and free < min_free_bytes

    def _bytes(self) -> int:
        """Bytes of the files that are only on the disk."""
        query = select(func.coalesce(func.sum(files.c.bytes), 0)).join(events)
        query = query.where(events.c.site == self._media.site, files.c.uploaded.is_(None))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def note_removals(
    connection: Connection, ids: Sequence[str], *, including_pending: bool, kind: FileKind | None = None
) -> None:
    """Note the objects of events that lose their files, so that they are deleted in the object store too.

    Args:
        connection: of the transaction that deletes the rows.
        ids: of the events.
        including_pending: also those that are not uploaded yet: one of them may be on its way.
        kind: files of this kind alone; None for all.
    """
    query = select(files.c.path, events.c.site).join(events).where(files.c.event_id.in_(ids))
    if kind is not None:
        query = query.where(files.c.kind == kind)
    if not including_pending:
        query = query.where(files.c.uploaded.is_not(None))
    rows = [{"path": row.path, "site": row.site} for row in connection.execute(query)]
    if rows:
        connection.execute(delete(removals).where(removals.c.path.in_([row["path"] for row in rows])))
        connection.execute(insert(removals), rows)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
