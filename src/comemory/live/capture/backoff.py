"""How often a lost camera is tried again."""

from __future__ import annotations

import random

FIRST_PAUSE_S = 0.5


class Attempts:
    """The pauses between attempts to connect: longer each time, and in no minute more attempts than allowed.

    Ours: a third of the minute's attempts may follow each other closely, the others are spread evenly over it. A window
    that simply counts lets all of them be used up within seconds, and then a camera that is back waits for a minute.

    Args:
        per_min: attempts a minute, at most.
        longest_s: the longest pause, where the minute allows it.
    """

    def __init__(self, per_min: int, longest_s: float) -> None:
        self._longest_s = longest_s
        self._most = max(1, per_min // 3)
        self._rate_hz = max(1, per_min - self._most) / 60
        self._left = float(self._most)
        self._at: float | None = None

    def begin(self, now: float) -> None:
        """An attempt is made."""
        self._left = self._refilled(now) - 1
        self._at = now

    def pause_s(self, now: float, failures: int) -> float:
        """Seconds to wait before the next attempt.

        Args:
            failures: attempts in a row that gave no frame.
        """
        wished_s = min(self._longest_s, FIRST_PAUSE_S * 2.0 ** min(failures, 10)) * random.uniform(0.8, 1.0)
        return max(wished_s, (1 - self._refilled(now)) / self._rate_hz)

    def _refilled(self, now: float) -> float:
        passed_s = 0.0 if self._at is None else now - self._at
        return min(float(self._most), self._left + passed_s * self._rate_hz)
