"""A copy of a store in a folder: every table as JSON lines, and the files. It is restored into any kind of database.

FOLDER/store.json      format, time, schema, number of rows of each table
FOLDER/TABLE.jsonl     one row a line
FOLDER/waiting.jsonl   changes that the database had not stored yet
FOLDER/media/          the files, at the paths that they have in the store, and the quarantine

Sidecars are not copied: a restore writes them again, from the rows.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Table, func, insert, select

from comemory.errors import StoreError
from comemory.store.database import Database
from comemory.store.event import is_inside
from comemory.store.media import MediaFolder, disk_error
from comemory.store.rows import read_events
from comemory.store.schema import EPOCH, Moment, events, files, metadata, outbox, removals, retained_topics
from comemory.store.write_ahead import WriteAheadEntry, read_entries

FORMAT = "comemory-store-1"
_HEAD, _WAITING = "store.json", "waiting.jsonl"
TABLES = tuple(table for table in metadata.sorted_tables if table not in (outbox, removals, retained_topics))
"""Alerts, retained topics and what is to be deleted are of the running service: a restored store sends nothing again."""
_BATCH = 500


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a backup or a restore copied.

    Attributes:
        missing: files that are in the database and not in the folder.
        in_object_store: files of which the object store has the only copy: they stay there.
    """

    events: int
    files: int
    bytes: int
    missing: int
    in_object_store: int = 0


def back_up(database: Database, media: MediaFolder, target: Path) -> BackupResult:
    """Copy a store into a new folder. The service may go on: rows are read in one transaction, files never change.

    Raises:
        StoreError: the folder is not empty or cannot be written, or the database does not answer.
    """
    try:
        if target.exists() and any(target.iterdir()):
            raise StoreError(f"the folder {target} is not empty: choose a new one")
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before the rows: a change that is stored in between is in both, which is harmless.
        waiting = read_entries(media.write_ahead)
        (target / _WAITING).write_bytes(b"".join(entry.to_line() for entry in waiting))
        with database.read() as connection:
            counts = {table.name: _write_rows(connection, table, target, media.site) for table in TABLES}
            of_site = select(files.c.path, files.c.uploaded).join(events).where(events.c.site == media.site)
            uploaded = {row.path: row.uploaded is not None for row in connection.execute(of_site)}
        copied = {path: _copy(media.folder / path, target / "media" / path) for path in uploaded}
        for path in media.quarantined():
            _copy(path, target / "media" / path.relative_to(media.folder))
        head = {"format": FORMAT, "time": datetime.now(UTC).isoformat(), "site": media.site, "rows": counts}
        (target / _HEAD).write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise disk_error(f"cannot write the backup {target}", error) from None
    return _summed(counts["events"], copied, uploaded)


def restore(database: Database, media: MediaFolder, source: Path) -> BackupResult:
    """Copy a backup into a store that has no events, and no files of events.

    Raises:
        StoreError: the store is not empty, the folder is not a backup, or something cannot be read or written.
    """
    head = _read_head(source)
    with database.read() as connection:
        of_site = select(func.count()).select_from(events).where(events.c.site == media.site)
        n_present = connection.execute(of_site).scalar_one()
    if n_present or any(True for _ in media.event_files()):
        raise StoreError(
            f"the store has {n_present} events, or its folder {media.folder} has files: restore into an empty one"
        )
    try:
        rows = [row for row in _read_rows(source, files) if is_inside(row["path"])]
        uploaded = {row["path"]: row.get("uploaded") is not None for row in rows}
        copied = {path: _copy(source / "media" / path, media.folder / path) for path in uploaded}
        aside = source / "media" / media.quarantine.name
        for path in aside.rglob("*"):
            _copy(path, media.quarantine / path.relative_to(aside))
        with database.write() as connection:
            for table in TABLES:
                if table.name in head["rows"]:  # a backup of an earlier version has fewer tables
                    _insert_rows(connection, table, source, str(head["site"]), media.site)
            _write_sidecars(connection, media)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise disk_error(f"cannot restore {source}", error) from None
    return _summed(int(head["rows"]["events"]), copied, uploaded)


def _summed(n_events: int, copied: Mapping[str, int | None], uploaded: Mapping[str, bool]) -> BackupResult:
    """Sum up a copy, from the size of each copied file and whether the object store has it."""
    sizes = [size for size in copied.values() if size is not None]
    left = [uploaded[path] for path, size in copied.items() if size is None]
    return BackupResult(n_events, len(sizes), sum(sizes), left.count(False), left.count(True))


def read_waiting(source: Path) -> list[WriteAheadEntry]:
    """The changes in a backup that its database had not stored yet; none in a backup of an earlier version."""
    return read_entries(source / _WAITING)


def _write_rows(connection: Connection, table: Table, target: Path, site: str) -> int:
    query = select(table)
    if "site" in table.c:
        query = query.where(table.c.site == site)
    elif "event_id" in table.c:
        query = query.where(table.c.event_id.in_(select(events.c.id).where(events.c.site == site)))
    n_rows = 0
    with (target / f"{table.name}.jsonl").open("w", encoding="utf-8") as file:
        for row in connection.execute(query).mappings():
            file.write(json.dumps({name: _to_json(value) for name, value in row.items()}) + "\n")
            n_rows += 1
    return n_rows


def _insert_rows(connection: Connection, table: Table, source: Path, old_site: str, new_site: str) -> None:
    batch: list[dict[str, Any]] = []
    for row in _read_rows(source, table):
        if row.get("site") == old_site:
            row["site"] = new_site
        batch.append(row)
        if len(batch) >= _BATCH:
            connection.execute(insert(table), batch)
            batch = []
    if batch:
        connection.execute(insert(table), batch)


def _write_sidecars(connection: Connection, media: MediaFolder) -> None:
    ids = list(connection.execute(select(events.c.id).where(events.c.site == media.site)).scalars())
    for first in range(0, len(ids), _BATCH):
        for event in read_events(connection, events.c.id.in_(ids[first : first + _BATCH])):
            media.write_sidecar(event)


def _read_rows(source: Path, table: Table) -> Iterator[dict[str, Any]]:
    with (source / f"{table.name}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
                columns = [column for column in table.c if column.name in row or not _is_new(column)]
                yield {column.name: _from_json(column.type, row[column.name]) for column in columns}
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"the backup {source} has a damaged row in {table.name}.jsonl: {error}") from None


def _is_new(column: Column[Any]) -> bool:
    """Whether a column may be missing in a backup of an earlier version: then it is empty, or has its default."""
    return bool(column.nullable) or column.server_default is not None


def _read_head(source: Path) -> dict[str, Any]:
    head: Any = None
    with suppress(OSError, ValueError):
        head = json.loads((source / _HEAD).read_text(encoding="utf-8"))
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise StoreError(f"{source} is not a backup of a store: it has no {_HEAD} of the format {FORMAT}")
    return head


def _copy(source: Path, target: Path) -> int | None:
    """Copy a file, readable by its owner alone; its size, None where it is missing."""
    if not source.is_file():
        return None
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    shutil.copystat(source, target)
    target.chmod(0o600)
    return target.stat().st_size


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _from_json(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, Moment):
        return EPOCH + timedelta(microseconds=value)
    return base64.b64decode(value) if isinstance(kind, LargeBinary) else value
