"""Which frames of a camera make the clips: the network learned at one rate, cameras send at another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from comemory.types import FlowEstimator

AS_TRAINED = 0.1
"""Cameras whose rate differs by no more than this share are taken as they are, frame by frame."""
JITTER = 0.5
"""Intervals that differ from the ordinary one by no more than this share are jitter of the clock."""
GAP = 2.5
"""An interval of so many ordinary ones is a hole: the clip begins anew after it."""
_N_INTERVALS = 31


@dataclass(frozen=True, slots=True)
class Beat:
    """A frame that is taken.

    Attributes:
        index: one more than that of the frame taken before; two more after a hole.
        factor: what its flow is multiplied with, so that speeds read as at the rate of the training.
        due: whether it is to be scored; else it only keeps the clip whole.
    """

    index: int
    factor: float
    due: bool


class Pace:
    """Frames of a camera, by their times, to the rate that the network was trained at.

    Ours: a camera of about that rate is taken frame by frame, as `comemory score` does. Of a faster one the frames next
    to the beats are taken; of a slower one all. In both the flow is stretched to the interval of the training, so that
    speeds keep their meaning. Every beat is prepared, so that clips are what the network learned; `fps` says how many
    of them the network sees.

    Args:
        rate_hz: of the training.
        fps: beats a second to score; None scores all.
    """

    def __init__(self, rate_hz: float, fps: float | None = None) -> None:
        self.rate_hz, self.fps = rate_hz, fps
        self._index = -1
        self._credit = 1.0
        self.begin(None)

    def begin(self, camera_hz: float | None) -> None:
        """Begin after a hole, such as a new connection.

        Args:
            camera_hz: frames a second as the camera states them; they are measured as they come.
        """
        self._intervals: deque[float] = deque([1 / camera_hz] if camera_hz else [], maxlen=_N_INTERVALS)
        self._seen_s: float | None = None
        self._taken_s: float | None = None
        self._due_s = 0.0
        self._index += 1

    @property
    def camera_hz(self) -> float | None:
        """Frames a second that the camera sends, None before that can be told."""
        return 1 / median(self._intervals) if self._intervals else None

    def lose(self) -> None:
        """A frame was lost: the clip begins anew."""
        self._index += 1

    def push(self, time_s: float) -> Beat | None:
        """Take the next frame, or leave it out."""
        if self._seen_s is not None and time_s > self._seen_s:
            self._intervals.append(time_s - self._seen_s)
        self._seen_s = time_s
        camera_s, nominal_s = 1 / (self.camera_hz or self.rate_hz), 1 / self.rate_hz
        as_trained = abs(nominal_s / camera_s - 1) <= AS_TRAINED
        if self._taken_s is None:
            self._due_s = time_s
        elif not as_trained and time_s < self._due_s - camera_s / 2:
            return None
        interval_s = nominal_s if self._taken_s is None else time_s - self._taken_s
        if interval_s > GAP * max(camera_s, nominal_s):
            self._index += 1
        jitters = as_trained and abs(interval_s / nominal_s - 1) <= JITTER
        factor = 1.0 if jitters else min(max(nominal_s / max(interval_s, 1e-6), 0.1), 10.0)
        self._due_s = max(self._due_s + nominal_s, time_s + nominal_s / 2)
        self._taken_s = time_s
        self._index += 1
        return Beat(self._index, factor, self._is_due())

    def _is_due(self) -> bool:
        self._credit += 1.0 if self.fps is None else min(1.0, self.fps / self.rate_hz)
        if self._credit < 1 - 1e-9:
            return False
        self._credit = min(self._credit - 1, 1.0)
        return True


class PacedFlow:
    """A flow estimator whose answer is multiplied with the factor of the beat."""

    def __init__(self, estimator: FlowEstimator) -> None:
        self.name = estimator.name
        self.factor = 1.0
        self._estimator = estimator

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `types.FlowEstimator`."""
        flow = self._estimator.estimate(previous, current)
        return flow if self.factor == 1.0 else flow * np.float32(self.factor)
