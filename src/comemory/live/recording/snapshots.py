"""Images of a camera for people: thumbnails, heat maps, snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from comemory.live.recording.outline import Outline
from comemory.types import Box, Score
from comemory.video.image_folder import upright_rgb
from comemory.video.overlay import draw_score
from comemory.video.writer import save_image

THUMBNAIL_WIDTH = 480
CROP_SHAPE = 1.5
"""Width by height of the cards on the page."""
CROP_MARGIN = 2.0
"""Side of a crop by that of the anomaly: half of the crop shows what is around it."""
MIN_CROP = 0.25
"""Smallest side of a crop, as a share of the image: below it, low-resolution cameras show only blocks."""


def to_rgb(image: Any) -> NDArray[np.uint8]:
    """A decoded frame, or an RGB array, as an upright RGB array: uint8 (H, W, 3)."""
    return upright_rgb(image, None, VideoReformatter()) if isinstance(image, av.VideoFrame) else image


def downscale(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The image, scaled down to `width` pixels where it is wider.

    >>> downscale(np.zeros((40, 80, 3), np.uint8), 20).shape
    (10, 20, 3)
    """
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def save_thumbnail(image: Any, path: Path) -> Path:
    """Write a small copy, `THUMBNAIL_WIDTH` wide.

    Raises:
        SourceError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(downscale(to_rgb(image), THUMBNAIL_WIDTH), path)
    return path


def save_crop(image: Any, place: Box, path: Path) -> Path:
    """Write the part of the image around an anomaly, at most `THUMBNAIL_WIDTH` wide.

    Args:
        image: a decoded frame, or an RGB array.
        place: of the anomaly, in pixels of the image.
        path: of the new file.

    Raises:
        SourceError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = to_rgb(image)
    left, top, right, bottom = crop_around(whole.shape[:2], place)
    save_image(downscale(np.ascontiguousarray(whole[top:bottom, left:right]), THUMBNAIL_WIDTH), path)
    return path


def crop_around(size: Sequence[int], place: Box) -> Box:
    """The part of an image to show of an anomaly: with a margin, not tiny, in the shape of a card, inside the image.

    >>> crop_around((400, 600), (290, 190, 310, 210))
    (225, 150, 375, 250)
    >>> crop_around((400, 600), (0, 0, 500, 390))
    (0, 0, 600, 400)
    """
    height, width = size
    wide = max(CROP_MARGIN * (place[2] - place[0]), MIN_CROP * width)
    tall = max(CROP_MARGIN * (place[3] - place[1]), MIN_CROP * height)
    wide, tall = max(wide, tall * CROP_SHAPE), max(tall, wide / CROP_SHAPE)
    sides = []
    for low, high, length, limit in ((place[0], place[2], wide, width), (place[1], place[3], tall, height)):
        length = min(length, limit)
        start = min(max(0.0, (low + high - length) / 2), limit - length)
        sides.append((round(start), round(start + length)))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def save_heat_map(
    image: Any, score: Score, heat: NDArray[np.float32] | None, path: Path, outline: Outline | None, at: datetime
) -> Path:
    """Write the image with its heat map, the outline of the anomaly, and the local time.

    Raises:
        SourceError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_score(
        to_rgb(image),
        replace(score, heat_map=heat),
        event=True,
        outline=outline,
        clock=f"{at.astimezone():%Y-%m-%d %H:%M:%S}",
        strip=False,
    )
    save_image(drawn, path)
    return path
