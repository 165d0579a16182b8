"""Memory items that adapt while the detector runs, and a bound on what that can do to the score.

Shape suffixes: N items, D feature width.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from comemory.scoring.scorer import ScoreParts

ROUNDING = 1e-6
"""How far fp32 items lie off their axis by rounding alone; a smaller distance has no direction."""


def bounded_update(
    items_ND: NDArray[np.float32],
    updated_ND: NDArray[np.float32],
    frozen_ND: NDArray[np.float32],
    rate: float,
    max_angle: float,
) -> NDArray[np.float32]:
    """Move items a small step towards their update, and never farther than `max_angle` from where training left them.

    Ours: one update of the thesis' Eq. (10) replaces an item by what the newest frame holds. With a small rate the item
    follows minutes instead of frames. It stays in a cone around the trained item, for which the decoder was trained.

    Args:
        items_ND: as they are now.
        updated_ND: as the network updated them.
        frozen_ND: as training left them.
        rate: share of the way to the update, in [0, 1].
        max_angle: radians, in [0, pi / 2].

    Shapes:
        items_ND, updated_ND, frozen_ND: float32, unit norm. returns: float32 (N, D), unit norm.

    >>> one, up = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    >>> bounded_update(one, up, one, rate=1.0, max_angle=math.pi / 6).round(3)
    array([[0.866, 0.5  ]], dtype=float32)
    """
    axis_ND = frozen_ND / np.linalg.norm(frozen_ND.astype(np.float64), axis=1, keepdims=True)
    moved_ND = items_ND + np.float64(rate) * (updated_ND.astype(np.float64) - items_ND)
    along_N1 = (moved_ND * axis_ND).sum(axis=1, keepdims=True)
    aside_ND = moved_ND - along_N1 * axis_ND
    length_N1 = np.linalg.norm(aside_ND, axis=1, keepdims=True)
    is_off_axis = length_N1 > ROUNDING
    angle_N1 = np.where(is_off_axis, np.minimum(np.arctan2(length_N1, along_N1), max_angle), 0.0)
    direction_ND = aside_ND / np.where(is_off_axis, length_N1, 1.0)
    return np.asarray(np.cos(angle_N1) * axis_ND + np.sin(angle_N1) * direction_ND, np.float32)


def clamp(adapted: ScoreParts, frozen: ScoreParts, bound: float) -> ScoreParts:
    """Clamp the score of an adapting memory to within `bound` of the trained memory's score.

    Ours: the second of the thesis' future works. The score and both of its parts differ by at most `bound` log10 units
    from those without updates, whatever the camera has seen. So a frame that passes a threshold by `bound` without
    updates also passes it with them, and one that misses it by more than `bound` still misses it. Box and raw score are
    those of the trained memory.
    """

    def clamped(name: str) -> float:
        anchor: float = getattr(frozen, name)
        value: float = getattr(adapted, name)
        return min(max(value, anchor - bound), anchor + bound)

    return frozen._replace(value=clamped("value"), motion=clamped("motion"), appearance=clamped("appearance"))


def max_distance_change(max_angle: float) -> float:
    """Bound how much a query's squared distance to its nearest item changes when every item moves by `max_angle`.

    Ours: queries and items have unit norm, so the distance is 2 - 2 cos of the angle between them, and the angle to the
    nearest item changes by no more than the items move: |cos a - cos b| <= 2 sin(max_angle / 2) for |a - b| <= max_angle.

    Args:
        max_angle: radians.

    >>> max_distance_change(0.0)
    0.0
    """
    return 4 * math.sin(max_angle / 2)
