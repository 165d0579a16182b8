"""Pictures for tests: a smooth coloured ground and a disc that moves."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def pictures(n: int, height: int = 48, width: int = 64) -> list[Picture]:
    """A smooth coloured ground with a disc that moves one step to the right in each picture."""
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=2).astype(np.uint8)
    made = []
    for i in range(n):
        picture = ground.copy()
        cv2.circle(picture, (8 + 2 * i % width, height // 2), 6, (250, 240, 60), -1)
        made.append(picture)
    return made
