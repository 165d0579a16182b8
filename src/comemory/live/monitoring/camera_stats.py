"""Statistics of one camera: rates, latencies, recent scores."""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from datetime import UTC, datetime

import numpy as np

from comemory.live.contract import Metrics

RATE_WINDOW_S = 5.0
HISTORY_S = 600.0
BUCKETS_S = Metrics().latency_buckets_s


class RateMeter:
    """Measures how often something happens, over the last `RATE_WINDOW_S`."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=5000)

    def count(self) -> None:
        """Count one occurrence, now."""
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > RATE_WINDOW_S:
            self._times.popleft()

    def hz(self) -> float:
        """Occurrences a second."""
        now = time.monotonic()
        recent = [at for at in list(self._times) if now - at <= RATE_WINDOW_S]
        return 0.0 if len(recent) < 2 else (len(recent) - 1) / max(now - recent[0], 1e-6)


class CameraStats:
    """Statistics of a camera's scoring; may be read from other threads.

    Attributes:
        scored: number of frames scored.
        late: number of due frames that are not scored because this machine is too slow: newer ones were waiting, or
            frames of their clip were dropped.
        filling: number of due frames that are not scored because their clip begins with the stream, after a gap in it, or
            after a fault.
        faulty: number of due frames that are not scored because the image shows a fault, or the model gives no score.
        events: number of events that counted.
        suppressed: number of events outside the active hours.
        recording_errors: number of clips and images that could not be stored.
        last_score: None before the first, and while the camera is not live.
        rate: measures the frames a second that are scored.
        latency_counts: frames at or under each bound of `BUCKETS_S`.
        latency_sum_s: sum of all latencies.
    """

    def __init__(self) -> None:
        self.scored = self.late = self.filling = self.faulty = 0
        self.events = self.suppressed = self.recording_errors = 0
        self.last_score: float | None = None
        self.rate = RateMeter()
        self._lock = threading.Lock()
        self._latencies: deque[float] = deque(maxlen=2000)
        self._scores: deque[tuple[float, float]] = deque(maxlen=int(HISTORY_S * 60))
        self.latency_counts = [0] * len(BUCKETS_S)
        self.latency_sum_s = 0.0

    def record_score(self, at: float, value: float, latency_s: float) -> None:
        """Count a scored frame.

        Args:
            at: Unix time of the frame.
            value: the score.
            latency_s: from its arrival to its score.
        """
        with self._lock:
            self.scored += 1
            self.last_score = value
            self.rate.count()
            self._latencies.append(latency_s)
            self._scores.append((at, value))
            while self._scores and self._scores[0][0] < at - HISTORY_S:
                self._scores.popleft()
            for bucket in range(bisect.bisect_left(BUCKETS_S, latency_s), len(BUCKETS_S)):
                self.latency_counts[bucket] += 1
            self.latency_sum_s += latency_s

    def count_recording_error(self) -> None:
        """A clip or an image could not be stored."""
        with self._lock:
            self.recording_errors += 1

    def latency_ms(self, quantile: float) -> float | None:
        """A quantile of the latencies of the newest frames, in milliseconds; None before the first."""
        with self._lock:
            latencies = list(self._latencies)
        return float(np.quantile(latencies, quantile)) * 1000 if latencies else None

    def scores(self, seconds: float) -> list[tuple[datetime, float]]:
        """The scores of the last `seconds`, up to `HISTORY_S`, oldest first."""
        with self._lock:
            scores = list(self._scores)
        since = (scores[-1][0] if scores else 0.0) - min(seconds, HISTORY_S)
        return [(datetime.fromtimestamp(at, UTC), value) for at, value in scores if at >= since]
