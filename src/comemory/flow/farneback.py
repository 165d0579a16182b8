"""Flow by polynomial expansion: an older, smoother estimator, for comparison."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.flow import FlowSettings, check_pair


class Farneback:
    """Polynomial expansion on grey images (Farnebäck, SCIA 2003), as implemented by OpenCV.

    Source: thesis, Eq. (11): f(I[t-1], I[t]). Ours: the parameters are those of OpenCV's samples: three scales, each half of the
    one before, and windows of 15 pixels.

    Args:
        settings: not used.
    """

    name = "farneback"

    def __init__(self, settings: FlowSettings) -> None:
        del settings

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Estimate the flow; see `types.FlowEstimator`.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2), (dx, dy) in pixels.

        Raises:
            ConfigError: they are not two RGB images of one size.
        """
        check_pair(previous, current)
        before = cv2.cvtColor(previous, cv2.COLOR_RGB2GRAY)
        after = cv2.cvtColor(current, cv2.COLOR_RGB2GRAY)
        flow = np.empty((*before.shape, 2), np.float32)
        cv2.calcOpticalFlowFarneback(
            before, after, flow, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
        )
        return flow
