"""The types of the store: an event, the verdicts on it, a camera's state, the result of a sweep."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from comemory.errors import StoreError, short_repr
from comemory.types import JSON, Box

Verdict = Literal["normal", "abnormal"]
FileKind = Literal["thumbnail", "crop", "heat", "clip"]
FILE_KINDS: tuple[FileKind, ...] = ("thumbnail", "crop", "heat", "clip")

_LAST = 0
_LAST_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a camera.

    Attributes:
        id: from `new_id`; sorts by time.
        start: in UTC.
        peak: time of the highest score, in UTC.
        end: in UTC; None while the event is open.
        peak_score: the score at the peak.
        appearance: its appearance part.
        motion: its motion part.
        box: left, top, right, bottom of the worst patch at the peak, in pixels of the camera's frame.
        size: (height, width) of that frame.
        model: the first 16 characters of the bundle's hash.
        threshold: in force when the event began.
        verdict: of an operator, None without one.
        suppressed: it is recorded, but not announced: because of feedback, an ignored zone, or hours that do not count.
        files: kind to path, relative to the media folder, with forward slashes.
        cells: the evidence at the peak, cell by cell, for feedback.
        label: name of the object at the peak, from the detector of `[labels]`; None without one.
        region: corners (x, y) of the outline of the anomaly at the peak, in pixels of the camera's frame; None where it is
            not known.
        note: text of an operator, None without one.
        favourite: retention keeps the event and its files.

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
    label: str | None = None
    region: tuple[tuple[int, int], ...] | None = None
    note: str | None = None
    favourite: bool = False

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
        values["region"] = None if self.region is None else [list(point) for point in self.region]
        values["files"] = dict(self.files)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StoredEvent:
        """The inverse of `to_json`.

        Raises:
            StoreError: the values are not those of an event.
        """
        try:
            plain = dict(values)
            for name in ("start", "peak", "end"):
                plain[name] = None if plain[name] is None else datetime.fromisoformat(plain[name])
            for name in ("box", "size", "cells"):
                plain[name] = None if plain[name] is None else tuple(plain[name])
            if plain.get("region") is not None:
                plain["region"] = tuple((int(x), int(y)) for x, y in plain["region"])
            return cls(**plain)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"not the JSON of an event: {error}; seen {short_repr(values)}") from None


@dataclass(frozen=True, slots=True)
class EventSummary:
    """The part of an event that a timeline shows; see `StoredEvent`."""

    id: str
    camera: str
    start: datetime
    end: datetime | None
    peak_score: float
    verdict: Verdict | None
    suppressed: bool
    label: str | None
    favourite: bool


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """One entry of an event's verdict history.

    Attributes:
        by: who set it.
        undone: it was undone later.
    """

    verdict: Verdict | None
    by: str
    at: datetime
    undone: bool


@dataclass(frozen=True, slots=True)
class StateChange:
    """The state of a camera from `at` on."""

    camera: str
    state: str
    message: str | None
    at: datetime

    def to_json(self) -> JSON:
        """The state for the API."""
        return {**asdict(self), "at": iso(self.at)}


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep or a recovery did.

    Attributes:
        closed: events that a crash had left open, and that are ended now.
        events: events deleted, by the rules of retention.
        files: files deleted with them.
        quarantined: files that no row belongs to, moved to the quarantine.
        bytes_freed: by all deletions.
        over_quota: the quota or the disk is still exceeded, and nothing is left to delete.
    """

    closed: int = 0
    events: int = 0
    files: int = 0
    quarantined: int = 0
    bytes_freed: int = 0
    over_quota: bool = False


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How much there is.

    Attributes:
        cameras: camera to number of events.
        files: number of media files, as recorded.
        bytes: their size, as recorded.
        free_bytes: of the disk of the media folder, None where it is not known.
        alerts: sink to the number of alerts `pending`, `delivered`, `failed` (given up) and `muted` (by cool-down or
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
        """The counts for the API."""
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
    """A time as it stands in JSON.

    >>> iso(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000Z'
    """
    return None if moment is None else utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id(at: datetime | None = None) -> str:
    """A UUID of version 7: ids sort by the time given; without one, by the order of the calls in this process.

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
    """Whether a relative path stays inside its folder.

    >>> is_inside("gate/2026-01-02/a.jpg"), is_inside("../a.jpg"), is_inside("/etc/passwd")
    (True, False, False)
    """
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and bool(pure.parts)
