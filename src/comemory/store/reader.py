"""Reading a store: events, their files and verdicts, camera states, scores."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from sqlalchemy import ColumnElement, func, select

from comemory.errors import StoreError, short_repr
from comemory.store.activity import HourOfActivity
from comemory.store.database import Database
from comemory.store.event import (
    EventSummary,
    FileKind,
    StateChange,
    StoreCounts,
    StoredEvent,
    Verdict,
    VerdictChange,
    utc,
)
from comemory.store.media import MediaFolder
from comemory.store.objects import MediaObjects
from comemory.store.outbox import Outbox
from comemory.store.rows import count_stored, read_activity, read_event, read_events, read_states, read_summaries
from comemory.store.schema import events, files, scores
from comemory.store.scores import MINUTE, ScoreSummary, summarise
from comemory.store.sites import Sites
from comemory.store.verdicts import history

MAX_PAGE_SIZE = 500
MAX_SUMMARIES = 5000


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file of an event.

    Attributes:
        name: its path in the media folder and below the URL of the object store.
        path: on this machine; None where it is not here.
        is_uploaded: the object store has it.
    """

    name: str
    path: Path | None
    is_uploaded: bool


class StoreReader:
    """Reads events and their files. All methods may be called from any thread.

    Where several media folders share a database, only the events of this one are listed and counted, and with `sites`
    those of all its folders; an id finds any event.

    Attributes:
        outbox: alerts to be delivered.
        site: name of the media folder.
    """

    def __init__(
        self, database: Database, media: MediaFolder, sites: Sites | None = None, objects: MediaObjects | None = None
    ) -> None:
        self.outbox, self.site = Outbox(database, media.site), media.site
        self._database, self._media, self._sites, self._objects = database, media, sites, objects

    def get(self, id: str) -> StoredEvent | None:
        """The event of this id, None where there is none.

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
        label: str | None = None,
        favourite: bool | None = None,
    ) -> list[StoredEvent]:
        """Events that began in a time range, the newest first; with `after`, the oldest first.

        Args:
            camera: None for all.
            since: start of the range; None for no limit.
            until: end of the range, exclusive; None for no limit.
            before: id of the last event of the previous page.
            after: id of an event; those that follow it.
            limit: 1 to 500.
            verdict: `none` for events without one; None for all.
            suppressed: only events that are suppressed, or only those that are not; None for all.
            label: only events with this label; `none` for those without one; None for all.
            favourite: only favourites, or only the others; None for all.

        Raises:
            StoreError: the limit is out of range, or the database does not answer.
        """
        if not 1 <= limit <= MAX_PAGE_SIZE:
            raise StoreError(f"the limit of a page is {short_repr(limit)}: expected 1 to {MAX_PAGE_SIZE}")
        conditions = self._conditions(camera, since, until, verdict, label, favourite)
        if before is not None:
            conditions.append(events.c.id < before)
        if after is not None:
            conditions.append(events.c.id > after)
        if suppressed is not None:
            conditions.append(events.c.suppressed.is_(suppressed))
        with self._database.read() as connection:
            return read_events(connection, *conditions, limit=limit, newest_first=after is None)

    def summaries(
        self,
        *,
        camera: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        verdict: Verdict | Literal["none"] | None = None,
        label: str | None = None,
        favourite: bool | None = None,
        limit: int = MAX_SUMMARIES,
    ) -> tuple[list[EventSummary], int]:
        """The newest events of a time range as a timeline shows them, and the number of all; see `page`.

        Raises:
            StoreError: the limit is out of range, or the database does not answer.
        """
        if not 1 <= limit <= MAX_SUMMARIES:
            raise StoreError(f"the limit of a timeline is {short_repr(limit)}: expected 1 to {MAX_SUMMARIES}")
        with self._database.read() as connection:
            conditions = self._conditions(camera, since, until, verdict, label, favourite)
            return read_summaries(connection, *conditions, limit=limit)

    def file(self, id: str, kind: FileKind) -> Path | None:
        """The path of an event's file, None where there is none on this machine.

        Raises:
            StoreError: the database does not answer.
        """
        found = self.media_file(id, kind)
        return None if found is None else found.path

    def media_file(self, id: str, kind: FileKind) -> MediaFile | None:
        """Where an event's file is; None where the event has none of this kind.

        A file that is neither on this machine nor in the object store is on the disk of the machine that recorded it, if
        that machine has a disk of its own; else it is lost, and None too.

        Raises:
            StoreError: the database does not answer.
        """
        with self._database.read() as connection:
            query = select(files.c.path, files.c.uploaded, events.c.site).join(events)
            found = connection.execute(query.where(files.c.event_id == id, files.c.kind == kind)).first()
        if found is None:
            return None
        media = self._media_of(found.site)
        path = None if media is None else media.find(found.path)
        if path is None and media is not None and found.uploaded is None:
            return None
        return MediaFile(found.path, path, found.uploaded is not None)

    def open_object(self, file: MediaFile) -> tuple[BinaryIO, int]:
        """A file in the object store for reading in parts, and its size in bytes.

        Raises:
            StoreError: it is not uploaded yet, or the settings name no object store.
            SourceError: it cannot be read; see `objects.is_missing`.
        """
        return self._objects_with(file).open(file.name)

    @contextmanager
    def local_copy(self, file: MediaFile) -> Iterator[Path]:
        """A path on this machine with the contents of a file: its own, or that of a copy until the end of the block.

        Raises:
            StoreError: it is not uploaded yet, or the settings name no object store.
            SourceError: it cannot be read.
        """
        if file.path is not None:
            yield file.path
            return
        objects = self._objects_with(file)
        target = self._media.scratch / f"{secrets.token_hex(8)}{PurePosixPath(file.name).suffix}"
        try:
            objects.download(file.name, target)
            yield target
        finally:
            target.unlink(missing_ok=True)

    def _objects_with(self, file: MediaFile) -> MediaObjects:
        if not file.is_uploaded:
            raise StoreError("this file is on the disk of the machine that recorded it, and not uploaded yet")
        if self._objects is None:
            raise StoreError("this file is in an object store: set store.media_url to the URL it was uploaded to")
        return self._objects

    def waiting_uploads(self) -> tuple[int, int] | None:
        """Number and bytes of the files that wait for their upload; None without an object store.

        Raises:
            StoreError: the database does not answer.
        """
        if self._objects is None:
            return None
        query = select(func.count(), func.coalesce(func.sum(files.c.bytes), 0)).select_from(files).join(events)
        waiting = events.c.site.in_(self._known_sites()), events.c.end.is_not(None), files.c.uploaded.is_(None)
        with self._database.read() as connection:
            n_files, n_bytes = connection.execute(query.where(*waiting)).one()
        return int(n_files), int(n_bytes)

    def verdicts(self, id: str) -> list[VerdictChange]:
        """All verdicts on an event, the oldest first, the undone ones included."""
        with self._database.read() as connection:
            return history(connection, id)

    def states(self, camera: str | None = None, since: datetime | None = None, limit: int = 200) -> list[StateChange]:
        """Changes of the cameras' states, the newest first."""
        with self._database.read() as connection:
            return read_states(connection, camera, since, limit, self._known_sites())

    def score_summary(self, camera: str, since: datetime, model: str | None = None) -> ScoreSummary:
        """The scores recorded since a time, summarised for the choice of a threshold.

        Args:
            camera: its name.
            since: start of the time.
            model: only minutes scored by this model; None for all.

        Raises:
            StoreError: the database does not answer.
        """
        first = utc(since) - MINUTE
        conditions = scores.c.site.in_(self._known_sites()), scores.c.camera == camera, scores.c.minute > first
        query = select(scores.c.minute, scores.c.maxima).where(*conditions)
        if model is not None:
            query = query.where(scores.c.model == model)
        with self._database.read() as connection:
            rows = [(row.minute, row.maxima) for row in connection.execute(query.order_by(scores.c.minute))]
        return summarise(camera, rows)

    def activity(self, camera: str, since: datetime) -> list[HourOfActivity]:
        """What moved at a camera in each recorded hour since a time, in order.

        Raises:
            StoreError: the database does not answer.
        """
        with self._database.read() as connection:
            return read_activity(connection, camera, since, self._known_sites())

    def counts(self) -> StoreCounts:
        """Numbers of events, files and alerts.

        Raises:
            StoreError: the database does not answer.
        """
        alerts, free = self.outbox.counts(), self._media.free_bytes()
        with self._database.read() as connection:
            return count_stored(connection, self._known_sites(), alerts, free)

    def _known_sites(self) -> list[str]:
        """The media folders whose events are listed."""
        return [self._media.site] if self._sites is None else sorted({self._media.site, *self._sites.folders()})

    def _media_of(self, site: str | None) -> MediaFolder | None:
        """The folder that holds the files of a site; None where it is on another machine."""
        if self._sites is None or site is None or site == self._media.site:
            return self._media
        return self._sites.media(site)

    def _conditions(
        self,
        camera: str | None,
        since: datetime | None,
        until: datetime | None,
        verdict: Verdict | Literal["none"] | None,
        label: str | None,
        favourite: bool | None,
    ) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = [events.c.site.in_(self._known_sites())]
        if camera is not None:
            conditions.append(events.c.camera == camera)
        if since is not None:
            conditions.append(events.c.start >= utc(since))
        if until is not None:
            conditions.append(events.c.start < utc(until))
        if verdict is not None:
            conditions.append(events.c.verdict.is_(None) if verdict == "none" else events.c.verdict == verdict)
        if label is not None:
            conditions.append(events.c.label.is_(None) if label == "none" else events.c.label == label)
        if favourite is not None:
            conditions.append(events.c.favourite.is_(favourite))
        return conditions
