"""A memory that goes on learning while it watches, and a score that this cannot carry away.

Shape suffixes: N items, D feature width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from comemory.scoring.calibration import Judgement

ROUNDING = 1e-6
"""What fp32 items are off the axis by rounding alone: no direction to go."""


def follow(
    items_ND: NDArray[np.float32],
    updated_ND: NDArray[np.float32],
    frozen_ND: NDArray[np.float32],
    pace: float,
    reach: float,
) -> NDArray[np.float32]:
    """Move items a small step towards where an update would put them, and no farther than `reach` from where they began.

    Ours: one update of the seed's Eq. (10) replaces an item by what the newest frame holds; a share of it makes the item
    follow minutes in place of frames. An item keeps within a cone around the trained one, on which the decoder learned.

    Args:
        pace: share of the way, in [0, 1].
        reach: radians, in [0, pi / 2].

    Shapes:
        items_ND, updated_ND, frozen_ND: float32, unit norm. returns: float32 (N, D), unit norm.

    >>> one, up = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    >>> follow(one, up, one, pace=1.0, reach=math.pi / 6).round(3)
    array([[0.866, 0.5  ]], dtype=float32)
    """
    axis_ND = frozen_ND / np.linalg.norm(frozen_ND.astype(np.float64), axis=1, keepdims=True)
    moved_ND = items_ND + np.float64(pace) * (updated_ND.astype(np.float64) - items_ND)
    along_N1 = (moved_ND * axis_ND).sum(axis=1, keepdims=True)
    aside_ND = moved_ND - along_N1 * axis_ND
    length_N1 = np.linalg.norm(aside_ND, axis=1, keepdims=True)
    turned = length_N1 > ROUNDING
    angle_N1 = np.where(turned, np.minimum(np.arctan2(length_N1, along_N1), reach), 0.0)
    direction_ND = aside_ND / np.where(turned, length_N1, 1.0)
    return np.asarray(np.cos(angle_N1) * axis_ND + np.sin(angle_N1) * direction_ND, np.float32)


def hold(adapted: Judgement, frozen: Judgement, bound: float) -> Judgement:
    """What a memory that went on learning says, held to what the trained one says.

    Ours: the second of the seed's future works. No frame's score, and neither of its parts, differs by more than `bound`
    decades from the one without updates, whatever was watched before. So every frame at `bound` over a threshold without
    updates passes it with them, and none at `bound` under it does. Box, Eq. (16) and the raw score are those of the
    trained memory, for which w_F and w_I were fitted.
    """

    def held(name: str) -> float:
        anchor: float = getattr(frozen, name)
        value: float = getattr(adapted, name)
        return min(max(value, anchor - bound), anchor + bound)

    return frozen._replace(value=held("value"), motion=held("motion"), appearance=held("appearance"))


def farthest_distance_change(reach: float) -> float:
    """The most that a squared distance of a query to its nearest item changes when every item moves by `reach` radians.

    Ours: queries and items have unit norm, so the distance is 2 - 2 cos of the angle between them, and the angle to the
    nearest item moves by no more than the items do: |cos a - cos b| <= 2 sin(reach / 2) for |a - b| <= reach.

    >>> farthest_distance_change(0.0)
    0.0
    """
    return 4 * math.sin(reach / 2)
