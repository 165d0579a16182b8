"""When a lost camera is tried again."""

from __future__ import annotations

import random

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 8.0
"""Short enough that a camera that is back is seen within the ten seconds that an operator waits."""
ATTEMPTS_PER_MIN = 12
"""Cameras lock an account, or run out of sessions, when they are asked much more often."""


class Backoff:
    """The pauses between connection attempts: exponential, and never more attempts a minute than allowed.

    Ours: a token bucket. A third of the minute's attempts may follow each other at once, the others are spread evenly.
    A plain count per minute would let all attempts be used up within seconds; a camera that comes back then would wait
    for the rest of the minute.

    Args:
        attempts_per_min: limit on the attempts in a minute.
        max_pause_s: longest pause, where the limit allows it.
    """

    def __init__(self, attempts_per_min: int = ATTEMPTS_PER_MIN, max_pause_s: float = MAX_PAUSE_S) -> None:
        self._max_pause_s = max_pause_s
        self._burst = max(1, attempts_per_min // 3)
        self._rate_hz = max(1, attempts_per_min - self._burst) / 60
        self._tokens = float(self._burst)
        self._refilled_at: float | None = None

    def record_attempt(self, now: float) -> None:
        """Count an attempt made at `now`, seconds of the monotonic clock."""
        self._tokens = self._tokens_at(now) - 1
        self._refilled_at = now

    def pause_s(self, now: float, failures: int) -> float:
        """Seconds to wait before the next attempt.

        Args:
            now: seconds on a monotonic clock.
            failures: consecutive attempts that gave no frame.
        """
        # The jitter keeps cameras that were lost together (a switch that restarts) from coming back in step.
        exponential_s = min(self._max_pause_s, FIRST_PAUSE_S * 2.0 ** min(failures, 10)) * random.uniform(0.8, 1.0)
        return max(exponential_s, (1 - self._tokens_at(now)) / self._rate_hz)

    def _tokens_at(self, now: float) -> float:
        passed_s = 0.0 if self._refilled_at is None else now - self._refilled_at
        return min(float(self._burst), self._tokens + passed_s * self._rate_hz)
