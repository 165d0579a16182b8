"""Taking media files that the database does not know into it, from the sidecars beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sqlalchemy import insert

from comemory.errors import StoreError
from comemory.store.database import Database
from comemory.store.event import FileKind, StoredEvent, is_inside
from comemory.store.media import MediaFolder, event_of, kind_of
from comemory.store.objects import MediaObjects
from comemory.store.rows import read_event, write_event
from comemory.store.schema import events, files


@dataclass(frozen=True, slots=True)
class AdoptionResult:
    """What an adoption did.

    Attributes:
        events: events that were not in the database before.
        files: files that belong to an event now.
        left: files without a sidecar that can be read, relative to the media folder.
    """

    events: int
    files: int
    left: tuple[str, ...]


def adopt(
    database: Database, media: MediaFolder, unknown: tuple[str, ...], objects: MediaObjects | None = None
) -> AdoptionResult:
    """Add unknown files and those in the quarantine to the database, each with its event.

    An event that is in the database stays as it is there; only its missing files are added. A file in the quarantine
    returns to its place. A file that a sidecar names and the folder lacks is added if the object store has it.

    Args:
        database: receives the events.
        media: the folder of the files.
        unknown: files of the folder without a row, relative to it.
        objects: of the files; None without an object store.

    Raises:
        StoreError: the database cannot be written, or a file cannot be moved.
        SourceError: the object store does not answer.
    """
    n_events, n_files, left = 0, 0, []
    for id, paths in _by_event(media, unknown).items():
        event = _read_sidecar(media, id, paths)
        if event is None:
            left += [str(path.relative_to(media.folder)) for path in paths]
            continue
        for path in paths:
            _return_to_place(media, path)
        remote = {} if objects is None else _find_objects(objects, media, event)
        is_new, added = _add(database, media, event, paths, remote)
        n_events, n_files = n_events + is_new, n_files + added
    return AdoptionResult(n_events, n_files, tuple(sorted(left)))


def _by_event(media: MediaFolder, unknown: tuple[str, ...]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    quarantined = (media.quarantine / path for path in media.event_files(media.quarantine))
    for path in (*(media.folder / path for path in unknown), *quarantined):
        if (id := event_of(path.name)) is not None:
            found.setdefault(id, []).append(path)
    return found


def _read_sidecar(media: MediaFolder, id: str, paths: list[Path]) -> StoredEvent | None:
    """The event of a group of files: its sidecar is among them, or beside one of them."""
    for path in _places(media, id, paths):
        with suppress(OSError, ValueError, KeyError, TypeError, StoreError):
            event = StoredEvent.from_json(json.loads(path.read_text(encoding="utf-8"))["event"])
            if event.id == id:
                return event
    return None


def _places(media: MediaFolder, id: str, paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        yield path.with_name(f"{id}.json")
        if path.is_relative_to(media.quarantine):
            yield media.folder / path.relative_to(media.quarantine).with_name(f"{id}.json")
        else:
            yield media.quarantine / path.relative_to(media.folder).with_name(f"{id}.json")


def _return_to_place(media: MediaFolder, path: Path) -> None:
    if path.is_relative_to(media.quarantine):
        place = media.folder / path.relative_to(media.quarantine)
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.replace(place)
        except OSError as error:
            raise StoreError(f"cannot move {path} to {place}: {error.strerror or error}") from None


def _find_objects(objects: MediaObjects, media: MediaFolder, event: StoredEvent) -> dict[FileKind, tuple[str, int]]:
    """Path and bytes, by kind, of the files of an event that are in the object store and not in the folder."""
    found: dict[FileKind, tuple[str, int]] = {}
    for path in event.files.values():
        name = PurePosixPath(path).name
        kind = kind_of(name)
        if kind is None or event_of(name) != event.id or not is_inside(path) or media.find(path) is not None:
            continue
        if (size := objects.size(path)) is not None:
            found[kind] = path, size
    return found


def _add(
    database: Database,
    media: MediaFolder,
    event: StoredEvent,
    paths: list[Path],
    remote: Mapping[FileKind, tuple[str, int]],
) -> tuple[int, int]:
    """Add an event and its files in one transaction: 1 where the event is new, and the number of files added."""
    ended = event.end or max(event.start, event.peak)
    with database.write() as connection:
        known = read_event(connection, event.id)
        if known is None:
            write_event(connection, replace(event, end=ended), media.site, ended, is_new=True)
            given = {"verdict": event.verdict, "note": event.note, "favourite": event.favourite}
            connection.execute(events.update().where(events.c.id == event.id).values(**given))
        present = {} if known is None else known.files
        n_added = 0
        for path in paths:
            kind = kind_of(path.name)
            if kind is not None and kind not in present:
                root = media.quarantine if path.is_relative_to(media.quarantine) else media.folder
                relative = str(PurePosixPath(path.relative_to(root)))
                row = {"event_id": event.id, "kind": kind, "path": relative, "bytes": media.size(relative)}
                connection.execute(insert(files).values(**row))
                n_added += 1
        for kind, (path_, size) in remote.items():
            if kind not in present:
                row = {"event_id": event.id, "kind": kind, "path": path_, "bytes": size, "uploaded": ended}
                connection.execute(insert(files).values(**row))
                n_added += 1
    return int(known is None), n_added
