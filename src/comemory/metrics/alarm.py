"""What an operator feels: how often the alarm is false, and how late it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from comemory.errors import EvaluationError
from comemory.metrics.paired import Labels, as_labels, same_length, video_name

Interval = tuple[int, int]
"""First and last frame of a run; both belong to it."""


@dataclass(frozen=True, slots=True)
class DetectionDelay:
    """How late the first alarm of an anomaly comes.

    Attributes:
        median_s: over the anomalies that were detected; None when none was.
        n_detected: anomalies with an alarm frame inside.
        n_missed: anomalies without.
    """

    median_s: float | None
    n_detected: int
    n_missed: int


def intervals(flags: ArrayLike) -> list[Interval]:
    """The maximal runs of True, as (first, last) frames.

    Raises:
        EvaluationError: not a flat array of 0 and 1.

    >>> intervals([False, True, True, False, True])
    [(1, 2), (4, 4)]
    """
    edges = np.diff(as_labels(flags, "the flags").astype(np.int8), prepend=0, append=0)
    firsts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(first), int(end) - 1) for first, end in zip(firsts, ends, strict=True)]


def false_alarms_per_hour(
    events: Sequence[Sequence[Interval]],
    labels: Sequence[ArrayLike],
    rates_hz: Sequence[float],
    names: Sequence[str] | None = None,
) -> float | None:
    """Events that touch no abnormal frame, for each hour of normal frames.

    Ours: an event is what an operator is called for, so events are counted, not frames; and the time in which a false
    alarm could have come is the normal time alone.

    Args:
        events: for each video the (first, last) frames of its events, both inclusive.
        labels: for each video (n_frames,) of ALL its frames; the events index into them.
        rates_hz: frames per second of each video.
        names: of the videos, for errors.

    Returns:
        False alarms per hour; None when there is no normal frame.

    Raises:
        EvaluationError: an event lies outside of its video, a rate is not positive, or the lengths differ.

    >>> false_alarms_per_hour([[(0, 1), (3, 3)]], [[0, 0, 0, 1]], [1.0])
    1200.0
    """
    videos = _videos(events, labels, rates_hz, names)
    normal_s = sum(float((~label).sum()) / rate for label, rate in zip(videos, rates_hz, strict=True))
    if not normal_s:
        return None
    n_false = sum(
        not label[first : last + 1].any() for video, label in zip(events, videos, strict=True) for first, last in video
    )
    return n_false / normal_s * 3600.0


def detection_delay(
    events: Sequence[Sequence[Interval]],
    labels: Sequence[ArrayLike],
    rates_hz: Sequence[float],
    names: Sequence[str] | None = None,
) -> DetectionDelay:
    """Seconds from the start of each labelled anomaly to its first alarm frame; an alarm already on at the start is 0.

    Ours: an anomaly is a maximal run of abnormal frames; an alarm before or after it does not count for it.

    Args:
        events: for each video the (first, last) frames of its events, both inclusive.
        labels: for each video (n_frames,) of ALL its frames; the events index into them.
        rates_hz: frames per second of each video.
        names: of the videos, for errors.

    Raises:
        EvaluationError: an event lies outside of its video, a rate is not positive, or the lengths differ.

    >>> detection_delay([[(2, 5)]], [[0, 1, 1, 1, 0, 0, 1]], [10.0])
    DetectionDelay(median_s=0.1, n_detected=1, n_missed=1)
    """
    videos = _videos(events, labels, rates_hz, names)
    delays: list[float] = []
    n_missed = 0
    for video, label, rate in zip(events, videos, rates_hz, strict=True):
        for start, end in intervals(label):
            alarms = [max(first, start) for first, last in video if first <= end and last >= start]
            if alarms:
                delays.append((min(alarms) - start) / rate)
            else:
                n_missed += 1
    return DetectionDelay(float(np.median(delays)) if delays else None, len(delays), n_missed)


def _videos(
    events: Sequence[Sequence[Interval]],
    labels: Sequence[ArrayLike],
    rates_hz: Sequence[float],
    names: Sequence[str] | None,
) -> list[Labels]:
    same_length(names, events=events, labels=labels, rates_hz=rates_hz)
    videos = []
    for i, (video, rate) in enumerate(zip(events, rates_hz, strict=True)):
        what = video_name(names, i)
        label = as_labels(labels[i], what)
        if not (math.isfinite(rate) and rate > 0):
            raise EvaluationError(f"rate {rate} Hz of {what}: expected a positive number of frames per second")
        for first, last in video:
            if not 0 <= first <= last < len(label):
                raise EvaluationError(
                    f"event of frames {first} to {last} in {what}: expected first <= last < {len(label)}"
                )
        videos.append(label)
    return videos
