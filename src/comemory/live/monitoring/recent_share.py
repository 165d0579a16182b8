"""The share of frames with a problem, over the last seconds."""

from __future__ import annotations

from collections import deque


class RecentShare:
    """Compares two counters that only grow: frames with a problem, and all frames.

    Attributes:
        share: of the frames in the window that have the problem; 0 before `min_frames`.
        hz: frames a second in the window; 0 before `min_frames`.
        is_high: whether the share has passed `enter` and not yet fallen to `leave`: two limits keep it from flapping.

    Args:
        enter: share at which it becomes high.
        leave: share at which it stops being high; below `enter`.
        window_s: seconds that are compared.
        min_frames: frames in the window from which on the share is computed.
    """

    def __init__(self, enter: float, leave: float, window_s: float = 60.0, min_frames: int = 100) -> None:
        self.share, self.hz, self.is_high = 0.0, 0.0, False
        self._enter, self._leave, self._window_s, self._min_frames = enter, leave, window_s, min_frames
        self._samples: deque[tuple[float, int, int]] = deque()

    def update(self, now: float, n_problems: int, n_frames: int) -> bool:
        """Take the counters at a time of the monotonic clock; gives `is_high`."""
        self._samples.append((now, n_problems, n_frames))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window_s:
            self._samples.popleft()
        start, first_problems, first_frames = self._samples[0]
        total = n_frames - first_frames
        is_known = total >= self._min_frames
        self.share = (n_problems - first_problems) / total if is_known else 0.0
        self.hz = total / max(now - start, 1e-6) if is_known else 0.0
        self.is_high = self.share > (self._leave if self.is_high else self._enter)
        return self.is_high

    def reset(self) -> None:
        """Start again, such as after a new connection."""
        self._samples.clear()
        self.share, self.hz, self.is_high = 0.0, 0.0, False
