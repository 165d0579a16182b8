"""What is deleted, and in which order, so that a crash in between leaves nothing that the next start does not clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, select

from comemory.errors import StoreFull
from comemory.store.database import Database
from comemory.store.event import Swept
from comemory.store.media import Media
from comemory.store.schema import events, files, outbox, scores, states

BATCH = 100
KEPT_ALERTS = timedelta(days=7)


class Retention:
    """Deletes events and files of one media folder."""

    def __init__(self, database: Database, media: Media) -> None:
        self._database, self._media = database, media

    def delete(self, id: str) -> bool:
        """Delete one event, whatever was said of it."""
        with self._database.read() as connection:
            known = connection.execute(select(events.c.id).where(events.c.id == id)).first() is not None
        if known:
            self._delete([id], keep_rows=[])
        return known

    def remove_orphans(self) -> tuple[int, int]:
        """Delete files without a row, and rows without a file; give the number of files and their bytes."""
        with self._database.read() as connection:
            ours = (
                select(files.c.path, files.c.event_id, files.c.kind)
                .join(events)
                .where(events.c.site == self._media.site)
            )
            rows = {row.path: (row.event_id, row.kind) for row in connection.execute(ours)}
        present = set(self._media.own_files())
        freed = 0
        for path in present - rows.keys():
            freed += self._media.size(path)
            self._media.remove(path)
        gone = rows.keys() - present
        if gone:
            with self._database.write() as connection:
                for path in gone:
                    event_id, kind = rows[path]
                    connection.execute(delete(files).where(files.c.event_id == event_id, files.c.kind == kind))
        return len(present - rows.keys()), freed

    def expire(self, now: datetime, days: float | None, done: Swept) -> Swept:
        """Delete what is too old; add it to `done`."""
        if days is not None:
            done = self._expire_events(now - timedelta(days=days), done)
        self._forget(now, days)
        return done

    def make_room(self, max_bytes: int | None, min_free_bytes: int, done: Swept) -> Swept:
        """Delete the oldest files until the quota and the disk are kept; add them to `done`.

        On a disk so full that not even a deletion can be written, files go first, until it can.
        """
        unsettled: list[str] = []
        while self._is_over(max_bytes, min_free_bytes):
            over = events.c.end.is_not(None), events.c.id.not_in(unsettled)
            with self._database.read() as connection:
                oldest = self._ids(connection, *over, with_files=True, limit=1)
            if not oldest:
                done = replace(done, short=True)
                break
            unsettled += oldest
            try:
                done, unsettled = self._remove(unsettled, done), []
            except StoreFull:
                continue
        return self._remove(unsettled, done) if unsettled else done

    def _expire_events(self, before: datetime, done: Swept) -> Swept:
        while True:
            old = events.c.end < before
            with self._database.read() as connection:
                ids = self._ids(connection, old, events.c.verdict.is_(None), limit=BATCH)
                ids += self._ids(connection, old, events.c.verdict.is_not(None), with_files=True, limit=BATCH)
            if not ids:
                return done
            done = self._remove(ids, done)

    def _ids(
        self, connection: Connection, *conditions: ColumnElement[bool], with_files: bool = False, limit: int
    ) -> list[str]:
        asked = select(events.c.id).where(events.c.site == self._media.site, *conditions)
        if with_files:
            asked = asked.where(select(files.c.path).where(files.c.event_id == events.c.id).exists())
        return list(connection.execute(asked.order_by(events.c.start, events.c.id).limit(limit)).scalars())

    def _remove(self, ids: Sequence[str], done: Swept) -> Swept:
        with self._database.read() as connection:
            judged = select(events.c.id).where(events.c.id.in_(ids), events.c.verdict.is_not(None))
            keep_rows = list(connection.execute(judged).scalars())
        n_files, freed = self._delete(ids, keep_rows)
        return replace(
            done,
            events=done.events + len(ids) - len(keep_rows),
            files=done.files + n_files,
            bytes_freed=done.bytes_freed + freed,
        )

    def _delete(self, ids: Sequence[str], keep_rows: Sequence[str]) -> tuple[int, int]:
        """Delete rows, then files; on a full disk the files first, to make room for what deletes the rows."""
        with self._database.read() as connection:
            asked = select(files.c.path, files.c.bytes).where(files.c.event_id.in_(ids))
            found = [(row.path, row.bytes) for row in connection.execute(asked)]
        try:
            self._delete_rows(ids, keep_rows)
        except StoreFull:
            self._delete_files([path for path, _ in found])
            self._delete_rows(ids, keep_rows)
        self._delete_files([path for path, _ in found])
        return len(found), sum(size for _, size in found)

    def _delete_rows(self, ids: Sequence[str], keep_rows: Sequence[str]) -> None:
        whole = [id for id in ids if id not in keep_rows]
        with self._database.write() as connection:
            connection.execute(delete(files).where(files.c.event_id.in_(ids)))
            connection.execute(delete(events).where(events.c.id.in_(whole)))

    def _delete_files(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._media.remove(path)

    def _forget(self, now: datetime, days: float | None) -> None:
        """Delete scores and states that are too old, and alerts that were done with a week ago."""
        with self._database.write() as connection:
            done_with = outbox.c.next_try.is_(None), outbox.c.created < now - KEPT_ALERTS
            connection.execute(delete(outbox).where(outbox.c.site == self._media.site, *done_with))
            if days is not None:
                before = now - timedelta(days=days)
                site = self._media.site
                connection.execute(delete(scores).where(scores.c.site == site, scores.c.minute < before))
                newest = select(func.max(states.c.id)).where(states.c.site == site).group_by(states.c.camera)
                old = states.c.site == site, states.c.at < before, states.c.id.not_in(newest)
                connection.execute(delete(states).where(*old))

    def _is_over(self, max_bytes: int | None, min_free_bytes: int) -> bool:
        if max_bytes is not None and self._bytes() > max_bytes:
            return True
        free = self._media.free_bytes()
        return min_free_bytes > 0 and free is not None and free < min_free_bytes

    def _bytes(self) -> int:
        asked = select(func.coalesce(func.sum(files.c.bytes), 0)).join(events).where(events.c.site == self._media.site)
        with self._database.read() as connection:
            return int(connection.execute(asked).scalar_one())
