"""What is usual at each place of a fixed camera's picture.

Shape suffixes: h w places of the map of queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.settings import Settings

NOVELTIES = {"motion_novelty": "motion_distance", "appearance_novelty": "appearance_distance"}
"""Statistics that are measured by what is usual at their place, and the evidence they are made of."""

QUANTILE = 0.99
FLOOR = 0.5


class UsualLevels(Settings):
    """How far from the memory the ordinary is at each place.

    Ours: few items cannot describe every place equally well. A distance that is ordinary where people pass is none
    where nobody ever is, so it is divided by what ordinary video reaches at that very place.

    Attributes:
        levels: rows of the map, each of positive numbers.
    """

    levels: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _even(self) -> UsualLevels:
        widths = {len(row) for row in self.levels}
        if len(widths) != 1 or 0 in widths:
            raise ValueError("the usual levels are rows of one length")
        if not all(0 < level < float("inf") for row in self.levels for level in row):
            raise ValueError("a usual level is a positive number")
        return self

    def over_usual(self, distance_hw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The distance in units of the usual one. Shapes: (..., h, w), the same out."""
        return np.asarray(distance_hw / np.array(self.levels, np.float32), np.float32)


def fit_usual(distances_hw: Iterable[NDArray[np.float32]]) -> UsualLevels:
    """Fit on the distance maps of ordinary frames.

    The 99th percentile at the place, and half the median of the frames' largest distances on top, so that a place
    where nothing ever happens does not blow up noise.

    Shapes: each (h, w).

    >>> fit_usual([np.ones((1, 2), np.float32)] * 3).levels
    ((1.5, 1.5),)
    """
    maps = np.stack(list(distances_hw)).astype(np.float64)
    floor = FLOOR * float(np.median(maps.max(axis=(1, 2))))
    levels = np.quantile(maps, QUANTILE, axis=0) + max(floor, 1e-9)
    return UsualLevels(levels=tuple(tuple(row) for row in levels.tolist()))


def with_novelty(
    maps: Mapping[str, NDArray[np.float32]], usual: Mapping[str, UsualLevels]
) -> Mapping[str, NDArray[np.float32]]:
    """The evidence with the novelties that the usual levels allow; unchanged where they are there already."""
    more = {
        novelty: usual[distance].over_usual(maps[distance])
        for novelty, distance in NOVELTIES.items()
        if distance in usual and distance in maps and novelty not in maps
    }
    return {**maps, **more} if more else maps
