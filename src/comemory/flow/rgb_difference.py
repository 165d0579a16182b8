"""The difference of two images in place of flow: the cheapest substitute."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.flow import FlowSettings, check_pair

GAIN = 16.0
"""A step of 1/16 of the full range counts as one pixel of flow. On people walking (UCSD Ped2, training video) the largest
patch means are then within a third of those of `dis`, so that loss weights and thresholds keep their scale."""


class RgbDifference:
    """The difference of two images in place of flow: where and how strongly they differ, not in which direction.

    Source: thesis, Future Works, third direction: "the replacement of the optical flow extractor to RGB difference".
    Ours: two channels in place of (dx, dy), so that the rest of the pipeline is unchanged. The first is the signed difference of
    grey; the second the absolute difference averaged over red, green and blue, which also detects a change of colour at equal
    brightness. Both are 0 where nothing changed, and `GAIN` for a step over the full range.

    Args:
        settings: not used.
    """

    name = "rgb_difference"

    def __init__(self, settings: FlowSettings) -> None:
        del settings

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the change from `previous` to `current`.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2): grey difference in [-16, 16], mean absolute difference in [0, 16].

        Raises:
            ConfigError: they are not two RGB images of one size.

        >>> black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
        >>> RgbDifference(FlowSettings()).estimate(white, black).tolist()
        [[[-16.0, 16.0]]]
        """
        check_pair(previous, current)
        before = cv2.cvtColor(previous, cv2.COLOR_RGB2GRAY)
        after = cv2.cvtColor(current, cv2.COLOR_RGB2GRAY)
        scale = GAIN / 255
        change = np.empty((*before.shape, 2), np.float32)
        np.subtract(after, before, dtype=np.float32, out=change[..., 0])
        change[..., 0] *= np.float32(scale)
        absolute = cv2.absdiff(previous, current).astype(np.float32)
        change[..., 1] = cv2.transform(absolute, np.full((1, 3), scale / 3))
        return change
