"""The scores of a minute, reduced to the maximum of each of its parts."""

from __future__ import annotations

from datetime import UTC, datetime

N_PARTS = 12
PART_S = 60 / N_PARTS


class MinuteScores:
    """Scores, in order, to one record per minute."""

    def __init__(self) -> None:
        self._minute: int | None = None
        self._maxima: list[float | None] = [None] * N_PARTS

    def add(self, at: float, value: float) -> tuple[datetime, list[float]] | None:
        """Add a score of a Unix time; gives the minute that it completes, if any."""
        minute = int(at // 60)
        done = self.finish() if self._minute is not None and minute != self._minute else None
        self._minute = minute
        part = min(int((at - 60 * minute) / PART_S), N_PARTS - 1)
        present = self._maxima[part]
        self._maxima[part] = value if present is None else max(present, value)
        return done

    def finish(self) -> tuple[datetime, list[float]] | None:
        """The incomplete minute, if it has any score; parts without scores take the lowest of the others."""
        known = [value for value in self._maxima if value is not None]
        minute, self._minute = self._minute, None
        maxima = [min(known) if value is None else value for value in self._maxima] if known else []
        self._maxima = [None] * N_PARTS
        return (datetime.fromtimestamp(60 * minute, UTC), maxima) if minute is not None and maxima else None
