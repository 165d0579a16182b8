"""Files that a command is going to write: found out before the work whether they can be; written whole or not at all.

What a power cut leaves is the file before or the file after it, and a file that several change is changed by one at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from comemory.errors import ConfigError, SourceError

Kept = TypeVar("Kept", dict[str, Any], list[Any])


def require_writable_folder(folder: Path) -> None:
    """Make the folder if it is missing, and try whether files can be made in it.

    Raises:
        ConfigError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise ConfigError(f"cannot write into {folder}: it is a file; choose a folder") from None
    except OSError as error:
        raise ConfigError(
            f"cannot write into {folder}: {error.strerror or error}; choose a folder that can be written"
        ) from None


def require_writable_file(target: Path, inputs: Iterable[str] = ()) -> None:
    """Find out whether a file can be written at `target`, its folder made where missing.

    Args:
        target: a file that is there already will be replaced.
        inputs: what must not be.

    Raises:
        ConfigError: it cannot, it is there and not a file, or it is one of the inputs.
    """
    try:
        if target.exists() and not target.is_file():
            raise ConfigError(f"cannot write {target}: it is there and not a file; choose another name")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror or error}") from None
    for source in inputs:
        with suppress(OSError):
            if Path(source).samefile(target):
                raise ConfigError(f"cannot write {target}: it is an input; choose another output")
    require_writable_folder(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a text file whole, or leave what was there.

    Raises:
        SourceError: it cannot be written, such as on a full disk.
    """
    write_bytes(target, text.encode("utf-8"))


def write_bytes(target: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file whole, or leave what was there.

    Args:
        private: its owner alone can read it, from its first byte on.

    Raises:
        SourceError: it cannot be written, such as on a full disk.
    """
    place = target.resolve()
    beside = place.with_name(f".comemory-{secrets.token_hex(6)}.part")
    try:
        try:
            made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
            with os.fdopen(made, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise SourceError(f"cannot write {target}: {error.strerror or error}") from None
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlive a power cut, where its file system can."""
    with suppress(OSError):
        flush_to_disk(folder)


def flush_to_disk(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder. Raises OSError where it cannot."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(folder: Path) -> Iterator[None]:
    """One at a time, of all threads and processes that ask: to read a file of the folder, change it and write it.

    Where the folder cannot be locked it goes on without. It is not to be entered twice.
    """
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file that is going to be changed; an empty one where there is no file.

    Raises:
        SourceError: it cannot be read, or holds something else: what is in it is not written over.
    """
    return _read_kept(path, dict)


def read_json_list(path: Path) -> list[Any]:
    """The list in a JSON file, as `read_object`."""
    return _read_kept(path, list)


def _read_kept(path: Path, kind: type[Kept]) -> Kept:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return kind()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise SourceError(f"{path} is damaged, and stays as it is: restore it, or delete it")
    return found
