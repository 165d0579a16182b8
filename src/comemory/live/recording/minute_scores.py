"""The scores of a minute, kept as the highest of each of its parts."""

from __future__ import annotations

from datetime import UTC, datetime

PARTS = 12
PART_S = 60 / PARTS


class MinuteScores:
    """Scores in order to one record for each minute that is over."""

    def __init__(self) -> None:
        self._minute: int | None = None
        self._maxima: list[float | None] = [None] * PARTS

    def push(self, at: float, value: float) -> tuple[datetime, list[float]] | None:
        """Take a score of a Unix time; give the minute that is over with it, if one is."""
        minute = int(at // 60)
        done = self.finish() if self._minute is not None and minute != self._minute else None
        self._minute = minute
        part = min(int((at - 60 * minute) / PART_S), PARTS - 1)
        seen = self._maxima[part]
        self._maxima[part] = value if seen is None else max(seen, value)
        return done

    def finish(self) -> tuple[datetime, list[float]] | None:
        """The minute as far as it is known; parts without scores take the lowest of the others."""
        known = [value for value in self._maxima if value is not None]
        minute, self._minute = self._minute, None
        maxima = [min(known) if value is None else value for value in self._maxima] if known else []
        self._maxima = [None] * PARTS
        return (datetime.fromtimestamp(60 * minute, UTC), maxima) if minute is not None and maxima else None
