"""What moves in ordinary video, cut out: the stuff that pseudo-anomalies are made of.

Shape suffixes: T frames, H W pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CHANGE = 24
"""Grey levels by which a pixel differs from the background to count as foreground."""
SMALLEST, LARGEST = 0.0008, 0.08
"""Shares of the picture that a cut-out may cover."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """One foreground object in one frame.

    Attributes:
        left, top: of its rectangle in pixels of the picture.

    Shapes:
        pixels: uint8 (h, w, 3), RGB. alpha: float32 (h, w) in [0, 1], soft at the edge.
    """

    left: int
    top: int
    pixels: NDArray[np.uint8]
    alpha: NDArray[np.float32]

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels, that of a pixel being its number: pasted there, a cut-out is where it was."""
        height, width = self.alpha.shape
        return self.left + (width - 1) / 2, self.top + (height - 1) / 2


def background(frames: NDArray[np.uint8], n_samples: int = 31) -> NDArray[np.uint8]:
    """The median picture. Shapes: uint8 (T, H, W, 3); returns uint8 (H, W, 3)."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, n_samples).astype(int))
    return np.asarray(np.median(frames[chosen], axis=0), np.uint8)


def cutouts(frame: NDArray[np.uint8], still: NDArray[np.uint8]) -> list[Cutout]:
    """The foreground objects of a frame, those at the border left out, because they are cut.

    Shapes: frame, still: uint8 (H, W, 3).
    """
    height, width = frame.shape[:2]
    change = cv2.GaussianBlur(cv2.absdiff(frame, still).max(axis=2), (5, 5), 0)
    solid = cv2.morphologyEx((change > CHANGE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(solid)
    found: list[Cutout] = []
    for number, (left, top, w, h, area) in enumerate(np.asarray(boxes)[1:].tolist(), start=1):
        inside = left > 1 and top > 1 and left + w < width - 1 and top + h < height - 1
        if inside and SMALLEST <= area / (height * width) <= LARGEST and area > 0.3 * w * h:
            part = slice(top - 1, top + h + 1), slice(left - 1, left + w + 1)
            alpha = cv2.GaussianBlur((labels[part] == number).astype(np.float32), (3, 3), 0)
            found.append(Cutout(left - 1, top - 1, frame[part].copy(), np.asarray(alpha, np.float32)))
    return found


def tubes(found: Sequence[Sequence[Cutout]], n_frames: int) -> list[list[Cutout]]:
    """Objects followed through consecutive frames, `n_frames` of each.

    Each object is joined to the one of the next frame that it overlaps most, as long as the size stays alike.

    Args:
        found: the cut-outs of each frame.
    """
    finished: list[list[Cutout]] = []
    active: list[list[Cutout]] = []
    for cuts in found:
        free = set(range(len(cuts)))
        grown: list[list[Cutout]] = []
        for tube in active:
            best = max(free, key=lambda i: _overlap(tube[-1], cuts[i]), default=None)
            if best is None or _overlap(tube[-1], cuts[best]) < 0.4:
                continue
            free.remove(best)
            tube.append(cuts[best])
            (finished if len(tube) == n_frames else grown).append(tube)
        active = grown + [[cuts[i]] for i in sorted(free)]
    return finished


def _overlap(a: Cutout, b: Cutout) -> float:
    """Intersection over union of the rectangles."""
    (ah, aw), (bh, bw) = a.alpha.shape, b.alpha.shape
    w = min(a.left + aw, b.left + bw) - max(a.left, b.left)
    h = min(a.top + ah, b.top + bh) - max(a.top, b.top)
    common = max(0, w) * max(0, h)
    return float(common / (ah * aw + bh * bw - common))


def paste(picture: NDArray[np.uint8], cut: Cutout, x: float, y: float, scale: float = 1.0) -> NDArray[np.bool_]:
    """Lay a cut-out over a picture in place, its centre at (x, y), and give the pixels it covers.

    Shapes: picture: uint8 (H, W, 3), changed; returns bool (H, W).
    """
    covered = np.zeros(picture.shape[:2], np.bool_)
    h, w = cut.alpha.shape
    left, top = x - scale * (w - 1) / 2, y - scale * (h - 1) / 2
    rows = _within(top - 1, top + scale * h + 2, picture.shape[0])
    columns = _within(left - 1, left + scale * w + 2, picture.shape[1])
    part = picture[rows, columns]
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
    """The whole pixels between, as far as there are any."""
    begin = int(min(max(np.floor(low), 0), size))
    return slice(begin, int(min(max(np.ceil(high), begin), size)))
