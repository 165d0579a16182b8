"""What can be asked of a store: events, their files, what was said of them, cameras' health, scores."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import ColumnElement, select

from comemory.errors import StoreError, short
from comemory.store.database import Database
from comemory.store.event import Counts, FileKind, Mark, StateChange, StoredEvent, Verdict, VerdictChange, utc
from comemory.store.media import Media
from comemory.store.outbox import Outbox
from comemory.store.rows import count, read_event, read_events, read_marks, read_states
from comemory.store.schema import events, files, scores
from comemory.store.scores import MINUTE, ScoreSummary, summarise
from comemory.store.verdicts import history

MOST_PER_PAGE = 500
MOST_MARKS = 5000


class StoreReader:
    """Reads a database of events and the folder of their files. Every method may be called from any thread.

    Of several folders that share a database only what is of this one is listed and counted; an id finds any event.

    Attributes:
        outbox: the alerts that wait.
    """

    def __init__(self, database: Database, media: Media) -> None:
        self.outbox = Outbox(database, media.site)
        self._database, self._media = database, media

    def get(self, id: str) -> StoredEvent | None:
        """The event, None when there is none.

        Raises:
            StoreError: the database does not answer.
        """
        with self._database.read() as connection:
            return read_event(connection, id)

    def page(
        self,
        *,
        camera: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int = 50,
        verdict: Verdict | Literal["none"] | None = None,
        suppressed: bool | None = None,
    ) -> list[StoredEvent]:
        """Events that began in a stretch of time, the newest first; with `after` the oldest first.

        Args:
            since, until: `until` does not belong to it.
            before: the id of the last event of the page before this one.
            after: the id of the event that those wanted follow.
            limit: 1 to 500.
            verdict: `none` are those without one; None are all.

        Raises:
            StoreError: the limit is out of range, or the database does not answer.
        """
        if not 1 <= limit <= MOST_PER_PAGE:
            raise StoreError(f"the limit of a page is {short(limit)}: expected 1 to {MOST_PER_PAGE}")
        conditions = self._conditions(camera, since, until, verdict)
        if before is not None:
            conditions.append(events.c.id < before)
        if after is not None:
            conditions.append(events.c.id > after)
        if suppressed is not None:
            conditions.append(events.c.suppressed.is_(suppressed))
        with self._database.read() as connection:
            return read_events(connection, *conditions, limit=limit, newest_first=after is None)

    def marks(
        self,
        *,
        camera: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        verdict: Verdict | Literal["none"] | None = None,
        limit: int = MOST_MARKS,
    ) -> tuple[list[Mark], int]:
        """The newest events of a stretch of time as a timeline shows them, and how many there are in all; see `page`.

        Raises:
            StoreError: the limit is out of range, or the database does not answer.
        """
        if not 1 <= limit <= MOST_MARKS:
            raise StoreError(f"the limit of a timeline is {short(limit)}: expected 1 to {MOST_MARKS}")
        with self._database.read() as connection:
            return read_marks(connection, *self._conditions(camera, since, until, verdict), limit=limit)

    def file(self, id: str, kind: FileKind) -> Path | None:
        """Where an event's file lies, None when there is none.

        Raises:
            StoreError: the database does not answer.
        """
        with self._database.read() as connection:
            asked = select(files.c.path).where(files.c.event_id == id, files.c.kind == kind)
            path: str | None = connection.execute(asked).scalar()
        return self._media.find(path) if path is not None else None

    def verdicts(self, id: str) -> list[VerdictChange]:
        """What was said of an event, the oldest first, with what was taken back."""
        with self._database.read() as connection:
            return history(connection, id)

    def states(self, camera: str | None = None, since: datetime | None = None, limit: int = 200) -> list[StateChange]:
        """Changes of the cameras' health, the newest first."""
        with self._database.read() as connection:
            return read_states(connection, camera, since, limit, self._media.site)

    def score_summary(self, camera: str, since: datetime, model: str | None = None) -> ScoreSummary:
        """What the scores recorded since a time say of thresholds.

        Args:
            model: only minutes that this model scored; None takes all.

        Raises:
            StoreError: the database does not answer.
        """
        first = utc(since) - MINUTE
        ours = scores.c.site == self._media.site, scores.c.camera == camera, scores.c.minute > first
        asked = select(scores.c.minute, scores.c.maxima).where(*ours)
        if model is not None:
            asked = asked.where(scores.c.model == model)
        with self._database.read() as connection:
            rows = [(row.minute, row.maxima) for row in connection.execute(asked.order_by(scores.c.minute))]
        return summarise(camera, rows)

    def counts(self) -> Counts:
        """How much there is.

        Raises:
            StoreError: the database does not answer.
        """
        alerts, free = self.outbox.counts(), self._media.free_bytes()
        with self._database.read() as connection:
            return count(connection, self._media.site, alerts, free)

    def _conditions(
        self,
        camera: str | None,
        since: datetime | None,
        until: datetime | None,
        verdict: Verdict | Literal["none"] | None,
    ) -> list[ColumnElement[bool]]:
        conditions = [events.c.site == self._media.site]
        if camera is not None:
            conditions.append(events.c.camera == camera)
        if since is not None:
            conditions.append(events.c.start >= utc(since))
        if until is not None:
            conditions.append(events.c.start < utc(until))
        if verdict is not None:
            conditions.append(events.c.verdict.is_(None) if verdict == "none" else events.c.verdict == verdict)
        return conditions
