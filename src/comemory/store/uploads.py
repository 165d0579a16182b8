"""What is to be uploaded to the object store, and deleted there: rows of the database say so, so that a crash loses none.

A file is written to the disk, then uploaded, then its row says so. A crash in between repeats the upload, under the same
name. A deletion is noted with the deletion of the row, and forgotten when the object is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import delete, insert, select, tuple_, update

from comemory.errors import StoreError
from comemory.store.database import Database
from comemory.store.media import MediaFolder
from comemory.store.objects import MediaObjects
from comemory.store.schema import events, files, removals


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of an ended event that is to be uploaded.

    Attributes:
        event_id: of its event.
        kind: of the file.
        path: in the media folder, and below the URL of the object store.
    """

    event_id: str
    kind: str
    path: str


class Uploads:
    """Uploads the files of one media folder, and deletes the objects of deleted files. One thread uses it.

    Args:
        database: with the rows.
        media: the folder.
        objects: where the files go.
        filing: held while a file is put in its place.
        clock: the time now, with a time zone.
        sites: the media folders whose objects are deleted.
    """

    def __init__(
        self,
        database: Database,
        media: MediaFolder,
        objects: MediaObjects,
        filing: threading.RLock,
        clock: Callable[[], datetime],
        sites: Callable[[], list[str]],
    ) -> None:
        self._database, self._media, self._objects, self._filing = database, media, objects, filing
        self._clock, self._sites = clock, sites

    @property
    def url(self) -> str:
        """Of the object store."""
        return self._objects.url

    def pending(self, limit: int, after: Upload | None = None) -> list[Upload]:
        """Files to upload, those of the oldest events first.

        Args:
            limit: no more than this.
            after: those that follow this one; None for the first ones.

        Raises:
            StoreError: the database does not answer.
        """
        query = select(files.c.event_id, files.c.kind, files.c.path).join(events)
        query = query.where(events.c.site == self._media.site, events.c.end.is_not(None), files.c.uploaded.is_(None))
        if after is not None:
            query = query.where(tuple_(files.c.event_id, files.c.kind) > (after.event_id, after.kind))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(files.c.event_id, files.c.kind).limit(limit)).all()
        return [Upload(*row) for row in rows]

    def upload(self, file: Upload) -> None:
        """Upload a file, and note that. One that is not on the disk is left to the next recovery.

        Raises:
            SourceError: the object store does not take it.
            StoreError: the database cannot be written: the file is uploaded again later.
        """
        source = self._media.find(file.path)
        if source is None:
            return
        before = _identity(source)
        self._objects.upload(source, file.path)
        with self._filing, self._database.write() as connection:
            of_file = files.c.event_id == file.event_id, files.c.kind == file.kind, files.c.path == file.path
            if connection.execute(select(files.c.path).where(*of_file)).first() is None:  # it was deleted meanwhile
                connection.execute(delete(removals).where(removals.c.path == file.path))
                connection.execute(insert(removals).values(path=file.path, site=self._media.site))
            elif _identity(source) == before:  # else it was replaced meanwhile, and the new one is uploaded next
                connection.execute(update(files).where(*of_file).values(uploaded=self._clock()))

    def removals(self, limit: int) -> list[str]:
        """Paths of objects to delete.

        Raises:
            StoreError: the database does not answer.
        """
        query = select(removals.c.path).where(removals.c.site.in_(self._sites())).order_by(removals.c.path)
        with self._database.read() as connection:
            return list(connection.execute(query.limit(limit)).scalars())

    def remove(self, path: str) -> None:
        """Delete an object, and forget that it was to be deleted.

        Raises:
            SourceError: the object store does not do it.
            StoreError: the database cannot be written.
        """
        with suppress(StoreError):  # a path that leads out of the folder is none of ours
            self._objects.delete(path)
        with self._database.write() as connection:
            connection.execute(delete(removals).where(removals.c.path == path))


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from the one that replaces it; None where it is not there any more."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
