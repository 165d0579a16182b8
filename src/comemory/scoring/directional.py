"""Speed relative to what is normal in that image row and in that direction.

People in front of a fixed camera walk to and fro along a few directions. A fall is downward, a jaywalker goes across, a
bicycle is fast along the path: each exceeds what is normal in its own direction, though not always the fastest of all.

Shape suffixes: D directions, h w cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

N_DIRECTIONS = 8
"""Directions, 45 degrees apart; 4 and 16 give the same AUC within 0.002."""

QUANTILE = 0.99
"""Quantile over normal frames of the fastest cell of a row: the normal level of the row."""

MIN_SHARE = 0.4
"""Smallest level in a direction, as a share of the row's level over all directions: rare is not the same as noise."""

MIN_ROW_SHARE = 0.15
"""Smallest level of a row, as a share of the nearest row's: dividing by less would make distant noise fast."""


def directional_speed(flow_2hw: NDArray[np.float32], levels_Dh: NDArray[np.float32]) -> NDArray[np.float32]:
    """The flow along each direction over its normal level; 0 where it goes the other way.

    Shapes: flow float32 (..., 2, h, w), pixels a frame; returns float32 (..., D, h, w).
    """
    along = np.maximum(np.einsum("dc,...chw->...dhw", _directions(), flow_2hw), np.float32(0))
    return np.asarray(along / levels_Dh[:, :, None], np.float32)


def fit_directional_levels(flows_2hw: Iterable[NDArray[np.float32]]) -> tuple[tuple[float, ...], ...]:
    """Fit the levels on the flow of normal frames.

    Ours: the level of a row is never less than that of a row above, as in `spatial_baseline.fit_row_baseline`.

    Returns:
        For each direction, from right by 45 degrees clockwise, the level of each row of cells, pixels a frame.

    Shapes: each float32 (2, h, w), pixels a frame.

    >>> right = np.zeros((2, 2, 3), np.float32)
    >>> right[0] = 1
    >>> levels = fit_directional_levels([right] * 3)
    >>> [round(levels[direction][0], 2) for direction in (0, 4)]
    [1.0, 0.4]
    """
    along, speeds = [], []
    for flow in flows_2hw:
        speeds.append(np.hypot(flow[0], flow[1]).max(axis=1))
        along.append(np.maximum(np.tensordot(_directions(), flow, 1), 0).max(axis=2))
    overall = np.maximum.accumulate(np.quantile(np.stack(speeds), QUANTILE, axis=0))
    overall = np.maximum(overall, max(MIN_ROW_SHARE * float(overall.max()), 1e-9))
    by_direction = np.maximum.accumulate(np.quantile(np.stack(along), QUANTILE, axis=0), axis=1)
    levels = np.maximum(by_direction, MIN_SHARE * overall)
    return tuple(tuple(rows) for rows in levels.tolist())


@cache
def _directions() -> NDArray[np.float32]:
    """Unit vectors (x, y). Shapes: float32 (D, 2)."""
    angles = 2 * np.pi * np.arange(N_DIRECTIONS) / N_DIRECTIONS
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
