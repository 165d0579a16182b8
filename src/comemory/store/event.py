"""The nouns of the store: an event as it is kept, what people said of it, what became of a sweep."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from comemory.errors import StoreError, short
from comemory.types import JSON, Box

Verdict = Literal["normal", "abnormal"]
FileKind = Literal["thumbnail", "heat", "clip"]
FILE_KINDS: tuple[FileKind, ...] = ("thumbnail", "heat", "clip")

_LAST = 0
_LAST_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a camera as the store keeps it.

    Attributes:
        id: from `new_id`; sorts by time.
        start, peak, end: aware; kept in UTC. `end` is None while the event is open.
        peak_score, appearance, motion: at the peak.
        box: the worst patch of the peak in pixels of the camera's picture.
        size: (height, width) of that picture.
        model: the first 16 characters of the bundle's hash.
        threshold: in force when the event began.
        verdict: what a person said of it, None when nobody did.
        suppressed: it fired but was silenced by feedback, a zone or the hours.
        files: kind to path, relative to the media folder, with forward slashes.
        cells: the evidence signature at the peak, for feedback.

    Raises:
        StoreError: a time without a time zone.
    """

    id: str
    camera: str
    start: datetime
    peak: datetime
    end: datetime | None
    peak_score: float
    appearance: float
    motion: float
    box: Box | None
    size: tuple[int, int]
    model: str
    threshold: float
    verdict: Verdict | None = None
    suppressed: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    cells: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("start", "peak", "end"):
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, utc(moment))

    def to_json(self) -> JSON:
        """Plain values: times as ISO 8601 with a `Z`, tuples as lists."""
        values: JSON = asdict(self)
        for name in ("start", "peak", "end"):
            values[name] = iso(getattr(self, name))
        for name in ("box", "size", "cells"):
            values[name] = None if values[name] is None else list(values[name])
        values["files"] = dict(self.files)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StoredEvent:
        """What `to_json` gave.

        Raises:
            StoreError: it is not that.
        """
        try:
            plain = dict(values)
            for name in ("start", "peak", "end"):
                plain[name] = None if plain[name] is None else datetime.fromisoformat(plain[name])
            for name in ("box", "size", "cells"):
                plain[name] = None if plain[name] is None else tuple(plain[name])
            return cls(**plain)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"not the JSON of an event: {error}; seen {short(values)}") from None


@dataclass(frozen=True, slots=True)
class Mark:
    """What a timeline shows of an event; see `StoredEvent`."""

    id: str
    camera: str
    start: datetime
    end: datetime | None
    peak_score: float
    verdict: Verdict | None
    suppressed: bool


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """One entry of an event's history: what was said, by whom, when, and whether it was taken back."""

    verdict: Verdict | None
    by: str
    at: datetime
    undone: bool


@dataclass(frozen=True, slots=True)
class StateChange:
    """A camera's health from a moment on."""

    camera: str
    state: str
    message: str | None
    at: datetime

    def to_json(self) -> JSON:
        return {**asdict(self), "at": iso(self.at)}


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        closed: events that a crash had left open.
        events: events deleted.
        files, bytes_freed: files of events deleted, and their sizes with those of the orphans.
        orphans: files deleted that belonged to no event.
        short: the quota or the disk is still exceeded and there is nothing left to delete.
    """

    closed: int = 0
    events: int = 0
    files: int = 0
    orphans: int = 0
    bytes_freed: int = 0
    short: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is.

    Attributes:
        cameras: camera to number of events.
        files, bytes: of the media, as recorded.
        free_bytes: of the disk that the media lie on, None when it does not tell.
        alerts: sink to the number of alerts `pending`, `delivered`, `failed` (given up) and `held` (by cool-down or
            quiet hours).
    """

    events: int
    open: int
    suppressed: int
    normal: int
    abnormal: int
    cameras: Mapping[str, int]
    files: int
    bytes: int
    free_bytes: int | None
    alerts: Mapping[str, Mapping[str, int]]

    def to_json(self) -> JSON:
        return asdict(self)


def utc(moment: datetime) -> datetime:
    """An aware time in UTC.

    Raises:
        StoreError: it has no time zone.
    """
    if moment.tzinfo is None:
        raise StoreError(f"the time {moment.isoformat()} has no time zone: give one, such as datetime.now(UTC)")
    return moment.astimezone(UTC)


def iso(moment: datetime | None) -> str | None:
    """A time as JSON has it.

    >>> iso(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000Z'
    """
    return None if moment is None else utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id(at: datetime | None = None) -> str:
    """A UUID of version 7: it sorts by the time given; without one, by the order in which this process asks.

    >>> new_id(datetime(2026, 1, 1, tzinfo=UTC)) < new_id(datetime(2026, 1, 2, tzinfo=UTC))
    True
    >>> first, second = new_id(), new_id()
    >>> first < second
    True
    """
    global _LAST
    milliseconds = time.time_ns() // 1_000_000 if at is None else max(0, int(utc(at).timestamp() * 1000))
    ticks = (milliseconds << 12 | secrets.randbits(11)) & (1 << 60) - 1
    if at is None:
        with _LAST_LOCK:
            ticks = _LAST = max(ticks, _LAST + 1)
    value = (ticks >> 12) << 80 | 7 << 76 | (ticks & 0xFFF) << 64 | 2 << 62 | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_inside(path: str) -> bool:
    """Whether a relative path stays below the folder it is relative to.

    >>> is_inside("gate/2026-01-02/a.jpg"), is_inside("../a.jpg"), is_inside("/etc/passwd")
    (True, False, False)
    """
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and bool(pure.parts)
