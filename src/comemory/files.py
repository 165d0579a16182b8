"""Output files: checked before the work begins, and written whole or not at all.

After a power cut there is either the old file or the new one. Writers that change one file take turns.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from comemory.errors import ConfigError, SourceError, mask_password

Content = TypeVar("Content", dict[str, Any], list[Any])


def require_writable_folder(folder: Path) -> None:
    """Make a folder if it is missing, and check that files can be created in it.

    Raises:
        ConfigError: they cannot, or it is a URL.
    """
    refuse_url(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _not_writable(folder, error) from None


def check_writable_folder(folder: Path) -> Path:
    """Check that files can be created in a folder, or that it can be made; nothing is left behind.

    Returns:
        The folder, or the nearest of its parents that exists.

    Raises:
        ConfigError: they cannot.
    """
    refuse_url(folder)
    present = next(filter(_exists, (folder.absolute(), *folder.absolute().parents)))
    try:
        with tempfile.TemporaryFile(dir=present):
            return present
    except OSError as error:
        raise _not_writable(folder, error) from None


_URL = re.compile(r"(?:^|/)(s3a?|gc?s|az|abfss?|hdfs|https?|s?ftp|file):(?:/|$)(.*)", re.IGNORECASE)


def refuse_url(path: Path) -> None:
    """Refuse the path that becomes of a URL: `s3://bucket/x` would be a folder `s3:` on this machine.

    Raises:
        ConfigError: it is one.
    """
    if found := _URL.search(str(path)):
        url = mask_password(f"{found[1]}://{found[2]}")
        raise ConfigError(f"cannot write into {url}: expected a path on this machine, not a URL")


def _exists(path: Path) -> bool:
    """Whether anything lies there, such as a link to nowhere; False where that cannot be found out."""
    with suppress(OSError):
        path.lstat()
        return True
    return False


def _not_writable(folder: Path, error: OSError) -> ConfigError:
    """Why no file can be created in a folder, and what to do."""
    file = next(filter(_is_file, (folder, *folder.parents)), None)
    if file is not None:
        return ConfigError(f"cannot write into {folder}: {'it' if file == folder else file} is a file; choose a folder")
    return ConfigError(f"cannot write into {folder}: {error.strerror or error}; choose a writable folder")


def _is_file(path: Path) -> bool:
    """Whether something that is no folder lies there; False where that cannot be found out."""
    with suppress(OSError):
        return path.exists() and not path.is_dir()
    return False


def require_writable_file(target: Path, inputs: Iterable[str] = ()) -> None:
    """Check that a file can be written, and make its folder if it is missing.

    Args:
        target: the file; an existing one will be replaced.
        inputs: files that must not be replaced.

    Raises:
        ConfigError: it cannot be written, is something else than a file, or is one of the inputs.
    """
    refuse_url(target)
    try:
        if target.exists() and not target.is_file():
            raise ConfigError(f"cannot write {target}: it exists and is not a file; choose another name")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror or error}") from None
    for source in inputs:
        with suppress(OSError):
            if Path(source).samefile(target):
                raise ConfigError(f"cannot write {target}: it is an input; choose another output")
    require_writable_folder(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file whole, or leave the old one. See `write_bytes`.

    Raises:
        SourceError: it cannot be written, for example on a full disk.
    """
    write_bytes(target, text.encode("utf-8"))


def write_bytes(target: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file whole, or leave the old one: it is written beside the target, flushed, then renamed.

    Args:
        target: the file.
        content: its new content.
        private: whether only its owner may read it, from the first byte on.

    Raises:
        SourceError: it cannot be written, for example on a full disk.
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
    """Flush the names in a folder to the disk, where its file system can, so that they survive a power cut."""
    with suppress(OSError):
        flush_to_disk(folder)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: the file system cannot do that.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(folder: Path) -> Iterator[None]:
    """Lock a folder among all threads and processes, to read one of its files, change it and write it back.

    Continues without a lock where the folder cannot be locked. Not reentrant.
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
    """Read the object in a JSON file that is about to be changed; an empty one where there is no file.

    Raises:
        SourceError: it cannot be read, or is something else, which must not be overwritten.
    """
    return _read_json(path, dict)


def read_json_list(path: Path) -> list[Any]:
    """Read the list in a JSON file that is about to be changed; an empty one where there is no file.

    Raises:
        SourceError: as `read_json_object`.
    """
    return _read_json(path, list)


def _read_json(path: Path, kind: type[Content]) -> Content:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return kind()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise SourceError(f"{path} is damaged and was left as it is: restore or delete it")
    return found
