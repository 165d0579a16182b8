"""Counters of one camera: rates, latencies, recent scores."""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from datetime import UTC, datetime

import numpy as np

from comemory.live.contract import Metrics

WINDOW_S = 5.0
KEPT_S = 600.0
BUCKETS_S = Metrics().latency_buckets_s


class Rate:
    """Events a second over the last seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=5000)

    def tick(self) -> None:
        """One more, now."""
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > WINDOW_S:
            self._times.popleft()

    def hz(self) -> float:
        """A second, over the last `WINDOW_S`."""
        now = time.monotonic()
        recent = [at for at in list(self._times) if now - at <= WINDOW_S]
        return 0.0 if len(recent) < 2 else (len(recent) - 1) / max(now - recent[0], 1e-6)


class Figures:
    """What a camera's scoring came to, to be read from other threads.

    Attributes:
        scored, skipped: frames that the network saw; that were due and gave way because it was late.
        recording_errors: clips and pictures that could not be kept.
        last_score: None before any, and while the camera is not live.
    """

    def __init__(self) -> None:
        self.scored = self.skipped = self.events = self.suppressed = self.recording_errors = 0
        self.last_score: float | None = None
        self.rate = Rate()
        self._lock = threading.Lock()
        self._latencies: deque[float] = deque(maxlen=2000)
        self._scores: deque[tuple[float, float]] = deque(maxlen=int(KEPT_S * 60))
        self.latency_counts = [0] * len(BUCKETS_S)
        self.latency_sum_s = 0.0

    def score(self, at: float, value: float, latency_s: float) -> None:
        """A frame was scored."""
        with self._lock:
            self.scored += 1
            self.last_score = value
            self.rate.tick()
            self._latencies.append(latency_s)
            self._scores.append((at, value))
            while self._scores and self._scores[0][0] < at - KEPT_S:
                self._scores.popleft()
            for place in range(bisect.bisect_left(BUCKETS_S, latency_s), len(BUCKETS_S)):
                self.latency_counts[place] += 1
            self.latency_sum_s += latency_s

    def lose(self) -> None:
        """A clip or a picture could not be kept."""
        with self._lock:
            self.recording_errors += 1

    def latency_ms(self, share: float) -> float | None:
        """The latency that a share of the newest frames kept, None before any."""
        with self._lock:
            seen = list(self._latencies)
        return float(np.quantile(seen, share)) * 1000 if seen else None

    def scores(self, seconds: float) -> list[tuple[datetime, float]]:
        """The scores of the last seconds, oldest first."""
        with self._lock:
            kept = list(self._scores)
        since = (kept[-1][0] if kept else 0.0) - min(seconds, KEPT_S)
        return [(datetime.fromtimestamp(at, UTC), value) for at, value in kept if at >= since]
