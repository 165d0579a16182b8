"""Images of a camera for people: thumbnails, heat maps, snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from comemory.types import Score
from comemory.video.image_folder import upright_rgb
from comemory.video.overlay import annotate
from comemory.video.writer import save_image

THUMBNAIL_WIDTH = 480


def to_rgb(image: Any) -> NDArray[np.uint8]:
    """A decoded frame, or an RGB array, as an upright RGB array: uint8 (H, W, 3)."""
    return upright_rgb(image, None, VideoReformatter()) if isinstance(image, av.VideoFrame) else image


def shrink(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The image, scaled down to `width` pixels where it is wider.

    >>> shrink(np.zeros((40, 80, 3), np.uint8), 20).shape
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
    save_image(shrink(to_rgb(image), THUMBNAIL_WIDTH), path)
    return path


def save_heat_map(image: Any, score: Score, heat: NDArray[np.float32] | None, path: Path, threshold: float) -> Path:
    """Write the image with its heat map and box.

    Raises:
        SourceError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = annotate(to_rgb(image), replace(score, heat_map=heat), threshold=threshold, event=True)
    save_image(drawn, path)
    return path
