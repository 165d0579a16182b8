"""Pictures of a camera for people: thumbnails, heat maps, snapshots."""

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
from comemory.video.image_folder import upright
from comemory.video.overlay import annotate
from comemory.video.writer import save_picture

THUMBNAIL_WIDTH = 480


def as_picture(picture: Any) -> NDArray[np.uint8]:
    """A decoded frame, or an RGB array, as an RGB array: uint8 (H, W, 3)."""
    return upright(picture, None, VideoReformatter()) if isinstance(picture, av.VideoFrame) else picture


def shrunk(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """A picture no wider than `width`.

    >>> shrunk(np.zeros((40, 80, 3), np.uint8), 20).shape
    (10, 20, 3)
    """
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def save_thumbnail(picture: Any, path: Path) -> Path:
    """Write a small copy. Raises SourceError where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(shrunk(as_picture(picture), THUMBNAIL_WIDTH), path)
    return path


def save_heat(picture: Any, score: Score, heat: NDArray[np.float32] | None, path: Path, threshold: float) -> Path:
    """Write the picture with its heat map and box. Raises SourceError where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = annotate(as_picture(picture), replace(score, heat_map=heat), threshold=threshold, event=True)
    save_picture(drawn, path)
    return path
