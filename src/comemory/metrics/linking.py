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
    """The connected places of a map at or above a threshold, each with its box and its highest score.

    Shapes:
        score_map: float (H, W), finite.

    Args:
        score_map: how abnormal each pixel is.
        threshold: lowest score of a region; for a curve choose it low, since each region carries its peak as score.
        frame: the frame that the map belongs to.
        size: (height, width) of the source, to scale the boxes to (outwards to whole pixels); None keeps the map's.
        min_area: pixels of the map that a region must have.

    Returns:
        Regions by falling score; pixels that touch at a corner belong together.

    Raises:
        EvaluationError: the map is not a finite (H, W).

    >>> regions_from_map(np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 4.0]]), threshold=1.0)
    [Region(frame=0, box=(0, 0, 1, 1), score=9.0), Region(frame=0, box=(2, 1, 3, 2), score=4.0)]
    """
    if score_map.ndim != 2 or not score_map.size or not np.isfinite(score_map).all():
        raise EvaluationError(f"score map of shape {score_map.shape}: expected finite numbers (H, W)")
    place, boxes = connected_components(score_map >= threshold, min_area)
    peaks = np.full(len(boxes) + 1, -np.inf)
    np.maximum.at(peaks, place.ravel(), score_map.ravel())
    height, width = score_map.shape
    y_scale, x_scale = (1.0, 1.0) if size is None else (size[0] / height, size[1] / width)
    regions = [
        Region(frame, scale_box_outwards(box, x_scale, y_scale), float(peak))
        for box, peak in zip(boxes, peaks[1:], strict=True)
    ]
    return sorted(regions, key=lambda region: -region.score)


def link_tracks(masks: Iterable[NDArray[np.bool_]], min_area: int = 1) -> list[dict[int, Box]]:
    """Tracks from pixel masks: connected places, linked from frame to frame by the pixels they share.

    Pairs of places in neighbouring frames are linked by falling overlap, each place once. Where two merge, the track
    with more overlap goes on and the other is hidden in it; where one splits, the larger part goes on and the others
    are what was hidden in it, the last one hidden first, or else begin tracks. So two anomalies that cross are two
    tracks, one of which has a gap; which of them is which afterwards is not looked into.

    Ours: data sets with masks but no tracks (Ped2) need tracks for `rbdc` and `tbdc`.

    Args:
        masks: bool (H, W) of each frame of one video in order, True where abnormal; read one at a time.
        min_area: smaller places are specks and are left out.

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
        place, boxes = connected_components(mask, min_area)
        couples = [] if before is None else _couples(before, place)
        owner_now = _handed_on(couples, owner, hidden)
        for i, box in enumerate(boxes, start=1):
            if i not in owner_now:
                owner_now[i] = len(tracks)
                tracks.append({})
            tracks[owner_now[i]][frame] = box
        before, owner = place, owner_now
    return tracks


def connected_components(mask: NDArray[np.bool_], min_area: int) -> tuple[NDArray[np.int32], list[Box]]:
    """A number from 1 on for each connected place of enough pixels (0 elsewhere), and their boxes in that order."""
    import cv2

    pixels = np.ascontiguousarray(mask.astype(np.bool_)).view(np.uint8)
    _, place, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8, ltype=cv2.CV_32S)
    kept = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= min_area)
    kept = kept[kept > 0]
    number = np.zeros(len(stats), np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    boxes = [(left, top, left + width, top + height) for left, top, width, height, _ in stats[kept].tolist()]
    return number[place], boxes


def scale_box_outwards(box: Box, x_scale: float, y_scale: float) -> Box:
    """A box of a smaller picture in the whole pixels of a larger one that it reaches into.

    >>> scaled_outwards((1, 1, 2, 2), 2.5, 3.0)
    (2, 3, 5, 6)
    """
    left, top, right, bottom = box
    return (
        math.floor(left * x_scale),
        math.floor(top * y_scale),
        math.ceil(right * x_scale),
        math.ceil(bottom * y_scale),
    )


def _couples(before: NDArray[np.int32], now: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Places of `before` and of `now` that share pixels, by falling overlap."""
    both = (before > 0) & (now > 0)
    couples, overlap = np.unique(np.stack([before[both], now[both]], axis=1), axis=0, return_counts=True)
    return [(int(couples[k, 0]), int(couples[k, 1])) for k in np.argsort(-overlap, kind="stable")]


def _handed_on(couples: list[tuple[int, int]], owner: dict[int, int], hidden: dict[int, list[int]]) -> dict[int, int]:
    """The track of each place of now that follows one of before.

    Args:
        couples: of places before and now, by falling overlap.
        owner: the track of each place before.
        hidden: the tracks hidden in a track, the last one last; changed.
    """
    follows: dict[int, int] = {}
    went_on: set[int] = set()
    for old, new in couples:
        if old not in went_on and new not in follows:
            follows[new] = old
            went_on.add(old)
    owner_now = {new: owner[old] for new, old in follows.items()}
    for old, new in couples:
        if new not in owner_now and hidden.get(owner[old]):
            owner_now[new] = hidden[owner[old]].pop()
    for old, new in couples:
        if old not in went_on:
            went_on.add(old)
            hidden.setdefault(owner_now[new], []).extend([*hidden.pop(owner[old], []), owner[old]])
    return owner_now
