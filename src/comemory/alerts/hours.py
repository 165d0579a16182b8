"""Hours of the week, such as the quiet hours of a sink."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_DAY_MIN = 24 * 60


@dataclass(frozen=True)
class Hours:
    """A span of the day on some days of the week. A span over midnight belongs to the day it starts on.

    Attributes:
        days: 0 for Monday.
        start_min: minutes since midnight.
        end_min: minutes since midnight, exclusive.
    """

    days: frozenset[int]
    start_min: int
    end_min: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Parse `08:00-18:00`, `mon-fri 22:00-06:00` or `sun 00:00-24:00`.

        Raises:
            ValueError: the text has another form.

        >>> Hours.parse("sat-sun 22:00-06:00").contains(datetime(2026, 11, 23, 5, 59))
        True
        """
        found = _SPAN.fullmatch(text.strip().lower())
        if not found or not {found[1], found[2]} - {None} <= set(DAYS):
            raise ValueError(f"cannot read the hours {text!r}: expected such as '08:00-18:00' or 'mon-fri 22:00-06:00'")
        start_h, start_m, end_h, end_m = (int(part) for part in found.groups()[2:])
        start, end = start_h * 60 + start_m, end_h * 60 + end_m
        if start_m > 59 or end_m > 59 or start >= _DAY_MIN or end > _DAY_MIN or start == end:
            raise ValueError(f"cannot read the hours {text!r}: expected two different times of a day of 24 hours")
        first = DAYS.index(found[1]) if found[1] else 0
        last = DAYS.index(found[2]) if found[2] else (first if found[1] else 6)
        return cls(frozenset((first + k) % 7 for k in range((last - first) % 7 + 1)), start, end)

    def contains(self, now: datetime) -> bool:
        """Whether a local time is inside."""
        minute, day = now.hour * 60 + now.minute, now.weekday()
        if self.start_min < self.end_min:
            return day in self.days and self.start_min <= minute < self.end_min
        return (day in self.days and minute >= self.start_min) or ((day - 1) % 7 in self.days and minute < self.end_min)


def local_time(moment: datetime, zone: str | None) -> datetime:
    """An aware time in a time zone; in that of this machine when None.

    >>> from datetime import UTC
    >>> local_time(datetime(2026, 7, 1, 12, tzinfo=UTC), "Europe/Paris").hour
    14
    """
    return moment.astimezone(ZoneInfo(zone) if zone else None)
