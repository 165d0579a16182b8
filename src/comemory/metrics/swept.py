"""Score maps cut into regions at every threshold, and matched with labelled tracks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from comemory.errors import EvaluationError
from comemory.metrics.linking import connected_components, scale_box_outwards
from comemory.metrics.pixel import minimum_count
from comemory.metrics.region import Track, area_up_to_one, intersection_over_union
from comemory.types import Box


@dataclass(frozen=True, slots=True, eq=False)
class RegionSweep:
    """How the regions of one video's score maps match its tracks at each threshold.

    Shapes:
        n_false: int64 (n_thresholds,), regions at each threshold that match no labelled one.
        n_found: int64 (n_tracks, n_thresholds), how many of a track's labelled regions are found at each threshold.
        n_labelled: int64 (n_tracks,), how many it has in the frames that were swept.

    Attributes:
        n_frames: frames that were swept.
    """

    n_frames: int
    n_false: NDArray[np.int64]
    n_found: NDArray[np.int64]
    n_labelled: NDArray[np.int64]


def sweep(
    score_maps: Iterable[tuple[int, NDArray[np.floating]]],
    tracks: Sequence[Track],
    thresholds: ArrayLike,
    size: tuple[int, int],
    *,
    iou: float = 0.1,
) -> RegionSweep:
    """Cut the score maps of one video into connected regions at each threshold, and match them with its tracks.

    A region is connected, at or above the threshold; pixels that touch at a corner are connected. Only counts are stored,
    so the maps of a long video may be generated one by one.

    Source: Ramachandra & Jones, Street Scene, WACV 2020, section 4, for what is found and what is false.

    Shapes:
        score_maps: (frame, float (h, w)), finite, of any size.

    Args:
        score_maps: of the frames that count; labelled regions of other frames do not.
        tracks: labelled, boxes in pixels of the source.
        thresholds: rising.
        size: (height, width) of the source.
        iou: least intersection over union of a region that finds a labelled one.

    Raises:
        EvaluationError: thresholds that do not rise, a map that is not finite (h, w), an iou outside (0, 1].

    >>> by_threshold = sweep([(0, np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 4.0]]))], [{0: (0, 0, 1, 1)}], [3, 5], (2, 3))
    >>> by_threshold.n_false.tolist(), by_threshold.n_found.tolist()
    ([1, 0], [[1, 1]])
    """
    rising = np.asarray(thresholds, np.float64)
    if rising.ndim != 1 or not rising.size or not np.isfinite(rising).all() or (np.diff(rising) <= 0).any():
        raise EvaluationError(f"thresholds {rising.tolist()}: expected finite numbers that rise")
    if not 0 < iou <= 1:
        raise EvaluationError(f"intersection over union {iou}: expected a number above 0 and up to 1")
    n_false = np.zeros(len(rising), np.int64)
    n_found = np.zeros((len(tracks), len(rising)), np.int64)
    n_labelled = np.zeros(len(tracks), np.int64)
    n_frames = 0
    for frame, score_map in score_maps:
        present = [number for number, track in enumerate(tracks) if frame in track]
        boxes = [tracks[number][frame] for number in present]
        n_frames += 1
        n_labelled[present] += 1
        for index, regions in enumerate(_cut(score_map, rising, size, frame)):
            met = np.array(
                [[intersection_over_union(box, region) >= iou for region in regions] for box in boxes], np.bool_
            )
            met = met.reshape(len(boxes), len(regions))
            n_false[index] += int((~met.any(axis=0)).sum())
            n_found[present, index] += met.any(axis=1)
    return RegionSweep(n_frames, n_false, n_found, n_labelled)


def swept_rbdc(sweeps: Sequence[RegionSweep]) -> float | None:
    """Compute the region-based detection criterion of score maps; see `rbdc` for that of boxes with a score each.

    Ours: lower thresholds can join regions, so neither rate need rise as the threshold falls. At each rate of false
    regions, the best detection rate of all thresholds with that rate or less counts, as one would set the threshold.

    Source: Ramachandra & Jones, Street Scene, WACV 2020, section 4.

    Returns:
        A number in [0, 1]; None when nothing is labelled.
    """
    n_labelled = sum(int(one.n_labelled.sum()) for one in sweeps)
    if not n_labelled:
        return None
    return _area(sweeps, np.sum([one.n_found.sum(axis=0) for one in sweeps], axis=0) / n_labelled)


def swept_tbdc(sweeps: Sequence[RegionSweep], *, track_fraction: float = 0.1) -> float | None:
    """Compute the track-based detection criterion of score maps: as `swept_rbdc`, but for tracks found well enough.

    Source: Ramachandra & Jones, Street Scene, WACV 2020, section 4 (alpha = 0.1).

    Args:
        sweeps: of all videos.
        track_fraction: alpha, the part of a track's regions to be found.

    Returns:
        A number in [0, 1]; None when nothing is labelled.

    Raises:
        EvaluationError: a track_fraction outside (0, 1].
    """
    if not 0 < track_fraction <= 1:
        raise EvaluationError(f"track fraction {track_fraction}: expected a number above 0 and up to 1")
    found = [
        n_found >= minimum_count(track_fraction, int(n_labelled))
        for one in sweeps
        for n_found, n_labelled in zip(one.n_found, one.n_labelled, strict=True)
        if n_labelled
    ]
    return _area(sweeps, np.mean(found, axis=0)) if found else None


def _cut(
    score_map: NDArray[np.floating], thresholds: NDArray[np.float64], size: tuple[int, int], frame: int
) -> Iterator[list[Box]]:
    """The boxes of the regions at each threshold, from the lowest to the last that has any.

    Regions are searched again only when the number of pixels above the threshold changes: that saves most of the time.
    """
    if score_map.ndim != 2 or not score_map.size or not np.isfinite(score_map).all():
        raise EvaluationError(f"score map of frame {frame} has shape {score_map.shape}: expected finite numbers (H, W)")
    y_scale, x_scale = size[0] / score_map.shape[0], size[1] / score_map.shape[1]
    n_before, boxes = -1, list[Box]()
    for threshold in thresholds[thresholds <= score_map.max()]:
        above = score_map >= threshold
        n_above = int(above.sum())
        if n_above != n_before:
            n_before = n_above
            boxes = [scale_box_outwards(box, x_scale, y_scale) for box in connected_components(above, 1)[1]]
        yield boxes


def _area(sweeps: Sequence[RegionSweep], rate: NDArray[np.float64]) -> float:
    """Area under the best detection rate over false regions a frame, from 0 to 1."""
    x = np.sum([one.n_false for one in sweeps], axis=0) / sum(one.n_frames for one in sweeps)
    order = np.lexsort((rate, x))
    return area_up_to_one(x[order], np.maximum.accumulate(rate[order]))
