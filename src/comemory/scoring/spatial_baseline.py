"""What is usual at each place of a fixed camera's picture.

Shape suffixes: h w places of the map of queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.config_model import Settings

RELATIVE = {
    "motion_novelty": "motion_distance",
    "appearance_novelty": "appearance_distance",
    "perspective_speed": "flow_mean",
}
"""Statistics that are measured by what is usual at their place, and the evidence they are made of."""

QUANTILE = 0.99
FLOOR = 0.5
FARTHEST_AWAY = 0.25
"""No row of the picture is taken for slower than this share of the fastest: noise far away is none of a runner's."""


class UsualLevels(Settings):
    """What the ordinary reaches at each place: of a distance from the memory, or of a speed.

    Ours: few items cannot describe every place equally well. A distance that is ordinary where people pass is none
    where nobody ever is, so it is divided by what ordinary video reaches at that very place. And who is far away is slow
    in pixels.

    Attributes:
        levels: rows of the map, each of positive numbers; one number where it holds for the whole row.
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

    def over_usual(self, map_hw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map in units of what is usual. Shapes: (..., h, w), the same out."""
        return np.asarray(map_hw / np.array(self.levels, np.float32), np.float32)


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


def fit_perspective(flows_2hw: Iterable[NDArray[np.float32]]) -> UsualLevels:
    """Fit on the flow of ordinary frames: how fast the fastest are in each row of the picture.

    Ours: a fixed camera looks down on a ground that is farther away the higher it stands in the picture, and who is farther
    away is smaller and slower there. So the 99th percentile of the fastest cell of each row is taken, and never less
    than that of a row above: where nobody was seen walking, in the grass in front, people would not be slower than
    behind it. A camera that looks straight down has one speed in all rows, and one that hangs upside down too.

    Shapes: each (2, h, w), pixels. The levels are (h, 1).

    >>> far, near = np.full((2, 1, 3), 0.6, np.float32), np.full((2, 1, 3), 2.4, np.float32)
    >>> np.array(fit_perspective([np.concatenate([far, near, far], axis=1)] * 3).levels).ravel().round(2)
    array([0.85, 3.39, 3.39])
    """
    fastest = np.stack([np.hypot(*flow.astype(np.float64)).max(axis=1) for flow in flows_2hw])
    reached = np.maximum.accumulate(np.quantile(fastest, QUANTILE, axis=0))
    levels = np.maximum(reached, max(FARTHEST_AWAY * float(reached[-1]), 1e-9))
    return UsualLevels(levels=tuple((level,) for level in levels.tolist()))


def with_relative(
    maps: Mapping[str, NDArray[np.float32]], usual: Mapping[str, UsualLevels]
) -> Mapping[str, NDArray[np.float32]]:
    """The evidence with what the usual levels allow to be measured by them; unchanged where it is there already.

    A speed in perspective counts as far as what changes there is no noise: far away, where it is divided by little, the
    flow that is found in noise would be fast.
    """
    more: dict[str, NDArray[np.float32]] = {
        relative: usual[plain].over_usual(maps[plain])
        for relative, plain in RELATIVE.items()
        if plain in usual and plain in maps and relative not in maps
    }
    if "perspective_speed" in more and "beyond_noise" in maps:
        more["perspective_speed"] = more["perspective_speed"] * maps["beyond_noise"]
    return {**maps, **more} if more else maps
