"""Alarms as an operator experiences them: how often they are false, and how late they come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from comemory.errors import EvaluationError
from comemory.metrics.paired import Labels, as_labels, same_length, video_name

Interval = tuple[int, int]
"""First and last frame of an interval; both belong to it."""


@dataclass(frozen=True, slots=True)
class DetectionDelay:
    """How late the first alarm of an anomaly comes.

    An anomaly begins in view when the frame before its first one has a score. Otherwise it is under way when scoring
    starts, and its delay only says how long scoring took to start.

    Attributes:
        median_s: over the anomalies that were detected; None when none was.
        n_detected: anomalies with an alarm frame inside.
        n_missed: anomalies without.
        median_in_view_s: over the detected anomalies that begin in view; None when there is none.
        n_in_view: anomalies that begin in view, detected or not.
    """

    median_s: float | None
    n_detected: int
    n_missed: int
    median_in_view_s: float | None = None
    n_in_view: int = 0


def intervals(flags: ArrayLike) -> list[Interval]:
    """Return the maximal runs of True, as (first, last) frames.

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
    *,
    scored: Sequence[ArrayLike] | None = None,
    above_threshold: Sequence[ArrayLike] | None = None,
) -> float | None:
    """Count events that overlap no abnormal frame, per hour of scored normal video.

    Ours: events are counted, not frames, because each event calls an operator. The time is normal time only, because a
    false alarm can come in no other.

    Args:
        events: for each video the (first, last) frames of its events, both inclusive.
        labels: for each video (n_frames,) of ALL its frames; the events index into them.
        rates_hz: frames per second of each video.
        names: of the videos, for errors.
        scored: for each video (n_frames,), the frames that had a score; all when not given.
        above_threshold: for each video (n_frames,), the frames whose scores belong to its events by themselves. The others
            between the first and the last frame of an event only join them, and overlap nothing. All when not given.

    Returns:
        False alarms per hour; None when there is no normal frame.

    Raises:
        EvaluationError: an event lies outside of its video, a rate is not positive, or the lengths differ.

    >>> false_alarms_per_hour([[(0, 1), (3, 3)]], [[0, 0, 0, 1]], [1.0])
    1200.0
    """
    videos = _videos(events, labels, rates_hz, names)
    is_scored, is_above = _flags(scored, videos, names), _flags(above_threshold, videos, names)
    normal_s = sum(
        float((~label & one).sum()) / rate for label, one, rate in zip(videos, is_scored, rates_hz, strict=True)
    )
    if not normal_s:
        return None
    n_false = sum(
        not (label & flags)[first : last + 1].any()
        for video, label, flags in zip(events, videos, is_above, strict=True)
        for first, last in video
    )
    return n_false / normal_s * 3600.0


def detection_delay(
    events: Sequence[Sequence[Interval]],
    labels: Sequence[ArrayLike],
    rates_hz: Sequence[float],
    names: Sequence[str] | None = None,
    *,
    scored: Sequence[ArrayLike] | None = None,
) -> DetectionDelay:
    """Measure the seconds from the start of each labelled anomaly to its first alarm frame.

    An alarm that is open already when the anomaly starts has a delay of 0.

    Ours: an anomaly is a maximal run of abnormal frames; an alarm before or after it does not count for it.

    Args:
        events: for each video the (first, last) frames of its alarms, both inclusive.
        labels: for each video (n_frames,) of ALL its frames; the events index into them.
        rates_hz: frames per second of each video.
        names: of the videos, for errors.
        scored: for each video (n_frames,), the frames that had a score; all when not given.

    Raises:
        EvaluationError: an event lies outside of its video, a rate is not positive, or the lengths differ.

    >>> detection_delay([[(2, 5)]], [[0, 1, 1, 1, 0, 0, 1]], [10.0])
    DetectionDelay(median_s=0.1, n_detected=1, n_missed=1, median_in_view_s=0.1, n_in_view=2)
    """
    videos = _videos(events, labels, rates_hz, names)
    delays: list[float] = []
    in_view: list[float] = []
    n_anomalies = n_in_view = 0
    for video, label, is_scored, rate in zip(events, videos, _flags(scored, videos, names), rates_hz, strict=True):
        for start, end in intervals(label):
            begins_in_view = start > 0 and bool(is_scored[start - 1])
            n_anomalies += 1
            n_in_view += begins_in_view
            alarms = [max(first, start) for first, last in video if first <= end and last >= start]
            if alarms:
                delays.append((min(alarms) - start) / rate)
                in_view += delays[-1:] if begins_in_view else []
    return DetectionDelay(_median(delays), len(delays), n_anomalies - len(delays), _median(in_view), n_in_view)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _flags(given: Sequence[ArrayLike] | None, videos: Sequence[Labels], names: Sequence[str] | None) -> list[Labels]:
    """Read the flags of each video's frames; True for all frames when none are given."""
    if given is None:
        return [np.ones(len(video), np.bool_) for video in videos]
    same_length(names, labels=videos, flags=given)
    flags = [as_labels(one, video_name(names, i)) for i, one in enumerate(given)]
    for i, (one, video) in enumerate(zip(flags, videos, strict=True)):
        if len(one) != len(video):
            raise EvaluationError(f"{len(one)} flags of {video_name(names, i)} for {len(video)} frames")
    return flags


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
