"""The normal level of evidence at each place of a fixed camera's image.

Shape suffixes: h w places of an evidence map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.config import Settings
from comemory.scoring.directional import directional_speed
from comemory.types import Evidence

NORMALISED = {
    "motion_novelty": "motion_distance",
    "appearance_novelty": "appearance_distance",
    "relative_speed": "flow_mean",
}
"""Statistics that are measured relative to a spatial baseline, each with the evidence that is divided by it."""

DIRECTIONAL = "flow_direction"
"""Name of the baseline of `directional_speed`: a row of levels for each direction, see `directional`."""

QUANTILE = 0.99
"""Quantile over normal frames that is the normal level of a place: the top of normal, less its outliers."""

FLOOR = 0.5
"""Share of the median frame maximum that is added to each level: where nothing ever happens, noise would be novel."""

MIN_ROW_SHARE = 0.25
"""Smallest level of an image row, as a share of the fastest row's: dividing by less would make distant noise fast."""


class SpatialBaseline(Settings):
    """The normal level of one kind of evidence at each place.

    Ours: a few memory items cannot describe all places equally well. A distance that is normal on the walkway is
    abnormal where nobody ever walks, so distances are divided by their normal level at the same place. Speeds are
    divided by the normal top speed of the image row, because distant people move few pixels.

    Attributes:
        levels: rows of the map, each of positive numbers; a row of one number holds for the whole image row.
    """

    levels: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_levels(self) -> SpatialBaseline:
        widths = {len(row) for row in self.levels}
        if len(widths) != 1 or 0 in widths:
            raise ValueError("the rows of a spatial baseline must have the same length")
        if not all(0 < level < float("inf") for row in self.levels for level in row):
            raise ValueError("the levels of a spatial baseline are positive numbers")
        return self

    def normalise(self, map_hw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Divide a map by the normal level of each place. Shapes: (..., h, w), the same out."""
        return np.asarray(map_hw / self.array, np.float32)

    @cached_property
    def array(self) -> NDArray[np.float32]:
        """The levels as an array."""
        return np.array(self.levels, np.float32)


def fit_spatial_baseline(distances_hw: Iterable[NDArray[np.float32]]) -> SpatialBaseline:
    """Fit a baseline on the distance maps of normal frames.

    The level of a place is the `QUANTILE` of its distances, plus `FLOOR` times the median of the frames' largest
    distances.

    Shapes: each (h, w).

    >>> fit_spatial_baseline([np.ones((1, 2), np.float32)] * 3).levels
    ((1.5, 1.5),)
    """
    maps = np.stack(list(distances_hw)).astype(np.float64)
    floor = FLOOR * float(np.median(maps.max(axis=(1, 2))))
    levels = np.quantile(maps, QUANTILE, axis=0) + max(floor, 1e-9)
    return SpatialBaseline(levels=tuple(tuple(row) for row in levels.tolist()))


def fit_row_baseline(flows_2hw: Iterable[NDArray[np.float32]]) -> SpatialBaseline:
    """Fit the normal top speed of each image row on the flow of normal frames.

    Ours: a fixed camera looks down on a ground plane: the higher a row, the farther away its people, and the smaller
    and slower they appear. The level of a row is the `QUANTILE` of its fastest cell, and never less than the level of a
    row above: in a foreground that nobody crossed, people would not walk slower than behind it. A camera that looks
    straight down, or hangs upside down, gets one level for all rows.

    Shapes: each (2, h, w), pixels. The levels are (h, 1).

    >>> far, near = np.full((2, 1, 3), 0.6, np.float32), np.full((2, 1, 3), 2.4, np.float32)
    >>> np.array(fit_row_baseline([np.concatenate([far, near, far], axis=1)] * 3).levels).ravel().round(2)
    array([0.85, 3.39, 3.39])
    """
    fastest = np.stack([np.hypot(*flow.astype(np.float64)).max(axis=1) for flow in flows_2hw])
    reached = np.maximum.accumulate(np.quantile(fastest, QUANTILE, axis=0))
    levels = np.maximum(reached, max(MIN_ROW_SHARE * float(reached[-1]), 1e-9))
    return SpatialBaseline(levels=tuple((level,) for level in levels.tolist()))


def normalise(maps: Mapping[str, NDArray[np.float32]], baselines: Mapping[str, SpatialBaseline]) -> Evidence:
    """Make the evidence of a clip: the raw maps, and those of `NORMALISED` that the baselines allow.

    Relative and directional speed are multiplied by the change confidence: in distant rows they are divided by little,
    and flow that was estimated in noise would look fast.

    Args:
        maps: raw, from the network and the clip.
        baselines: by the evidence that they normalise.
    """
    normalised = {
        name: baselines[raw].normalise(maps[raw])
        for name, raw in NORMALISED.items()
        if raw in baselines and raw in maps
    }
    if DIRECTIONAL in baselines and "flow_mean" in maps:
        normalised["directional_speed"] = directional_speed(maps["flow_mean"], baselines[DIRECTIONAL].array)
    if "change_confidence" in maps:
        for name in ("relative_speed", "directional_speed"):
            if name in normalised:
                normalised[name] = normalised[name] * maps["change_confidence"]
    return Evidence({**maps, **normalised})
