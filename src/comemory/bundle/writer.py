"""Writing a bundle whole or not at all. What a killed writer left behind is removed by the next one."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors

from comemory.bundle.files import FORMAT, MANIFEST, OPTIONAL, REQUIRED, parse_json_object, read_member, sha256_of_file
from comemory.errors import BundleError, short_repr
from comemory.files import flush_to_disk


@contextmanager
def bundle_writer(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to be filled with members; at the end write the manifest and move the whole into place.

    A bundle that was at `path` stays as it was until then, and after an error. It is replaced; anything else at `path` is
    refused.

    Args:
        path: of the bundle.

    Raises:
        BundleError: `path` is taken by something else, the members are not those of a bundle, or writing failed (a full
            disk, for example).
    """
    target = Path(path)
    require_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        with _temporary_folder(target) as folder:
            yield folder
            _write_manifest(folder)
            folder.chmod(0o755)
            _move_into_place(folder, target)
    except (OSError, safetensors.SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise BundleError(f"cannot write the bundle {target}: {reason or error}; nothing was changed") from None


def require_replaceable(target: Path) -> None:
    """Refuse a target that is neither free, nor an empty folder, nor a bundle, so that nobody's folder is ever lost.

    A bundle is a folder with a manifest and nothing but members.

    Raises:
        BundleError: it is something else.
    """
    try:
        mode = target.lstat().st_mode
        entries = {entry.name for entry in target.iterdir()} if stat.S_ISDIR(mode) else None
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot write the bundle {target}: {error}") from None
    if entries is None or (entries and not _is_manifest(target)):
        raise BundleError(f"{target} exists and is not a bundle: choose another place")
    if unknown := sorted(entries - {MANIFEST, *REQUIRED, *OPTIONAL}):
        raise BundleError(
            f"{target} also contains {short_repr(unknown[0])}, which is not part of a bundle: move it elsewhere first"
        )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object for people to read. Text that is not valid UTF-8, as in odd file names, is written as escapes.

    Raises:
        BundleError: a value cannot be expressed in JSON, such as NaN.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"cannot write {path.name}: {error}") from None
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def copy_members(source: Path, target: Path, exclude: Collection[str] = ()) -> None:
    """Copy the members of a bundle, without its manifest and those in `exclude`, into a folder."""
    for member in source.iterdir():
        if member.name != MANIFEST and member.name not in exclude:
            shutil.copyfile(member, target / member.name)


def _is_manifest(folder: Path) -> bool:
    try:
        return {"format", "members"} <= parse_json_object(folder, MANIFEST, read_member(folder, MANIFEST)).keys()
    except BundleError:
        return False


def _write_manifest(folder: Path) -> None:
    """Write the manifest once all members are on the disk: a power cut cannot leave a bundle of empty files."""
    names = {member.name for member in folder.iterdir()}
    if names - {*REQUIRED, *OPTIONAL} or not names.issuperset(REQUIRED):
        raise BundleError(f"a bundle needs {', '.join(REQUIRED)}: got {', '.join(sorted(names)) or 'nothing'}")
    members = {}
    for member in sorted(folder.iterdir()):
        members[member.name] = {"sha256": sha256_of_file(member), "bytes": member.stat().st_size}
        member.chmod(0o644)
        flush_to_disk(member)
    write_json(folder / MANIFEST, {"format": FORMAT, "members": members})
    flush_to_disk(folder / MANIFEST)
    flush_to_disk(folder)


@contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target: locked while this process uses it, then removed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        descriptor = _lock(folder, wait=True)
        if folder.exists():  # another writer may have removed it before it was locked
            break
        _release(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(descriptor)


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """Lock a folder. Returns the descriptor that holds the lock until it is closed or the process ends; None without one."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            os.close(descriptor)
        else:
            return descriptor
    return None


def _release(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary folders of writers that were killed: nobody holds their locks any more.

    An old bundle among them, moved aside by `_move_aside`, is moved back where there is no new one.
    """
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]+\.partial")
    for folder in list(target.parent.iterdir()):
        if not pattern.fullmatch(folder.name) or (descriptor := _lock(folder)) is None:
            continue
        moved_aside = folder / target.name
        if moved_aside.is_dir() and not target.exists():
            moved_aside.rename(target)
        shutil.rmtree(folder, ignore_errors=True)
        _release(descriptor)


def _move_into_place(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
    elif not _swap_folders(folder, target):
        _move_aside(folder, target)
    flush_to_disk(target.parent)


def _swap_folders(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that there is a bundle at every moment. False where the system cannot (not Linux)."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _move_aside(folder: Path, target: Path) -> None:
    """Move the old bundle aside, then the new one in. After a crash in between, `_remove_leftovers` restores the old one."""
    with _temporary_folder(target) as aside:
        target.rename(aside / target.name)
        try:
            folder.rename(target)
        except OSError:
            (aside / target.name).rename(target)
            raise
