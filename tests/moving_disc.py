"""Images for tests: a moving disc on a smooth coloured background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def disc_images(n: int, height: int = 48, width: int = 64) -> list[Image]:
    """Images of a smooth coloured background, with a disc that moves one step to the right in each."""
    y, x = np.mgrid[:height, :width]
    background = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=2).astype(np.uint8)
    images = []
    for i in range(n):
        image = background.copy()
        cv2.circle(image, (8 + 2 * i % width, height // 2), 6, (250, 240, 60), -1)
        images.append(image)
    return images
