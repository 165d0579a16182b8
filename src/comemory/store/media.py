"""The folder of pictures and clips beside the database: who owns it, where a file goes, what lies there unasked."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO

from comemory.errors import StoreError, StoreFull
from comemory.store.event import FILE_KINDS, FileKind, is_inside

_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OWN_FILE = re.compile(rf"{_ID}-(?:{'|'.join(FILE_KINDS)})(?:\.[A-Za-z0-9]{{1,8}})?")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Media:
    """The media folder.

    Args:
        folder: made where it is missing.
        shared: do not ask to be the only one.

    Attributes:
        folder: absolute.
        site: names this folder among those that share one database.
        scratch: for files being written; emptied when the store is opened.
        trouble: why the last file could not be moved in, None after one that could.

    Raises:
        StoreError: it cannot be made, or another process owns it.
    """

    def __init__(self, folder: Path, *, shared: bool) -> None:
        self.folder = folder.expanduser().absolute()
        self.scratch = self.folder / ".incoming"
        self.trouble: str | None = None
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = None if shared else _locked(self.folder / ".lock")
            self.site = _site(self.folder / ".site")
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise disk_error(f"cannot use the media folder {self.folder}", error) from None

    @property
    def is_owned(self) -> bool:
        return self._lock is not None

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def path_for(self, camera: str, id: str, start: datetime, kind: FileKind, suffix: str) -> str:
        """Where a file of an event goes, relative to the folder."""
        suffix = suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""
        return f"{slug(camera)}/{start:%Y-%m-%d}/{id}-{kind}{suffix.lower()}"

    def take(self, source: Path, path: str) -> int:
        """Move a file to its place in one step, from another disk too, and return its size.

        Raises:
            StoreError: it cannot be read or moved.
            StoreFull: the disk is full.
        """
        target = self.folder / path
        beside = self.scratch / uuid.uuid4().hex
        try:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.stat().st_dev != self.folder.stat().st_dev:
                    shutil.copyfile(source, beside)
                    _flush(beside)
                    beside.replace(target)
                    source.unlink()
                else:
                    _flush(source)
                    source.replace(target)
                size = target.stat().st_size
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            failure = disk_error(f"cannot store {source.name}", error)
            self.trouble = str(failure)
            raise failure from None
        self.trouble = None
        return size

    def find(self, path: str) -> Path | None:
        """The file at a stored path, None when it is not there or the path leads out of the folder."""
        if not is_inside(path):
            return None
        found = self.folder / path
        try:
            resolved = found.resolve(strict=True)
        except OSError:
            return None
        return found if resolved.is_file() and resolved.is_relative_to(self.folder.resolve()) else None

    def remove(self, path: str) -> None:
        """Delete a file, and the folders that it leaves empty; a file that is gone is no error."""
        if not is_inside(path):
            return
        target = self.folder / path
        with suppress(OSError):
            target.unlink(missing_ok=True)
        with suppress(OSError):
            for parent in list(target.relative_to(self.folder).parents)[:-1]:
                (self.folder / parent).rmdir()

    def own_files(self) -> Iterator[str]:
        """Every file below the folder that bears the name of an event's file, as a relative path."""
        for path in sorted(self.folder.glob("*/*/*")):
            if _OWN_FILE.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                yield str(PurePosixPath(path.relative_to(self.folder)))

    def size(self, path: str) -> int:
        try:
            return (self.folder / path).stat().st_size
        except OSError:
            return 0

    def clear_scratch(self) -> int:
        """Delete what a crash left half written, and say how many bytes that was."""
        freed = 0
        for path in self.scratch.rglob("*"):
            if path.is_file():
                with suppress(OSError):
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
        return freed

    def free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return None


def slug(camera: str) -> str:
    """A camera's name as a folder's.

    >>> slug("gate"), slug("Côté/../cour"), slug("..")
    ('gate', 'C_t_____cour', '_')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", camera)[:80]
    return plain if plain.strip("_") else "_"


def unlike(name: str) -> str:
    """A slug that no two names share: one that is not the name itself ends with a part of the name's hash.

    >>> unlike("gate_1"), unlike("gate.1")
    ('gate_1', 'gate_1-4c8a47')
    """
    plain = slug(name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def disk_error(what: str, error: OSError) -> StoreError:
    """An error of the disk in the store's words."""
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


def _site(path: Path) -> str:
    with suppress(FileNotFoundError, UnicodeDecodeError):
        name = path.read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{32}", name):
            return name
    name = uuid.uuid4().hex
    beside = path.parent / ".incoming" / name
    beside.write_text(f"{name}\n", encoding="ascii")
    _flush(beside)
    beside.replace(path)
    return name


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
