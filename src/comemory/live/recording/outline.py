"""The outline of an anomaly: the region of the heat map at the event's peak, around the box with the highest score."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.types import Box

Outline = tuple[tuple[int, int], ...]
"""Corners (x, y) in pixels of the camera's image."""

SHARE = 0.5
"""Of the highest heat inside the box: where it falls below that, the region ends."""
MIN_HEAT = 0.25
"""A place with less heat is not drawn on heat maps either, see `video.overlay.CLEAR`."""
TOLERANCE = 0.004
"""Of the image's diagonal: corners nearer than that to a straight line are left out."""
MAX_CORNERS = 60


def outline_of(heat_map: NDArray[np.float32], box: Box | None, size: Sequence[int]) -> Outline | None:
    """The outline of the region that the box lies in; None where the heat is low everywhere.

    Args:
        heat_map: in [0, 1], of any size.
        box: with the highest score, in pixels of the camera's image; None for the hottest place.
        size: (height, width) of the camera's image.

    Shapes:
        heat_map: float32 (h, w).
    """
    height, width = size
    if heat_map.size == 0 or height <= 0 or width <= 0:
        return None
    heat = np.nan_to_num(heat_map)
    rows, columns = heat.shape
    inside = np.zeros(heat.shape, np.bool_)
    if box is None:
        inside[np.unravel_index(int(heat.argmax()), heat.shape)] = True
    else:
        top, bottom = box[1] * rows // height, -(-box[3] * rows // height)
        left, right = box[0] * columns // width, -(-box[2] * columns // width)
        inside[max(0, top) : max(1, bottom), max(0, left) : max(1, right)] = True
    highest = float(heat[inside].max(initial=0.0))
    if highest < MIN_HEAT:
        return None
    # Enlarged first: the corners of single pixels of a small map would be steps of the camera's image.
    scale = max(1.0, 320 / columns)
    large = cv2.resize(heat, (round(columns * scale), round(rows * scale)), interpolation=cv2.INTER_LINEAR)
    seeds = cv2.resize(inside.astype(np.uint8), (large.shape[1], large.shape[0]), interpolation=cv2.INTER_NEAREST)
    return _largest((large >= max(MIN_HEAT, SHARE * highest)).astype(np.uint8), seeds.astype(bool), (height, width))


def _largest(hot: NDArray[np.uint8], seeds: NDArray[np.bool_], size: tuple[int, int]) -> Outline | None:
    """The outline of the largest hot region with a place among the seeds, in pixels of an image of another size."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(hot)
    found = [int(label) for label in np.unique(labels[seeds]) if label]
    if not found:
        return None
    label = max(found, key=lambda one: int(stats[one, cv2.CC_STAT_AREA]))
    contours, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=len)
    tolerance = TOLERANCE * float(np.hypot(*hot.shape))
    corners = cv2.approxPolyDP(contour, tolerance, True)
    while len(corners) > MAX_CORNERS:
        tolerance *= 1.5
        corners = cv2.approxPolyDP(contour, tolerance, True)
    if len(corners) < 3:
        return None
    x = (corners[:, 0, 0] + 0.5) * size[1] / hot.shape[1]
    y = (corners[:, 0, 1] + 0.5) * size[0] / hot.shape[0]
    return tuple((round(float(a)), round(float(b))) for a, b in zip(x, y, strict=True))


def enclosing_box(outline: Outline | None, box: Box | None) -> Box | None:
    """The smallest box around an outline and a box; None without either.

    >>> enclosing_box(((4, 4), (9, 4), (9, 8)), (2, 5, 6, 7))
    (2, 4, 9, 8)
    """
    points = [*(outline or ()), *([] if box is None else [(box[0], box[1]), (box[2], box[3])])]
    if not points:
        return None
    x, y = [point[0] for point in points], [point[1] for point in points]
    return min(x), min(y), max(x), max(y)
