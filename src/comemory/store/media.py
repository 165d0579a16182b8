"""The media folder: thumbnails, heat maps and clips beside the database, and what lies there that it does not know.

CAMERA/DATE/ID-KIND.EXT   a file of an event
CAMERA/DATE/ID.json       the event itself: with it, `comemory store adopt` puts the event into any database
.incoming/                files that are being written
.quarantine/              files that no database row belongs to, under the path that they had
.write-ahead              changes that the database has not stored yet
.site, .lock              the name of this folder, and who uses it
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, cast

from comemory.errors import StoreError, StoreFull
from comemory.store.event import FILE_KINDS, FileKind, StoredEvent, is_inside

ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_EVENT_FILE = re.compile(rf"({ID})-({'|'.join(FILE_KINDS)})(?:\.[A-Za-z0-9]{{1,8}})?")
_SIDECAR = re.compile(rf"{ID}\.json")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PRIVATE_FOLDER = 0o700
UNFINISHED = "incoming/unfinished"
"""Folder in the quarantine for files that a crash left half written."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What is in the quarantine.

    Attributes:
        files: number of files.
        bytes: of all of them.
        oldest: when the first of them came, in UTC; None where there is none.
    """

    files: int = 0
    bytes: int = 0
    oldest: datetime | None = None


class MediaFolder:
    """The media folder.

    Args:
        folder: made where it is missing, for its owner alone.
        shared: do not claim the folder for this process.

    Attributes:
        folder: absolute.
        site: names this folder among those that share one database.
        scratch: for files that are being written.
        quarantine: for files that no database row belongs to.
        write_ahead: path of the write-ahead file.
        error: why the last file could not be moved in; None after one that could.

    Raises:
        StoreError: it cannot be made, or another process owns it.
    """

    def __init__(self, folder: Path, *, shared: bool) -> None:
        self.folder = folder.expanduser().absolute()
        self.scratch = self.folder / ".incoming"
        self.quarantine = self.folder / ".quarantine"
        self.write_ahead = self.folder / ".write-ahead"
        self.error: str | None = None
        try:
            self.folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self.scratch.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            self._lock: IO[str] | None = None if shared else _locked(self.folder / ".lock")
            self.site = _site(self.folder)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise disk_error(f"cannot use the media folder {self.folder}", error) from None

    @property
    def is_owned(self) -> bool:
        """Whether this process claimed the folder."""
        return self._lock is not None

    def close(self) -> None:
        """Release the folder. May be called twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def path_for(self, camera: str, id: str, start: datetime, kind: FileKind, suffix: str) -> str:
        """Where a file of an event goes, relative to the folder."""
        suffix = suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""
        return f"{slug(camera)}/{start:%Y-%m-%d}/{id}-{kind}{suffix.lower()}"

    def move_in(self, source: Path, path: str) -> int:
        """Move a file to its place in one step, from another disk too; its size.

        Raises:
            StoreError: it cannot be read or moved.
            StoreFull: the disk is full.
        """
        target = self.folder / path
        beside = self.scratch / uuid.uuid4().hex
        try:
            try:
                self._make_folder(target.parent)
                if source.stat().st_dev != self.folder.stat().st_dev:
                    shutil.copyfile(source, beside)
                    beside.chmod(0o600)
                    _flush(beside)
                    beside.replace(target)
                    source.unlink()
                else:
                    source.chmod(0o600)
                    _flush(source)
                    source.replace(target)
                size = target.stat().st_size
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            failure = disk_error(f"cannot store {source.name}", error)
            self.error = str(failure)
            raise failure from None
        self.error = None
        return size

    def move_back(self, path: str, source: Path) -> None:
        """Undo `move_in`. A file that cannot be moved stays where it is: the next recovery finds it there."""
        with suppress(OSError):
            shutil.move(self.folder / path, source)
        self._remove_empty(path)

    def write_sidecar(self, event: StoredEvent) -> None:
        """Write the event beside its files. A full disk is no error here: the sidecar is a copy."""
        if not event.files:
            return
        beside = self.scratch / f"{uuid.uuid4().hex}.json"
        record = {"site": self.site, "event": event.to_json()}
        with suppress(OSError):
            target = self.folder / self.sidecar_for(event)
            self._make_folder(target.parent)
            beside.write_text(json.dumps(record), encoding="utf-8")
            beside.chmod(0o600)
            beside.replace(target)
        with suppress(OSError):
            beside.unlink(missing_ok=True)

    def sidecar_for(self, event: StoredEvent) -> str:
        """Where an event's sidecar lies, relative to the folder."""
        return f"{slug(event.camera)}/{event.start:%Y-%m-%d}/{event.id}.json"

    def _make_folder(self, folder: Path) -> None:
        for one in reversed([folder, *folder.parents]):
            if one.is_relative_to(self.folder):
                one.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)

    def find(self, path: str) -> Path | None:
        """The file at a stored path; None where it is missing, or the path leads out of the folder."""
        if not is_inside(path):
            return None
        found = self.folder / path
        try:
            resolved = found.resolve(strict=True)
        except OSError:
            return None
        return found if resolved.is_file() and resolved.is_relative_to(self.folder.resolve()) else None

    def remove(self, path: str) -> None:
        """Delete a file and the folders that it leaves empty. A missing file is no error."""
        if not is_inside(path):
            return
        target = self.folder / path
        with suppress(OSError):
            target.unlink(missing_ok=True)
        self._remove_empty(path)

    def _remove_empty(self, path: str) -> None:
        with suppress(OSError):
            for parent in list(PurePosixPath(path).parents)[:-1]:
                (self.folder / parent).rmdir()

    def event_files(self, below: Path | None = None) -> Iterator[str]:
        """Every file that is named as an event's file or sidecar, relative to the folder (or to `below`)."""
        root = below or self.folder
        for path in sorted(root.glob("[!.]*/*/*")):
            if event_of(path.name) is not None and path.is_file() and not path.is_symlink():
                yield str(PurePosixPath(path.relative_to(root)))

    def size(self, path: str) -> int:
        """Of a file in bytes, 0 where it is not there."""
        try:
            return (self.folder / path).stat().st_size
        except OSError:
            return 0

    def quarantine_file(self, path: str) -> None:
        """Move a file to the quarantine, under the path that it has.

        Raises:
            StoreError: it cannot be moved.
        """
        target = self.quarantine / path
        try:
            target.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            _note_arrival(self.folder / path)
            (self.folder / path).replace(target)
        except OSError as error:
            raise disk_error(f"cannot move {path} to the quarantine", error) from None
        self._remove_empty(path)

    def unfinished_clips(self, before: float) -> list[tuple[Path, str]]:
        """Clips in `scratch`, not empty and last written before a time, each with the id of its event."""
        found = [
            (path, path.stem.removesuffix("-clip")) for path in sorted(self.scratch.glob("*.mp4")) if path.is_file()
        ]
        statuses = [(path, id, path.stat()) for path, id in found if re.fullmatch(ID, id)]
        return [(path, id) for path, id, status in statuses if status.st_size and status.st_mtime < before]

    def quarantine_scratch(self, before: float = math.inf, but: Collection[Path] = ()) -> int:
        """Move files that were never attached, and were last written before a time, to the quarantine; their number.

        Args:
            before: seconds since 1970.
            but: files that stay.
        """
        n_moved = 0
        for path in [path for path in self.scratch.rglob("*") if path.is_file() and path not in but]:
            target = self.quarantine / UNFINISHED / path.name
            with suppress(OSError):
                if path.stat().st_mtime < before:
                    target.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
                    _note_arrival(path)
                    path.replace(target)
                    n_moved += 1
        return n_moved

    def quarantined(self) -> list[Path]:
        """Every file in the quarantine."""
        return [path for path in sorted(self.quarantine.rglob("*")) if path.is_file() and not path.is_symlink()]

    def sum_of_quarantine(self) -> Quarantined:
        """How much is in the quarantine, and since when."""
        statuses = []
        for path in self.quarantined():
            with suppress(OSError):  # it was deleted or adopted meanwhile
                statuses.append(path.stat())
        oldest = min((_arrival(status) for status in statuses), default=None)
        return Quarantined(
            len(statuses),
            sum(status.st_size for status in statuses),
            None if oldest is None else datetime.fromtimestamp(oldest, UTC),
        )

    def expire_quarantine(self, before: float) -> int:
        """Delete what came into the quarantine before a time (seconds since 1970); the bytes that it had."""
        freed = 0
        for path in self.quarantined():
            with suppress(OSError):
                status = path.stat()
                if _arrival(status) < before:
                    path.unlink()
                    freed += status.st_size
        return freed

    def free_bytes(self) -> int | None:
        """Free on the disk of the folder, None where that is not known."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return None


def slug(camera: str) -> str:
    """A camera's name as the name of a folder.

    >>> slug("gate"), slug("Côté/../cour"), slug("..")
    ('gate', 'C_t_____cour', '_')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", camera)[:80]
    return plain if plain.strip("_") else "_"


def unique_slug(name: str) -> str:
    """A slug that no two names share: a slug that differs from its name ends with a part of the name's hash.

    >>> unique_slug("gate_1"), unique_slug("gate.1")
    ('gate_1', 'gate_1-4c8a47')
    """
    plain = slug(name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def disk_error(what: str, error: OSError) -> StoreError:
    """Turn an error of the disk into one of the store: `StoreFull` where the disk is full."""
    if error.errno in _FULL:
        return StoreFull(f"{what}: the disk is full; free space or lower the retention")
    return StoreError(f"{what}: {error.strerror or error}")


def _locked(path: Path) -> IO[str]:
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        owner = handle.read(20).strip() or "unknown"
        handle.close()
        raise StoreError(
            f"the media folder {path.parent} is in use by another comemory (process {owner}): "
            "stop that one, or choose another folder"
        ) from None
    except OSError:
        handle.close()
        raise
    with suppress(OSError):
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
    return handle


def is_in_use(folder: Path) -> bool:
    """Whether a process owns a media folder."""
    with suppress(OSError), (folder / ".lock").open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def event_of(name: str) -> str | None:
    """The id of the event that a file belongs to by its name; None where it is no event's file or sidecar.

    >>> event_of("01890a5d-ac96-774b-bcce-b302099a8057-clip.mp4"), event_of("holiday.jpg")
    ('01890a5d-ac96-774b-bcce-b302099a8057', None)
    """
    found = _EVENT_FILE.fullmatch(name)
    if found:
        return found[1]
    return name.removesuffix(".json") if _SIDECAR.fullmatch(name) else None


def kind_of(name: str) -> FileKind | None:
    """The kind of an event's file by its name; None for sidecars and other files."""
    found = _EVENT_FILE.fullmatch(name)
    return cast(FileKind, found[2]) if found else None


def _note_arrival(path: Path) -> None:
    """Set the modification time of a file that goes into the quarantine: it is that of its recording.

    Not every file system sets the change time of a file that is renamed.
    """
    with suppress(OSError):
        os.utime(path)


def _arrival(status: os.stat_result) -> float:
    """When a file came into the quarantine. The later time counts: one of them may be that of the recording."""
    return max(status.st_mtime, status.st_ctime)


def _site(folder: Path) -> str:
    """The name of the folder: in `.site`, else the one that a sidecar names (a copy may lack `.site`), else a new one."""
    path = folder / ".site"
    with suppress(FileNotFoundError, UnicodeDecodeError):
        name = path.read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{32}", name):
            return name
    name = _site_of_sidecars(folder) or uuid.uuid4().hex
    beside = folder / ".incoming" / name
    beside.write_text(f"{name}\n", encoding="ascii")
    _flush(beside)
    beside.replace(path)
    return name


def _site_of_sidecars(folder: Path) -> str | None:
    for path in folder.glob("[!.]*/*/*.json"):
        if _SIDECAR.fullmatch(path.name):
            with suppress(OSError, ValueError, KeyError, TypeError):
                name = json.loads(path.read_text(encoding="utf-8"))["site"]
                if re.fullmatch(r"[0-9a-f]{32}", name):
                    return str(name)
    return None


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
