"""Score maps cut into regions anew at every level, held against labelled tracks."""

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
class Sweep:
    """What the regions of one video's maps come to at each level.

    Shapes:
        n_false: int64 (n_levels,), regions at each level that meet no labelled one.
        n_found: int64 (n_tracks, n_levels), how many of a track's labelled regions are found at each level.
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
    levels: ArrayLike,
    size: tuple[int, int],
    *,
    iou: float = 0.1,
) -> Sweep:
    """Cut the maps of one video into connected regions at each level and hold them against its tracks.

    A region is a connected place at or above the level, pixels that touch at a corner being connected. Only what is
    counted is kept, so the maps of a long video may come one by one.

    Source: Ramachandra & Jones, Street Scene, WACV 2020, section 4, for what is found and what is false.

    Shapes:
        score_maps: (frame, float (h, w)), finite, of any size.

    Args:
        score_maps: of the frames that take part; labelled regions of other frames do not.
        tracks: labelled, boxes in pixels of the source.
        levels: rising.
        size: (height, width) of the source.
        iou: least intersection over union of a region that finds a labelled one.

    Raises:
        EvaluationError: levels that do not rise, a map that is not finite (h, w), an iou outside (0, 1].

    >>> level_by_level = sweep([(0, np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 4.0]]))], [{0: (0, 0, 1, 1)}], [3, 5], (2, 3))
    >>> level_by_level.n_false.tolist(), level_by_level.n_found.tolist()
    ([1, 0], [[1, 1]])
    """
    rising = np.asarray(levels, np.float64)
    if rising.ndim != 1 or not rising.size or not np.isfinite(rising).all() or (np.diff(rising) <= 0).any():
        raise EvaluationError(f"levels {rising.tolist()}: expected finite numbers that rise")
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
        for level, regions in enumerate(_cut(score_map, rising, size, frame)):
            met = np.array(
                [[intersection_over_union(box, region) >= iou for region in regions] for box in boxes], np.bool_
            )
            met = met.reshape(len(boxes), len(regions))
            n_false[level] += int((~met.any(axis=0)).sum())
            n_found[present, level] += met.any(axis=1)
    return Sweep(n_frames, n_false, n_found, n_labelled)


def swept_rbdc(sweeps: Sequence[Sweep]) -> float | None:
    """The region-based detection criterion of score maps; see `rbdc` for that of boxes with a score each.

    Ours: lower levels can join regions, so that neither rate need rise as the level falls. What counts at a rate of
    false regions is the best detection rate of all levels with that rate or less, as one would set the level.

    Source: Ramachandra & Jones, Street Scene, WACV 2020, section 4.

    Returns:
        A number in [0, 1]; None when nothing is labelled.
    """
    n_labelled = sum(int(one.n_labelled.sum()) for one in sweeps)
    if not n_labelled:
        return None
    return _area(sweeps, np.sum([one.n_found.sum(axis=0) for one in sweeps], axis=0) / n_labelled)


def swept_tbdc(sweeps: Sequence[Sweep], *, track_fraction: float = 0.1) -> float | None:
    """The track-based detection criterion of score maps: as `swept_rbdc`, a track found once enough of it is.

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
    score_map: NDArray[np.floating], levels: NDArray[np.float64], size: tuple[int, int], frame: int
) -> Iterator[list[Box]]:
    """The boxes of the regions at each level, from the lowest to the last that has any."""
    if score_map.ndim != 2 or not score_map.size or not np.isfinite(score_map).all():
        raise EvaluationError(f"score map of frame {frame} has shape {score_map.shape}: expected finite numbers (H, W)")
    y_scale, x_scale = size[0] / score_map.shape[0], size[1] / score_map.shape[1]
    n_before, boxes = -1, list[Box]()
    for level in levels[levels <= score_map.max()]:
        above = score_map >= level
        n_above = int(above.sum())
        if n_above != n_before:
            n_before = n_above
            boxes = [scale_box_outwards(box, x_scale, y_scale) for box in connected_components(above, 1)[1]]
        yield boxes


def _area(sweeps: Sequence[Sweep], rate: NDArray[np.float64]) -> float:
    """Area under the best detection rate over false regions a frame, from 0 to 1."""
    x = np.sum([one.n_false for one in sweeps], axis=0) / sum(one.n_frames for one in sweeps)
    order = np.lexsort((rate, x))
    return area_up_to_one(x[order], np.maximum.accumulate(rate[order]))
