"""Moving objects of normal video: cut out, linked over time, and pasted.

Shape suffixes: T frames, H W pixels of the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_DIFFERENCE = 24
"""Grey levels by which a foreground pixel differs from the background; above the noise of the video at hand."""
SMALLEST, LARGEST = 0.0008, 0.08
"""Parts of the frame that an object may cover: larger than a speck, smaller than a group or a change of light."""
MIN_OVERLAP = 0.4
"""Intersection over union at which boxes of neighbouring frames are taken for one object."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """One foreground object in one frame.

    Attributes:
        left: of its rectangle in pixels of the frame.
        top: of its rectangle in pixels of the frame.

    Shapes:
        pixels: uint8 (h, w, 3), RGB.
        alpha: float32 (h, w) in [0, 1], soft at the edge.
    """

    left: int
    top: int
    pixels: NDArray[np.uint8]
    alpha: NDArray[np.float32]

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels, the centre of a pixel being its index. Pasted there, the object is where it was."""
        height, width = self.alpha.shape
        return self.left + (width - 1) / 2, self.top + (height - 1) / 2


def background(frames: NDArray[np.uint8], n_samples: int = 31) -> NDArray[np.uint8]:
    """Return the median image, in which nothing moves.

    Args:
        frames: uint8 (T, H, W, 3).
        n_samples: frames that the median is over, evenly spaced.

    Shapes:
        returns: uint8 (H, W, 3).
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, n_samples).astype(int))
    return np.asarray(np.median(frames[chosen], axis=0), np.uint8)


def cut_out_objects(frame: NDArray[np.uint8], empty_scene: NDArray[np.uint8]) -> list[Cutout]:
    """Cut out the foreground objects of a frame. Objects at the border are left out, because part of them is missing.

    Shapes:
        frame, empty_scene: uint8 (H, W, 3).
    """
    height, width = frame.shape[:2]
    change = cv2.GaussianBlur(cv2.absdiff(frame, empty_scene).max(axis=2), (5, 5), 0)
    solid = cv2.morphologyEx((change > MIN_DIFFERENCE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(solid)
    found: list[Cutout] = []
    for number, (left, top, w, h, area) in enumerate(np.asarray(boxes)[1:].tolist(), start=1):
        # An area of less than 0.3 of its rectangle is several thin pieces, not one object.
        inside = left > 1 and top > 1 and left + w < width - 1 and top + h < height - 1
        if inside and SMALLEST <= area / (height * width) <= LARGEST and area > 0.3 * w * h:
            part = slice(top - 1, top + h + 1), slice(left - 1, left + w + 1)
            alpha = cv2.GaussianBlur((labels[part] == number).astype(np.float32), (3, 3), 0)
            found.append(Cutout(left - 1, top - 1, frame[part].copy(), np.asarray(alpha, np.float32)))
    return found


def link_tracklets(found: Sequence[Sequence[Cutout]], n_frames: int) -> list[list[Cutout]]:
    """Follow objects through consecutive frames.

    Each object is linked to the one of the next frame that overlaps it most, if that is at least `MIN_OVERLAP`.

    Args:
        found: the objects of each frame.
        n_frames: length of a tracklet; shorter ones are dropped, and one that reaches it ends.
    """
    finished: list[list[Cutout]] = []
    active: list[list[Cutout]] = []
    for cuts in found:
        free = set(range(len(cuts)))
        grown: list[list[Cutout]] = []
        for tracklet in active:
            best = max(free, key=lambda i: _overlap(tracklet[-1], cuts[i]), default=None)
            if best is None or _overlap(tracklet[-1], cuts[best]) < MIN_OVERLAP:
                continue
            free.remove(best)
            tracklet.append(cuts[best])
            (finished if len(tracklet) == n_frames else grown).append(tracklet)
        active = grown + [[cuts[i]] for i in sorted(free)]
    return finished


def _overlap(a: Cutout, b: Cutout) -> float:
    """Intersection over union of the rectangles."""
    (ah, aw), (bh, bw) = a.alpha.shape, b.alpha.shape
    w = min(a.left + aw, b.left + bw) - max(a.left, b.left)
    h = min(a.top + ah, b.top + bh) - max(a.top, b.top)
    common = max(0, w) * max(0, h)
    return float(common / (ah * aw + bh * bw - common))


def paste(image: NDArray[np.uint8], cut: Cutout, x: float, y: float, scale: float = 1.0) -> NDArray[np.bool_]:
    """Paste an object into an image in place, its centre at (x, y), and return the pixels that it covers.

    Shapes:
        image: uint8 (H, W, 3); it is changed.
        returns: bool (H, W).
    """
    covered = np.zeros(image.shape[:2], np.bool_)
    h, w = cut.alpha.shape
    left, top = x - scale * (w - 1) / 2, y - scale * (h - 1) / 2
    rows = _within(top - 1, top + scale * h + 2, image.shape[0])
    columns = _within(left - 1, left + scale * w + 2, image.shape[1])
    part = image[rows, columns]
    if not part.size:
        return covered
    move = np.array([[scale, 0, left - columns.start], [0, scale, top - rows.start]], np.float32)
    size = (part.shape[1], part.shape[0])
    alpha = cv2.warpAffine(cut.alpha, move, size)
    pixels = cv2.warpAffine(cut.pixels, move, size, borderMode=cv2.BORDER_REPLICATE)
    touched = alpha > 0
    mixed = alpha[touched, None] * pixels[touched] + (1 - alpha[touched, None]) * part[touched]
    part[touched] = np.rint(mixed).astype(np.uint8)
    covered[rows, columns] = alpha > 0.5
    return covered


def _within(low: float, high: float, size: int) -> slice:
    """The whole pixels between two positions, cut at the edges of the image; empty when none is left."""
    begin = int(min(max(np.floor(low), 0), size))
    return slice(begin, int(min(max(np.ceil(high), begin), size)))
