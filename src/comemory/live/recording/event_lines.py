"""The file `events.jsonl`: one line for each change, until it is too old."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

SMALL_BYTES = 1 << 20
"""A file up to this size is rewritten at every sweep that finds an old line in it, a larger one once a day."""
_TIMED = re.compile(rb'\{"change": "[a-z]+", "time": "([0-9TZ:.+-]{1,40})"')


class EventLines:
    """Lines that are added by one thread and expired by another.

    Args:
        path: of the file; made with its first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, values: Mapping[str, object]) -> None:
        """Add a line as a whole or not at all, on a line of its own even if a crash left the last one incomplete.

        Raises:
            OSError: it cannot be written.
            ValueError: a value is no JSON.
        """
        text = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock:
            _append(self.path, text.encode(errors="backslashreplace"))

    def expire(self, before: datetime) -> int:
        """Remove the lines of changes before a time; the number of them. Lines that cannot be read stay.

        The rest is written beside the file and replaces it in one step. Lines that are added meanwhile are in it too.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        beside = self.path.with_name(f".{self.path.name}.part")
        try:
            with self.path.open("rb") as file:
                with self._lock:
                    size = os.fstat(file.fileno()).st_size
                if not _is_due(file, size, before):
                    return 0
                with beside.open("wb") as kept:
                    os.fchmod(kept.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
                    n_removed = _copy_newer(file, size, kept, before)
                    _flush(kept)  # nearly all of it, while lines can still be added
                    with self._lock:
                        shutil.copyfileobj(file, kept)
                        _flush(kept)
                        beside.replace(self.path)
                return n_removed
        except FileNotFoundError:
            return 0
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def _is_due(file: IO[bytes], size: int, before: datetime) -> bool:
    """Whether the oldest line is so old that the file is rewritten. A time in the future is that of a wrong clock."""
    now = datetime.now(UTC)
    while line := file.readline(max(0, size - file.tell())):
        time = _time_of(line)
        if time is not None and time <= now:
            return time < (before if size <= SMALL_BYTES else before - timedelta(days=1))
    return False


def _copy_newer(file: IO[bytes], size: int, kept: IO[bytes], before: datetime) -> int:
    n_removed = 0
    file.seek(0)
    while line := file.readline(max(0, size - file.tell())):
        time = _time_of(line)
        if time is not None and time < before:
            n_removed += 1
        else:
            kept.write(line)
    return n_removed


def _time_of(line: bytes) -> datetime | None:
    """The time of a change; None for a line that is not complete, or not one of ours."""
    found = _TIMED.match(line)
    if found is None or not line.endswith(b"}\n"):
        return None
    try:
        time = datetime.fromisoformat(found[1].decode("ascii"))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _append(path: Path, line: bytes) -> None:
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            while line:
                line = line[file.write(line) :]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise
