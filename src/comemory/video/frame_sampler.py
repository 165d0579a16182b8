"""Which frames of a file or camera are scored: the network was trained at one frame rate, sources have another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import median

from comemory.types import Frame, Source

RATE_TOLERANCE = 0.1
"""Relative difference up to which a source counts as having the rate of the training: every frame is taken."""
JITTER_TOLERANCE = 0.5
"""Relative difference up to which an interval is jitter of the clock; flow is not scaled for it.

A frame that comes earlier still was held back on its way, with the one before it: no camera sends faster than it records.
"""
GAP_INTERVALS = 2.5
"""An interval of this many normal ones is a gap: a new clip starts after it."""
_N_INTERVALS = 31


@dataclass(frozen=True, slots=True)
class Sample:
    """The place of a frame in the clip.

    Attributes:
        index: one more than that of the frame before; two more after a gap.
        flow_scale: factor on its optical flow, so that speeds are those at the rate of the training.
        is_due: whether the frame is scored; other frames only complete the clip.
    """

    index: int
    flow_scale: float
    is_due: bool


class FrameSampler:
    """Resamples frames, by their times, to the rate that the network was trained at.

    Ours: a source of about that rate is taken frame by frame. Of a faster one the frames nearest to the sampling times
    are taken, of a slower one all frames; in both cases the flow is scaled to the interval of the training, so that
    speeds keep their meaning. A gap in time starts a new clip. Every sample is prepared, so that clips are what the
    network was trained on; `fps` limits how many of them are scored.

    Attributes:
        n_due: number of frames to be scored so far.

    Args:
        rate_hz: frames a second of the training.
        fps: limit on the frames a second to score; None scores all.
    """

    def __init__(self, rate_hz: float, fps: float | None = None) -> None:
        self.rate_hz, self.fps = rate_hz, fps
        self.n_due = 0
        self._index = -2  # so that the first sample has index 0
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
        self._n_since_taken = 0
        self._next_s = 0.0
        self._index += 1

    @property
    def has_trained_rate(self) -> bool:
        """Whether the frames come at about the rate of the training; True before their rate is known."""
        return abs((self.camera_hz or self.rate_hz) / self.rate_hz - 1) <= RATE_TOLERANCE

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
        self._n_since_taken += 1
        camera_s, nominal_s = 1 / (self.camera_hz or self.rate_hz), 1 / self.rate_hz
        has_trained_rate = self.has_trained_rate
        if self._last_taken_s is None:
            self._next_s = time_s
        elif not has_trained_rate and time_s < self._next_s - camera_s / 2:
            return None
        interval_s = nominal_s if self._last_taken_s is None else time_s - self._last_taken_s
        recorded_s = self._n_since_taken * camera_s
        if interval_s < (1 - JITTER_TOLERANCE) * recorded_s:
            # Frames that come in a burst, or a clock that stands still, say nothing about the speed.
            interval_s = recorded_s
        if interval_s > GAP_INTERVALS * max(camera_s, nominal_s):
            self._index += 1
        is_jitter = has_trained_rate and abs(interval_s / nominal_s - 1) <= JITTER_TOLERANCE
        flow_scale = 1.0 if is_jitter else min(max(nominal_s / max(interval_s, 1e-6), 0.1), 10.0)
        self._next_s = max(self._next_s + nominal_s, time_s + nominal_s / 2)
        self._last_taken_s, self._n_since_taken = time_s, 0
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


class SourceSampler:
    """Samples the frames of one recording, from its start, and says in words what it found out about their times.

    It starts a new clip where the recording does not go on: at a gap in time, at frames that were lost, and where the
    clock starts again: by the word of the source, or by a time that goes back as far as a gap goes ahead. A time that goes
    back by less is jitter. The rate is measured from the times of the frames: the rate that a container states is an average
    over all gaps.

    Args:
        rate_hz: frames per second of the training.
        name: of the source, for `notes`.
    """

    def __init__(self, rate_hz: float, name: str) -> None:
        self.name = name
        self._sampler = FrameSampler(rate_hz)
        self._last: Frame | None = None
        self._last_sample: int | None = None
        self._n_frames = self._n_left_out = self._n_other_rate = 0
        self._other_hz = rate_hz
        self._gaps: list[tuple[float, int]] = []
        self._gap_s = 0.0
        self._restarts: list[int] = []

    @property
    def leaves_out_frames(self) -> bool:
        """Whether a frame was left out so far, because frames come faster than in training."""
        return self._n_left_out > 0

    @property
    def interval_s(self) -> float:
        """Seconds between two frames of the training."""
        return 1 / self._sampler.rate_hz

    @property
    def _gap_from_s(self) -> float:
        """Seconds from which on an interval is a gap, in either direction."""
        hz = self._sampler.rate_hz
        return GAP_INTERVALS * max(1 / hz, 1 / (self._sampler.camera_hz or hz))

    def mean_rate(self, stated_hz: float) -> float:
        """Frames per second so far, without the gaps.

        Args:
            stated_hz: by the container; returned where it agrees.
        """
        last = self._last
        seconds = 0.0 if last is None else last.time_s - self._gap_s
        if last is None or not last.index or seconds <= 0:
            return stated_hz
        found_hz = last.index / seconds
        return stated_hz if abs(found_hz / stated_hz - 1) <= RATE_TOLERANCE else found_hz

    def sample(self, frame: Frame) -> Sample | None:
        """Take the next frame; gives its place among the samples, or None for a frame that is left out."""
        last, self._last = self._last, frame
        back_s = 0.0 if last is None else last.time_s - frame.time_s
        is_restart = frame.is_restart or (back_s > 0 and back_s > self._gap_from_s)
        if is_restart:
            self._sampler.restart(None)
            if last is not None:
                self._restarts.append(last.index)
        is_lost = last is not None and frame.index != last.index + 1
        if is_lost:
            self._sampler.mark_gap()
        sample = self._sampler.sample(frame.time_s)
        self._count(sample)
        if sample is None:
            return None
        follows = self._last_sample is None or sample.index == self._last_sample + 1
        if last is not None and not (follows or is_lost or is_restart):
            gap_s = frame.time_s - last.time_s - 1 / (self._sampler.camera_hz or 1.0)
            self._gap_s += gap_s
            self._gaps.append((gap_s, last.index))
        self._last_sample = sample.index
        return sample

    def _count(self, sample: Sample | None) -> None:
        self._n_frames += 1
        self._n_left_out += sample is None
        if not self._sampler.has_trained_rate:
            self._n_other_rate += 1
            self._other_hz = self._sampler.camera_hz or self._other_hz

    @property
    def notes(self) -> list[str]:
        """One line each, starting with the name: another frame rate, gaps, and a clock that starts again."""
        found = []
        # A few frames at another rate are jitter: only a source that mostly has it is worth a line.
        if self._n_other_rate > self._n_frames / 2:
            found.append(self._rate_note())
        if self._gaps:
            gap_s, index = self._gaps[0]
            found.append(
                f"{self.name}: a gap of {gap_s:.1f} s after frame {index}{_more(self._gaps)}: clips start again"
            )
        if self._restarts:
            place = f"after frame {self._restarts[0]}{_more(self._restarts)}"
            found.append(f"{self.name}: another recording begins {place}: clips start again")
        return found

    def _rate_note(self) -> str:
        trained_hz = self._sampler.rate_hz
        start = f"{self.name}: has {self._other_hz:.4g} frames per second, the model was trained at {trained_hz:.4g}"
        if self._n_left_out:
            return f"{start}: the frames nearest to that rate are scored"
        return f"{start}: every frame is scored, and its motion is scaled to that rate"


def _more(items: Sized) -> str:
    return f" and {len(items) - 1} more" if len(items) > 1 else ""


def measured_rate(source: Source, n_frames: int = 64) -> float | None:
    """Frames per second of a source: as it states them, unless the times of its first frames show another rate.

    The rate that a container states is an average. In a recording with gaps it is far below the rate between them.

    Args:
        source: is read from its start.
        n_frames: to read.

    Returns:
        None where neither is known.
    """
    stated_hz, found_hz = source.rate_hz, _median_rate(islice(source, n_frames))
    if stated_hz and found_hz and abs(found_hz / stated_hz - 1) <= RATE_TOLERANCE:
        return stated_hz
    return found_hz or stated_hz


def _median_rate(frames: Iterable[Frame]) -> float | None:
    intervals = [b.time_s - a.time_s for a, b in pairwise(frames) if b.time_s > a.time_s]
    return 1 / median(intervals) if intervals else None
