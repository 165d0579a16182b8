"""A motion-compensated moving average (EMA) of the optical flow, and the deviation of the flow from it.

Shape suffixes: H W pixels of the network's image.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class FlowAverage(NamedTuple):
    """The moving average of the flow, and how far the flow deviates from it.

    Attributes:
        mean: float32 (H, W, 2), pixels.
        deviation: float32 (H, W), mean absolute deviation in pixels, 0 or more.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def update_average(
    average: FlowAverage | None, flow: NDArray[np.float32], decay: float, initial_deviation: float = 0.0
) -> FlowAverage:
    """Move the average along the flow, then mix the flow into it. The deviation stays in place.

    Ours: A <- decay * warp(A) + (1 - decay) * F. A walker's swinging legs average out; what rolls keeps its speed. The
    deviation is the same moving average of |F - warp(A)|.

    Args:
        average: of the frames before; None starts a new one.
        flow: of the newest pair of frames.
        decay: weight of the past, in [0, 1).
        initial_deviation: deviation of a flow without history, as a share of its length. With 0 everybody would seem to
            move as steadily as a bicycle for half a second.

    Shapes:
        flow: float32 (H, W, 2), pixels.
    """
    if average is None:
        return FlowAverage(flow, np.float32(initial_deviation) * magnitude(flow))
    origin: Any = _coordinates(flow.shape[0], flow.shape[1]) - flow
    unused: Any = None
    warped = np.asarray(
        cv2.remap(average.mean, origin, unused, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32
    )
    # What enters the image has no history. The average of the border would be that of ground that stands still, and
    # would slow down whatever enters for half a second.
    entering = _from_outside(origin)
    warped[entering] = flow[entering]
    deviation = np.float32(decay) * average.deviation
    deviation += np.float32(1 - decay) * magnitude(flow - warped)
    deviation[entering] = np.float32(initial_deviation) * magnitude(flow[entering])
    warped *= np.float32(decay)
    warped += np.float32(1 - decay) * flow
    return FlowAverage(warped, deviation)


def decay_average(average: FlowAverage, decay: float) -> FlowAverage:
    """The average after a static frame, for which no flow is estimated: mean and deviation decay in place."""
    return FlowAverage(average.mean * np.float32(decay), average.deviation * np.float32(decay))


def shrink_vectors(average: FlowAverage, weight: float) -> NDArray[np.float32]:
    """Shorten each vector of the average by `weight` times its deviation, to zero at most.

    Ours: a lower bound of the speed. For a moment a walker's leg is as fast as a slow bicycle, but not steadily.

    Shapes:
        returns: float32 (H, W, 2), pixels.

    >>> mean, deviation = np.array([[[3.0, 4.0], [3.0, 4.0]]], np.float32), np.array([[1.0, 9.0]], np.float32)
    >>> shrink_vectors(FlowAverage(mean, deviation), 2.5)
    array([[[1.5, 2. ],
            [0. , 0. ]]], dtype=float32)
    """
    speed = np.maximum(magnitude(average.mean), np.float32(1e-6))  # no division by zero where nothing moves
    left = np.maximum(1 - np.float32(weight) * average.deviation / speed, np.float32(0))
    return np.asarray(average.mean * cv2.merge([left, left]), np.float32)


def magnitude(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The length of each vector. Shapes: float32 (..., 2) to float32 (...).

    >>> magnitude(np.array([[3.0, 4.0]], np.float32))
    array([5.], dtype=float32)
    """
    # In numpy: the last bit of OpenCV's `magnitude` and `addWeighted` depends on where in memory the array lies.
    squares = vectors * vectors
    total = squares[..., 0] + squares[..., 1]
    return np.sqrt(total, out=total)


def _from_outside(origin: NDArray[np.float32]) -> tuple[NDArray[np.int64], ...]:
    """Rows and columns of the pixels whose origin lies outside the image. Shapes: origin float32 (H, W, 2)."""
    height, width = origin.shape[:2]
    outside = origin < 0
    outside |= origin > _last_coordinates(height, width)
    either = np.ascontiguousarray(outside).view(np.uint16)  # tests x and y of a vector at once
    return np.divmod(np.flatnonzero(either), width)


@lru_cache(maxsize=16)
def _last_coordinates(height: int, width: int) -> NDArray[np.float32]:
    """The coordinates (x, y) of the last pixel, repeated at every pixel. Shapes: float32 (height, width, 2).

    Comparing whole arrays takes a tenth of the time of comparing with a broadcast pair.
    """
    return np.broadcast_to(_coordinates(height, width)[-1, -1], (height, width, 2)).copy()


@lru_cache(maxsize=16)
def _coordinates(height: int, width: int) -> NDArray[np.float32]:
    """The coordinates (x, y) of every pixel. Shapes: float32 (height, width, 2)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    coordinates = np.stack([x, y], axis=-1)
    coordinates.setflags(write=False)
    return coordinates
