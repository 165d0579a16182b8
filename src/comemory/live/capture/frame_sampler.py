"""Which frames of a camera are scored: the network was trained at one frame rate, cameras send at another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

RATE_TOLERANCE = 0.1
"""Relative difference up to which a camera counts as having the rate of the training: every frame is taken."""
JITTER_TOLERANCE = 0.5
"""Relative difference up to which an interval is jitter of the clock; flow is not scaled for it."""
GAP_INTERVALS = 2.5
"""An interval of this many normal ones is a gap: a new clip starts after it."""
_N_INTERVALS = 31


@dataclass(frozen=True, slots=True)
class Sample:
    """The place of a frame in the clip.

    Attributes:
        index: one more than that of the frame before; two more after a gap.
        flow_scale: factor for its optical flow, so that speeds are those at the rate of the training.
        is_due: whether the frame is scored; other frames only complete the clip.
    """

    index: int
    flow_scale: float
    is_due: bool


class FrameSampler:
    """Resamples the frames of a camera, by their times, to the rate that the network was trained at.

    Ours: a camera of about that rate is taken frame by frame, as `comemory score` does. Of a faster camera the frames
    nearest to the sampling times are taken, of a slower one all frames; in both cases the flow is scaled to the interval
    of the training, so that speeds keep their meaning. Every sample is prepared, so that clips are what the network was
    trained on; `fps` limits how many of them are scored.

    Attributes:
        n_due: number of frames to be scored so far.

    Args:
        rate_hz: frames a second of the training.
        fps: limit on the frames a second to score; None scores all.
    """

    def __init__(self, rate_hz: float, fps: float | None = None) -> None:
        self.rate_hz, self.fps = rate_hz, fps
        self.n_due = 0
        self._index = -1
        self._credit = 1.0
        self.restart(None)

    def restart(self, camera_hz: float | None) -> None:
        """Start a new clip and measure the camera's rate again, such as for a new connection.

        Args:
            camera_hz: frames a second that the stream states, until they are measured.
        """
        self._intervals: deque[float] = deque([1 / camera_hz] if camera_hz else [], maxlen=_N_INTERVALS)
        self._last_seen_s: float | None = None
        self._last_taken_s: float | None = None
        self._next_s = 0.0
        self._index += 1

    @property
    def camera_hz(self) -> float | None:
        """Frames a second that the camera sends; None before it is known."""
        return 1 / median(self._intervals) if self._intervals else None

    @property
    def due_hz(self) -> float:
        """Frames a second to be scored: those of the training, or fewer if the camera or `fps` gives fewer."""
        return min(self.rate_hz, self.fps or self.rate_hz, self.camera_hz or self.rate_hz)

    def mark_gap(self) -> None:
        """A frame was lost: start a new clip."""
        self._index += 1

    def sample(self, time_s: float) -> Sample | None:
        """Take the next frame; gives its place, or None for a frame that is left out.

        Args:
            time_s: on the clock of the stream.
        """
        if self._last_seen_s is not None and time_s > self._last_seen_s:
            self._intervals.append(time_s - self._last_seen_s)
        self._last_seen_s = time_s
        camera_s, nominal_s = 1 / (self.camera_hz or self.rate_hz), 1 / self.rate_hz
        has_trained_rate = abs(nominal_s / camera_s - 1) <= RATE_TOLERANCE
        if self._last_taken_s is None:
            self._next_s = time_s
        elif not has_trained_rate and time_s < self._next_s - camera_s / 2:
            return None
        interval_s = nominal_s if self._last_taken_s is None else time_s - self._last_taken_s
        if interval_s > GAP_INTERVALS * max(camera_s, nominal_s):
            self._index += 1
        is_jitter = has_trained_rate and abs(interval_s / nominal_s - 1) <= JITTER_TOLERANCE
        flow_scale = 1.0 if is_jitter else min(max(nominal_s / max(interval_s, 1e-6), 0.1), 10.0)
        self._next_s = max(self._next_s + nominal_s, time_s + nominal_s / 2)
        self._last_taken_s = time_s
        self._index += 1
        return Sample(self._index, flow_scale, self._is_due())

    def _is_due(self) -> bool:
        # A credit of `fps / rate_hz` per sample, spent by each scored one, spreads them evenly at any ratio.
        self._credit += 1.0 if self.fps is None else min(1.0, self.fps / self.rate_hz)
        if self._credit < 1 - 1e-9:
            return False
        self._credit = min(self._credit - 1, 1.0)
        self.n_due += 1
        return True
