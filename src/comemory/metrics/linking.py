"""Regions from score maps, and tracks from pixel masks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics.region import Region
from comemory.types import Box


def regions_from_map(
    score_map: NDArray[np.floating],
    threshold: float,
    frame: int = 0,
    size: tuple[int, int] | None = None,
    min_area: int = 1,
) -> list[Region]:
    """Return the connected regions of a map at or above a threshold, each with its box and its highest score.

    Shapes:
        score_map: float (H, W), finite.

    Args:
        score_map: how abnormal each pixel is.
        threshold: lowest score of a region. For a curve choose it low: each region has its peak as score.
        frame: the frame that the map belongs to.
        size: (height, width) of the source, to scale the boxes to (outwards to whole pixels); None: boxes in pixels of the map.
        min_area: pixels of the map that a region must have.

    Returns:
        Regions by falling score; pixels that touch at a corner are connected.

    Raises:
        EvaluationError: the map is not (H, W) or not finite.

    >>> regions_from_map(np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 4.0]]), threshold=1.0)
    [Region(frame=0, box=(0, 0, 1, 1), score=9.0), Region(frame=0, box=(2, 1, 3, 2), score=4.0)]
    """
    if score_map.ndim != 2 or not score_map.size or not np.isfinite(score_map).all():
        raise EvaluationError(f"score map of shape {score_map.shape}: expected finite numbers (H, W)")
    number, boxes = connected_components(score_map >= threshold, min_area)
    peaks = np.full(len(boxes) + 1, -np.inf)
    np.maximum.at(peaks, number.ravel(), score_map.ravel())
    height, width = score_map.shape
    y_scale, x_scale = (1.0, 1.0) if size is None else (size[0] / height, size[1] / width)
    regions = [
        Region(frame, scale_box_outwards(box, x_scale, y_scale), float(peak))
        for box, peak in zip(boxes, peaks[1:], strict=True)
    ]
    return sorted(regions, key=lambda region: -region.score)


def link_tracks(masks: Iterable[NDArray[np.bool_]], min_area: int = 1) -> list[dict[int, Box]]:
    """Make tracks from pixel masks: connected regions, linked from frame to frame by the pixels they share.

    Pairs of regions in neighbouring frames are linked by falling overlap, each region once. When two regions merge, the
    track with more overlap continues and the other is hidden in it. When one splits, the part with more overlap continues,
    and the others continue what was hidden in it, the last hidden first, or else start tracks. So two anomalies that cross
    are two tracks, one of which has a gap. Which of the two is which after crossing is not determined.

    Ours: data sets with masks but no tracks (Ped2) need tracks for `rbdc` and `tbdc`.

    Args:
        masks: bool (H, W) of each frame of one video in order, True where abnormal; read one at a time.
        min_area: regions of fewer pixels are labelling noise and are left out.

    Returns:
        For each track its box in each of its frames, in the order in which the tracks begin.

    Raises:
        EvaluationError: a mask is not (H, W) or changes its size.

    >>> step = [np.array([[1, 1, 0, 0]], bool), np.array([[0, 1, 1, 0]], bool), np.array([[0, 0, 0, 0]], bool)]
    >>> link_tracks(step)
    [{0: (0, 0, 2, 1), 1: (1, 0, 3, 1)}]
    """
    tracks: list[dict[int, Box]] = []
    hidden: dict[int, list[int]] = {}
    before: NDArray[np.int32] | None = None
    owner: dict[int, int] = {}
    for frame, mask in enumerate(masks):
        if mask.ndim != 2 or not mask.size or (before is not None and mask.shape != before.shape):
            expected = "(H, W)" if before is None else str(before.shape)
            raise EvaluationError(f"mask of frame {frame} has shape {mask.shape}: expected {expected}")
        number, boxes = connected_components(mask, min_area)
        pairs = [] if before is None else _pairs(before, number)
        owner_now = _continued(pairs, owner, hidden)
        for i, box in enumerate(boxes, start=1):
            if i not in owner_now:
                owner_now[i] = len(tracks)
                tracks.append({})
            tracks[owner_now[i]][frame] = box
        before, owner = number, owner_now
    return tracks


def connected_components(mask: NDArray[np.bool_], min_area: int) -> tuple[NDArray[np.int32], list[Box]]:
    """Number the connected regions of at least `min_area` pixels from 1 (0 elsewhere), and return their boxes in that order."""
    import cv2

    pixels = np.ascontiguousarray(mask.astype(np.bool_)).view(np.uint8)
    _, number, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8, ltype=cv2.CV_32S)
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= min_area)
    large = large[large > 0]  # 0 is the background
    new_number = np.zeros(len(stats), np.int32)
    new_number[large] = np.arange(1, len(large) + 1)
    boxes = [(left, top, left + width, top + height) for left, top, width, height, _ in stats[large].tolist()]
    return new_number[number], boxes


def scale_box_outwards(box: Box, x_scale: float, y_scale: float) -> Box:
    """Scale a box to a larger image, outwards to whole pixels.

    >>> scale_box_outwards((1, 1, 2, 2), 2.5, 3.0)
    (2, 3, 5, 6)
    """
    left, top, right, bottom = box
    return (
        math.floor(left * x_scale),
        math.floor(top * y_scale),
        math.ceil(right * x_scale),
        math.ceil(bottom * y_scale),
    )


def _pairs(before: NDArray[np.int32], now: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Pairs of regions of `before` and of `now` that share pixels, by falling overlap."""
    both = (before > 0) & (now > 0)
    pairs, overlap = np.unique(np.stack([before[both], now[both]], axis=1), axis=0, return_counts=True)
    return [(int(pairs[k, 0]), int(pairs[k, 1])) for k in np.argsort(-overlap, kind="stable")]


def _continued(pairs: list[tuple[int, int]], owner: dict[int, int], hidden: dict[int, list[int]]) -> dict[int, int]:
    """The track of each region of now that continues one of before.

    Args:
        pairs: of regions before and now, by falling overlap.
        owner: the track of each region before.
        hidden: the tracks hidden in a track, the last one last; it is changed.
    """
    follows: dict[int, int] = {}
    continued: set[int] = set()
    for old, new in pairs:
        if old not in continued and new not in follows:
            follows[new] = old
            continued.add(old)
    owner_now = {new: owner[old] for new, old in follows.items()}
    for old, new in pairs:
        if new not in owner_now and hidden.get(owner[old]):
            owner_now[new] = hidden[owner[old]].pop()
    for old, new in pairs:
        if old not in continued:
            continued.add(old)
            hidden.setdefault(owner_now[new], []).extend([*hidden.pop(owner[old], []), owner[old]])
    return owner_now
