"""Static scenes: a frame in which nothing has moved needs no flow and no network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 4
"""Side in pixels of the blocks whose means are compared."""

THRESHOLD = 1.5
"""Change of a block's mean, in grey levels, that counts as motion where the camera's noise is not known."""

MIN_THRESHOLD, MAX_THRESHOLD = 1.0, 3.0
"""Limits of the threshold that is fitted to the noise. A camera with more noise than that never counts as static."""

N_SIGMA = 8.0
"""The threshold in standard deviations of the noise: an image has thousands of blocks, and none may exceed it by chance."""

N_SAMPLED_FRAMES = 500

MAX_RESIDUAL = 0.01
"""Share of a past motion that may be left in the moving average of the flow when a scene counts as static."""


class StaticFrameGate:
    """Detects frames in which nothing has moved.

    Ours: a frame is compared, block by block, with the last frame that was *not* static. A slow change therefore adds up,
    and an object that was put down is scored once in full. A frame counts as static only after `patience` quiet
    frames in a row: by then the motion before has left the clip and the averaged flow.

    Args:
        patience: number of quiet frames that are scored in full before the first static one.
        threshold: grey levels; a frame with a block whose mean changes by more is not static.
    """

    def __init__(self, patience: int, threshold: float = THRESHOLD) -> None:
        self.patience, self.threshold = patience, threshold
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self._reference: NDArray[np.float32] | None = None
        self._n_quiet = 0

    def update(self, image: NDArray[np.uint8]) -> bool:
        """Add the next frame and return whether it is static: no different from the last one that was not.

        Shapes:
            image: uint8 (C, H, W), sides multiples of `BLOCK`.
        """
        means = block_means(image)
        is_quiet = self._reference is not None and cv2.norm(means, self._reference, cv2.NORM_INF) <= self.threshold
        self._n_quiet = self._n_quiet + 1 if is_quiet else 0
        if self._n_quiet > self.patience:
            return True
        self._reference = means
        return False


def block_means(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means over the blocks of all channels. Shapes: uint8 (C, H, W) to float32 (C * H / BLOCK, W / BLOCK).

    >>> block_means(np.arange(16, dtype=np.uint8).reshape(1, 4, 4))
    array([[7.5]], dtype=float32)
    """
    channels, height, width = image.shape
    rows = image.reshape(channels * height, width).astype(np.float32)
    size = (width // BLOCK, channels * height // BLOCK)
    return np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_AREA), dtype=np.float32).reshape(size[::-1])


def fit_threshold(videos: Sequence[NDArray[np.uint8]]) -> float:
    """Fit the threshold of a camera to the noise of its normal video.

    Ours: most blocks of most frames show nothing that moves, so the median change of a block from one frame to the next is
    noise. The threshold is `N_SIGMA` times its standard deviation, limited to `MIN_THRESHOLD` and `MAX_THRESHOLD`.

    Args:
        videos: uint8 (N, C, H, W) each, consecutive images of the network's size; about `N_SAMPLED_FRAMES` are sampled.

    >>> fit_threshold([np.zeros((3, 1, 8, 8), np.uint8)])
    1.0
    """
    changes = []
    step = max(1, sum(len(video) for video in videos) // N_SAMPLED_FRAMES)
    for video in videos:
        for i in range(1, len(video), step):
            before, after = (block_means(np.asarray(video[j])) for j in (i - 1, i))
            changes.append(float(np.median(np.abs(after - before))))
    deviation = 1.4826 * float(np.median(changes)) if changes else 0.0  # of a normal distribution, from its median
    return min(max(N_SIGMA * deviation, MIN_THRESHOLD), MAX_THRESHOLD)


def n_frames_to_settle(n_past: int, decay: float) -> int:
    """Number of quiet frames after which a motion has left the clip, and at most `MAX_RESIDUAL` of it is in the averaged flow.

    >>> n_frames_to_settle(4, 0.7), n_frames_to_settle(4, 0.0)
    (18, 5)
    """
    return n_past + 1 + (math.ceil(math.log(MAX_RESIDUAL) / math.log(decay)) if decay > 0 else 0)
