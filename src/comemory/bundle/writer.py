"""Bundles written whole or not at all, and nothing left beside them for longer than to the next write."""

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

from comemory.bundle.files import FORMAT, MANIFEST, OPTIONAL, REQUIRED, parse_json_object, read_member, sha256
from comemory.errors import BundleError, short
from comemory.files import flush_to_disk


@contextmanager
def bundle_writer(path: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill with members; at the end write the manifest and move the whole into place.

    Until then the bundle at `path`, if there is one, stays as it was; after an error it still is, and no half bundle lies
    beside it. What a writer that was killed has left there is removed. Replaces a bundle; refuses to replace anything
    else.

    Raises:
        BundleError: the place is taken by something else, the members are not those of a bundle, or writing failed (a
            full disk, say).
    """
    target = Path(path)
    require_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        with _passing_folder(target) as folder:
            yield folder
            _write_manifest(folder)
            folder.chmod(0o755)
            _move_into_place(folder, target)
    except (OSError, safetensors.SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise BundleError(f"cannot write the bundle {target}: {reason or error}; nothing was changed") from None


def require_replaceable(target: Path) -> None:
    """Raise BundleError where `target` exists and is no bundle, so that no folder of somebody's is ever lost.

    An empty folder may be replaced. A bundle is a folder with a manifest that says so and nothing but members.
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
    if strangers := sorted(entries - {MANIFEST, *REQUIRED, *OPTIONAL}):
        raise BundleError(
            f"{target} also holds {short(strangers[0])}, which is no part of a bundle: move it away first"
        )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object readably. Text that is no UTF-8, as in odd file names, is kept as escapes.

    Raises:
        BundleError: it holds what JSON has no form for, such as NaN.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"cannot write {path.name}: {error}") from None
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def copy_members(source: Path, target: Path, exclude: Collection[str] = ()) -> None:
    """Copy the members of a bundle, less its manifest, into a folder to be filled."""
    for member in source.iterdir():
        if member.name != MANIFEST and member.name not in exclude:
            shutil.copyfile(member, target / member.name)


def _is_manifest(folder: Path) -> bool:
    try:
        return {"format", "members"} <= parse_json_object(folder, MANIFEST, read_member(folder, MANIFEST)).keys()
    except BundleError:
        return False


def _write_manifest(folder: Path) -> None:
    """Name the members, all of them on the disk by then: a loss of power cannot leave a bundle of empty files."""
    names = {member.name for member in folder.iterdir()}
    if names - {*REQUIRED, *OPTIONAL} or not names.issuperset(REQUIRED):
        raise BundleError(f"a bundle is made of {', '.join(REQUIRED)}, got {', '.join(sorted(names)) or 'nothing'}")
    members = {}
    for member in sorted(folder.iterdir()):
        members[member.name] = {"sha256": sha256(member), "bytes": member.stat().st_size}
        member.chmod(0o644)
        flush_to_disk(member)
    write_json(folder / MANIFEST, {"format": FORMAT, "members": members})
    flush_to_disk(folder / MANIFEST)
    flush_to_disk(folder)


@contextmanager
def _passing_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, locked for as long as this process uses it, removed afterwards."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".passing", dir=target.parent))
        descriptor = _locked(folder, wait=True)
        if folder.exists():  # a sweep may have come between the two steps
            break
        _release(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(descriptor)


def _locked(folder: Path, *, wait: bool = False) -> int | None:
    """A descriptor that holds the folder's lock, which ends with the process; None where that cannot be had."""
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


def _sweep(target: Path) -> None:
    """Remove the passing folders of writers that were killed: nobody holds their locks any more."""
    passing = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]+\.passing")
    for folder in list(target.parent.iterdir()):
        if not passing.fullmatch(folder.name) or (descriptor := _locked(folder)) is None:
            continue
        kept = folder / target.name
        if kept.is_dir() and not target.exists():
            kept.rename(target)
        shutil.rmtree(folder, ignore_errors=True)
        _release(descriptor)


def _move_into_place(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
    elif not _exchange(folder, target):
        _move_aside(folder, target)
    flush_to_disk(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that at no moment there is no bundle; False where the system cannot (not Linux)."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _move_aside(folder: Path, target: Path) -> None:
    """Move the old bundle into a passing folder first; `_sweep` brings it back where the second step never came."""
    with _passing_folder(target) as aside:
        target.rename(aside / target.name)
        try:
            folder.rename(target)
        except OSError:
            (aside / target.name).rename(target)
            raise
