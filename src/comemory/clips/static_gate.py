"""Still scenes: frames in which nothing has moved need no flow and no network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 4
"""Side in pixels of the blocks whose means are compared."""

THRESHOLD = 1.5
"""Grey levels by which a block's mean has to change, where the noise of the camera is not known."""

LOWEST, HIGHEST = 1.0, 3.0
"""Between these the threshold follows the noise. A camera with more noise than that never counts as still."""

N_SIGMA = 8.0
N_SAMPLED = 500

SETTLED = 0.01
"""Share of a running average that may be left of the motion before a scene counts as still."""


class StaticFrameGate:
    """Tells frames in which nothing has moved.

    Ours: a frame is compared with the last one that was *not* still, block by block, so that what changes slowly adds up
    and a thing that was put down is seen once and in full. Only after `patience` quiet frames in a row does the gate
    close: by then what moved before has left the clip and the carried flow.

    Args:
        patience: quiet frames that are measured in full before the first one that is not.
        threshold: grey levels; a block whose mean changes by more opens the gate.
    """

    def __init__(self, patience: int, threshold: float = THRESHOLD) -> None:
        self.patience, self.threshold = patience, threshold
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self._reference: NDArray[np.float32] | None = None
        self._n_quiet = 0

    def is_still(self, picture: NDArray[np.uint8]) -> bool:
        """Whether the next frame may be taken for the last one that was not still.

        Shapes:
            picture: uint8 (C, H, W), sides multiples of `BLOCK`.
        """
        means = block_means(picture)
        quiet = self._reference is not None and cv2.norm(means, self._reference, cv2.NORM_INF) <= self.threshold
        self._n_quiet = self._n_quiet + 1 if quiet else 0
        if self._n_quiet > self.patience:
            return True
        self._reference = means
        return False


def block_means(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means over blocks of all channels. Shapes: uint8 (C, H, W) to float32 (C * H / BLOCK, W / BLOCK).

    >>> block_means(np.arange(16, dtype=np.uint8).reshape(1, 4, 4))
    array([[7.5]], dtype=float32)
    """
    channels, height, width = picture.shape
    rows = picture.reshape(channels * height, width).astype(np.float32)
    size = (width // BLOCK, channels * height // BLOCK)
    return np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_AREA), dtype=np.float32).reshape(size[::-1])


def fit_threshold(videos: Sequence[NDArray[np.uint8]]) -> float:
    """The threshold of a camera, from the noise of its ordinary video.

    Ours: most blocks of most frames show what does not move, so that the median change of a block from one frame to the
    next is noise. The threshold is `N_SIGMA` times its deviation, in `LOWEST` to `HIGHEST`.

    Args:
        videos: uint8 (N, C, H, W) each, consecutive frames of the model's pictures; some hundred of them are sampled.

    >>> fit_threshold([np.zeros((3, 1, 8, 8), np.uint8)])
    1.0
    """
    changes = []
    step = max(1, sum(len(video) for video in videos) // N_SAMPLED)
    for video in videos:
        for i in range(1, len(video), step):
            before, after = (block_means(np.asarray(video[j])) for j in (i - 1, i))
            changes.append(float(np.median(np.abs(after - before))))
    deviation = 1.4826 * float(np.median(changes)) if changes else 0.0
    return min(max(N_SIGMA * deviation, LOWEST), HIGHEST)


def patience(n_past: int, share: float) -> int:
    """How many quiet frames it takes until a motion has left the clip and `SETTLED` of it the running average.

    >>> patience(4, 0.7), patience(4, 0.0)
    (18, 5)
    """
    return n_past + 1 + (math.ceil(math.log(SETTLED) / math.log(share)) if share > 0 else 0)
