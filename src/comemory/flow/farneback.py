"""Flow by polynomial expansion: an older, smoother estimator to compare with."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.flow import FlowSettings, check_pair


class Farneback:
    """Polynomial expansion on grey pictures (Farnebäck, SCIA 2003), as OpenCV has it.

    Source: seed, Eq. (11): f(I[t-1], I[t]). Ours: the parameters are the customary ones of OpenCV's own samples, three
    scales halved each time and windows of 15 pixels.
    """

    name = "farneback"

    def __init__(self, settings: FlowSettings) -> None:
        del settings

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Displacement of every pixel of `previous` on its way to `current`.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2), (dx, dy) in pixels.

        Raises:
            ConfigError: not two RGB pictures of one size.
        """
        check_pair(previous, current)
        before = cv2.cvtColor(previous, cv2.COLOR_RGB2GRAY)
        after = cv2.cvtColor(current, cv2.COLOR_RGB2GRAY)
        flow = np.empty((*before.shape, 2), np.float32)
        cv2.calcOpticalFlowFarneback(
            before, after, flow, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
        )
        return flow
