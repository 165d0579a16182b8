"""Region-based and track-based detection: how many abnormal regions are found, and how many false regions with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics.paired import same_length, video_name
from comemory.metrics.pixel import minimum_count
from comemory.types import Box

Track = Mapping[int, Box]
"""One anomaly over time: its box in each frame where it is labelled."""


@dataclass(frozen=True, slots=True)
class Region:
    """A region of one frame that a detector reports as abnormal, with its score."""

    frame: int
    box: Box
    score: float


def rbdc(
    detections: Sequence[Sequence[Region]],
    tracks: Sequence[Sequence[Track]],
    n_frames: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    iou: float = 0.1,
) -> float | None:
    """Compute the region-based detection criterion: the area under found regions over false regions, up to one a frame.

    A labelled region is found at a threshold when a detection of at least that score in its frame has an
    intersection over union of at least `iou` with it. A detection is false when no labelled region of its frame
    reaches that. Rates are over all labelled regions and over all frames of all videos. Points of the curve are joined
    by straight lines. The last segment is cut at one false region a frame; a curve that ends earlier is continued level.

    Source: Ramachandra & Jones, Street Scene, WACV 2020, section 4 (beta = 0.1).

    Args:
        detections: for each video its regions, at their lowest useful score.
        tracks: for each video its labelled tracks.
        n_frames: of each video.
        names: of the videos, for errors.
        iou: beta.

    Returns:
        A number in [0, 1]; None when nothing is labelled.

    Raises:
        EvaluationError: a frame outside of its video, an empty box, a score that is not finite, or lengths differ.
    """
    found, false = _matched(detections, tracks, n_frames, names, iou)
    each = [score for track in found for score in track]
    return _area(np.array(each), false, sum(n_frames)) if each else None


def tbdc(
    detections: Sequence[Sequence[Region]],
    tracks: Sequence[Sequence[Track]],
    n_frames: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    iou: float = 0.1,
    track_fraction: float = 0.1,
) -> float | None:
    """Compute the track-based detection criterion: as `rbdc`, but a track is found when enough of its regions are.

    Source: Ramachandra & Jones, Street Scene, WACV 2020, section 4 (alpha = beta = 0.1).

    Args:
        detections: as for `rbdc`.
        tracks: as for `rbdc`.
        n_frames: as for `rbdc`.
        names: of the videos, for errors.
        iou: beta, as for `rbdc`.
        track_fraction: alpha, the part of a track's regions to be found.

    Returns:
        A number in [0, 1]; None when nothing is labelled.

    Raises:
        EvaluationError: as `rbdc`, and a track_fraction outside (0, 1].
    """
    if not 0 < track_fraction <= 1:
        raise EvaluationError(f"track fraction {track_fraction}: expected a number above 0 and up to 1")
    found, false = _matched(detections, tracks, n_frames, names, iou)
    each = [sorted(track, reverse=True)[minimum_count(track_fraction, len(track)) - 1] for track in found if track]
    return _area(np.array(each), false, sum(n_frames)) if each else None


@dataclass(slots=True)
class _Labelled:
    """A labelled region, and the highest score so far at which it is found."""

    box: Box
    score: float = -math.inf


def _matched(
    detections: Sequence[Sequence[Region]],
    tracks: Sequence[Sequence[Track]],
    n_frames: Sequence[int],
    names: Sequence[str] | None,
    iou: float,
) -> tuple[list[list[float]], NDArray[np.float64]]:
    """The score at which each labelled region is found (-inf: never), by track; and the scores of false detections."""
    if not 0 < iou <= 1:
        raise EvaluationError(f"intersection over union {iou}: expected a number above 0 and up to 1")
    same_length(names, detections=detections, tracks=tracks, n_frames=n_frames)
    found: list[list[float]] = []
    false: list[float] = []
    for i, (regions, video_tracks, length) in enumerate(zip(detections, tracks, n_frames, strict=True)):
        _check_video(regions, video_tracks, length, video_name(names, i))
        by_frame: dict[int, list[_Labelled]] = {}
        by_track = [[_Labelled(box) for box in track.values()] for track in video_tracks]
        for track, labelled in zip(video_tracks, by_track, strict=True):
            for frame, one in zip(track, labelled, strict=True):
                by_frame.setdefault(frame, []).append(one)
        for region in regions:
            hits = [
                one for one in by_frame.get(region.frame, ()) if intersection_over_union(region.box, one.box) >= iou
            ]
            for one in hits:
                one.score = max(one.score, region.score)
            if not hits:
                false.append(region.score)
        found.extend([one.score for one in labelled] for labelled in by_track)
    return found, np.array(false)


def _check_video(regions: Sequence[Region], tracks: Sequence[Track], n_frames: int, what: str) -> None:
    for region in regions:
        if not math.isfinite(region.score):
            raise EvaluationError(
                f"score {region.score} of a region in frame {region.frame} of {what}: expected finite"
            )
    boxes = [(region.frame, region.box) for region in regions] + [item for track in tracks for item in track.items()]
    for frame, (left, top, right, bottom) in boxes:
        if not 0 <= frame < n_frames:
            raise EvaluationError(f"region in frame {frame} of {what}: expected a frame from 0 to {n_frames - 1}")
        if right <= left or bottom <= top:
            raise EvaluationError(
                f"box {(left, top, right, bottom)} in frame {frame} of {what} is empty: "
                "expected left < right and top < bottom"
            )


def intersection_over_union(a: Box, b: Box) -> float:
    """Compute the intersection over union of two boxes.

    >>> intersection_over_union((0, 0, 2, 1), (1, 0, 3, 1)) == 1 / 3
    True
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def area_up_to_one(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Compute the area under a curve from (0, 0) to x = 1, its points joined by straight lines.

    Args:
        x: rising; what lies beyond 1 is cut off, and a curve that ends earlier is continued level.
        y: of the points.

    >>> area_up_to_one(np.array([0.5, 1.5]), np.array([0.5, 1.0]))
    0.4375
    """
    x, y = np.concatenate([[0.0], x]), np.concatenate([[0.0], y])
    beyond = np.flatnonzero(x > 1)
    if beyond.size:
        cut = int(beyond[0])
        share = (1 - x[cut - 1]) / (x[cut] - x[cut - 1])
        end = y[cut - 1] + share * (y[cut] - y[cut - 1])
        x, y = np.append(x[:cut], 1.0), np.append(y[:cut], end)
    else:
        x, y = np.append(x, 1.0), np.append(y, y[-1])
    return float(np.trapezoid(y, x))


def _area(found: NDArray[np.float64], false: NDArray[np.float64], n_frames: int) -> float:
    """Area under the detection rate over false regions a frame, from 0 to 1."""
    thresholds = np.unique(np.concatenate([found[np.isfinite(found)], false]))[::-1]
    return area_up_to_one(_at_least(false, thresholds) / n_frames, _at_least(found, thresholds) / len(found))


def _at_least(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many scores reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left").astype(np.int64)
