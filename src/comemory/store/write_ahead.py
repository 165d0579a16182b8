"""Changes that the database has not stored yet, in a file beside the media, so that an outage or a crash loses none.

Space for the file is reserved when it is made: it can be written while the disk is full. It holds one JSON record a line,
and ends at the first null byte. Once everything in it is stored, it starts again from its beginning.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from comemory.errors import StoreError
from comemory.store.event import StateChange, StoredEvent
from comemory.store.routing import Change, ChangeStamp

RESERVED_BYTES = 4 << 20
"""Room for some hundred changes of events: hours of an outage at a busy place."""
CLOSE_S = 0.5
_END = b"\0"
EventChange = Literal["new", "update", "end"]


@dataclass(frozen=True, slots=True)
class WriteAheadEntry:
    """One change, as it is stored and sent.

    Attributes:
        kind: `new`, `update` and `end` of an event, or `state` of a camera.
        content: the event as it is now, or the camera's new state.
        stamp: names the change.
    """

    kind: EventChange | Literal["state"]
    content: StoredEvent | StateChange
    stamp: ChangeStamp

    @property
    def subject(self) -> str:
        """What the change is of: an event, or a camera's state."""
        return self.content.id if isinstance(self.content, StoredEvent) else f"state:{self.content.camera}"

    def as_change(self, before: dict[str, Any] | None = None) -> Change:
        """The change as sinks are notified of it."""
        event = self.content if isinstance(self.content, StoredEvent) else None
        return Change(self.kind, self.subject, self.content.camera, before, self.content.to_json(), event, self.stamp)

    def to_line(self) -> bytes:
        """The entry as a line of the file."""
        record = {
            "kind": self.kind,
            "id": self.stamp.id,
            "time": self.stamp.time.isoformat(),
            "content": self.content.to_json(),
        }
        return json.dumps(record).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> WriteAheadEntry:
        """The inverse of `to_line`.

        Raises:
            StoreError: it is not such a line.
        """
        try:
            record = json.loads(line)
            content = record["content"]
            stamp = ChangeStamp(record["id"], datetime.fromisoformat(record["time"]))
            if record["kind"] == "state":
                moment = datetime.fromisoformat(content["at"])
                return cls("state", StateChange(content["camera"], content["state"], content["message"], moment), stamp)
            return cls(record["kind"], StoredEvent.from_json(content), stamp)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"not a line of the write-ahead file: {error}") from None


class WriteAheadLog:
    """The file, and the entries that wait. All methods may be called from any thread.

    Only `append` and `write` wait for the disk.

    Args:
        path: made where it is missing, readable by its owner alone.
        reserved_bytes: disk space to reserve.

    Attributes:
        left_over: entries that an earlier process did not store, in their order.
        error: why the last entry is in memory alone, such as a full disk; None where it is in the file.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, reserved_bytes: int = RESERVED_BYTES) -> None:
        self.path = path
        self.error: str | None = None
        self._reserved = reserved_bytes
        self._lock = threading.Lock()
        self._disk_lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            os.posix_fallocate(self._file, 0, reserved_bytes)
        content = _lines_of(path)
        self.left_over = tuple(_entries(content))
        self._waiting = {entry.stamp.id: entry for entry in self.left_over}
        self._position = len(content) if content.endswith(b"\n") else content.rfind(b"\n") + 1

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, entry: WriteAheadEntry) -> None:
        """Add an entry in memory; `write` writes it."""
        with self._lock:
            self._waiting[entry.stamp.id] = entry

    def append(self, entry: WriteAheadEntry) -> None:
        """Add an entry, and write it."""
        self.add(entry)
        self.write(entry)

    def write(self, entry: WriteAheadEntry) -> None:
        """Write an entry that was added, unless it was stored meanwhile, and wait until the disk has it.

        Where the disk is full, it stays in memory only; see `error`.
        """
        with self._disk_lock:
            if self.is_waiting(entry):
                try:
                    self._write(entry)
                except OSError as error:
                    self.error = f"cannot write {self.path}: {error.strerror or error}"
                else:
                    self.error = None
            self._begin_again()

    def remove(self, entry: WriteAheadEntry) -> None:
        """An entry was stored, or never will be. While another is being written, the file is left to that thread."""
        with self._lock:
            self._waiting.pop(entry.stamp.id, None)
        if self._disk_lock.acquire(blocking=False):
            try:
                self._begin_again()
            finally:
                self._disk_lock.release()

    def _begin_again(self) -> None:
        """Start at the beginning of the file once nothing waits."""
        with self._lock:
            is_needed = bool(self._waiting) or self._position == 0
        if not is_needed:
            self._position = 0
            with suppress(OSError):
                os.pwrite(self._file, _END, 0)
                os.ftruncate(self._file, self._reserved)

    def is_waiting(self, entry: WriteAheadEntry) -> bool:
        """Whether an entry is not stored yet."""
        with self._lock:
            return entry.stamp.id in self._waiting

    def waiting(self) -> list[WriteAheadEntry]:
        """The entries that wait, in their order."""
        with self._lock:
            return list(self._waiting.values())

    def waiting_ids(self) -> set[str]:
        """The stamps of the entries that wait."""
        with self._lock:
            return set(self._waiting)

    def waiting_subjects(self) -> set[str]:
        """What the waiting entries are of."""
        with self._lock:
            return {entry.subject for entry in self._waiting.values()}

    def close(self) -> None:
        """Close the file; what waits stays in it. May be called twice. A disk that hangs keeps it open."""
        if self._disk_lock.acquire(timeout=CLOSE_S):
            try:
                if self._file >= 0:
                    os.close(self._file)
                    self._file = -1
            finally:
                self._disk_lock.release()

    def _write(self, entry: WriteAheadEntry) -> None:
        line = entry.to_line()
        if self._position + len(line) >= self._reserved:
            self._compact(entry, len(line))
        self._put(line, self._position)
        self._position += len(line)

    def _put(self, content: bytes, position: int) -> None:
        """Write with the end mark behind it, which the next line replaces."""
        rest = memoryview(content + _END)
        while rest:
            written = os.pwrite(self._file, rest, position)
            rest, position = rest[written:], position + written
        os.fdatasync(self._file)

    def _compact(self, new: WriteAheadEntry, n_new: int) -> None:
        """Write the waiting entries before a new one from the start of the file again, without those that were stored.

        A crash in between may leave lines twice, which is harmless, or one line torn, which is left out.
        """
        before = takewhile(lambda entry: entry is not new, self.waiting())
        lines = b"".join(entry.to_line() for entry in before)
        if len(lines) < self._position and len(lines) + n_new < self._reserved:
            self._put(lines, 0)
            self._position = len(lines)


def read_entries(path: Path) -> list[WriteAheadEntry]:
    """The entries that wait in a file, which another process may be writing; none where there is no file."""
    try:
        return list(_entries(_lines_of(path)))
    except FileNotFoundError:
        return []


def _lines_of(path: Path) -> bytes:
    return path.read_bytes().partition(_END)[0]


def _entries(content: bytes) -> Iterator[WriteAheadEntry]:
    for line in content.split(b"\n"):
        with suppress(StoreError):
            yield WriteAheadEntry.from_line(line)
