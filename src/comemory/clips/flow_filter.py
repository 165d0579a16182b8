"""The flow of the last frames as one: averaged along its own way, and less what swings about it.

Shape suffixes: H W pixels of the model's size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Carried(NamedTuple):
    """The running average of the flow, and how far the flows strayed from it.

    Attributes:
        mean: float32 (H, W, 2), pixels.
        swing: float32 (H, W), pixels, 0 or more.
    """

    mean: NDArray[np.float32]
    swing: NDArray[np.float32]


def carry(
    carried: Carried | None,
    flow: NDArray[np.float32],
    share: float,
    first_swing: float = 0.0,
    *,
    anew: bool = False,
) -> Carried:
    """Move the running average of the flow along the flow, then mix the flow in; the swing stays at its place.

    Ours: A <- share * warp(A) + (1 - share) * F. A walker's legs swing and average out; what rolls goes on. Their swing is
    the same average of |F - warp(A)|. A first flow has strayed from nothing yet; taken for steady it would make everybody
    a bicycle for half a second.

    Args:
        first_swing: share of its own length that a first flow is taken to swing by.
        anew: what comes from outside of the picture begins anew, as a first flow does. Else it is given the average that
            the border had, mostly of ground that stands still, and what comes in seems slow for half a second.

    Shapes:
        flow: float32 (H, W, 2), pixels.
    """
    if carried is None:
        return Carried(flow, np.float32(first_swing) * length(flow))
    places = _places(flow.shape[0], flow.shape[1])
    origin: Any = places - flow
    unused: Any = None
    moved = np.asarray(
        cv2.remap(carried.mean, origin, unused, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32
    )
    comes_in = _from_outside(origin) if anew else None
    if comes_in is not None:
        moved[comes_in] = flow[comes_in]
    swing = np.float32(share) * carried.swing
    swing += np.float32(1 - share) * length(flow - moved)
    if comes_in is not None:
        swing[comes_in] = np.float32(first_swing) * length(flow[comes_in])
    moved *= np.float32(share)
    moved += np.float32(1 - share) * flow
    return Carried(moved, swing)


def fade(carried: Carried, share: float) -> Carried:
    """What `carry` makes of no flow at all where nothing moves: the average and its swing die away."""
    return Carried(carried.mean * np.float32(share), carried.swing * np.float32(share))


def steady(carried: Carried, weight: float) -> NDArray[np.float32]:
    """The part of the carried flow that goes on whatever swings: each vector, shorter by `weight` times its swing.

    Ours: a lower bound of the speed. A walker is as fast as a slow bicycle for a moment, but not steadily.

    Shapes:
        returns: float32 (H, W, 2), pixels.

    >>> mean, swing = np.array([[[3.0, 4.0], [3.0, 4.0]]], np.float32), np.array([[1.0, 9.0]], np.float32)
    >>> steady(Carried(mean, swing), 2.5)
    array([[[1.5, 2. ],
            [0. , 0. ]]], dtype=float32)
    """
    speed = np.maximum(length(carried.mean), np.float32(1e-6))
    left = np.maximum(1 - np.float32(weight) * carried.swing / speed, np.float32(0))
    return np.asarray(carried.mean * cv2.merge([left, left]), np.float32)


def length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each vector, float32 (H, W).

    In numpy: OpenCV's `magnitude` and `addWeighted` differ in the last bit from one place in memory to another.
    """
    squares = vectors * vectors
    total = squares[..., 0] + squares[..., 1]
    return np.sqrt(total, out=total)


def _from_outside(origin: NDArray[np.float32]) -> tuple[NDArray[np.int64], ...]:
    """Rows and columns of the pixels whose origin lies outside of the picture. Shapes: origin float32 (H, W, 2)."""
    height, width = origin.shape[:2]
    outside = origin < 0
    outside |= origin > _farthest(height, width)
    either = np.ascontiguousarray(outside).view(np.uint16)  # both halves of a vector at once
    return np.divmod(np.flatnonzero(either), width)


@lru_cache(maxsize=16)
def _farthest(height: int, width: int) -> NDArray[np.float32]:
    """The last coordinates (x, y), at every pixel: whole arrays are compared in a tenth of the time.

    Shapes: float32 (height, width, 2).
    """
    return np.broadcast_to(_places(height, width)[-1, -1], (height, width, 2)).copy()


@lru_cache(maxsize=16)
def _places(height: int, width: int) -> NDArray[np.float32]:
    """The coordinates (x, y) of every pixel. Shapes: float32 (height, width, 2)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    places = np.stack([x, y], axis=-1)
    places.setflags(write=False)
    return places
