"""Channels: named statistics of the evidence, each the largest patch of a frame.

A channel is written `STATISTIC:PATCH`, such as `flow_speed:12`: the statistic, and the side of the square patches in
pixels that it is averaged over. A statistic is one of `STATISTICS`, or any other map or number that a model gives as
evidence, by its name. The channel of a number is its name alone.

Shape suffixes: C components, h w cells of the evidence, H W positions of a patch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError, short_repr, suggest
from comemory.scoring.spatial_baseline import NORMALISED
from comemory.types import CELL, Box

STATISTICS = {
    "flow_speed": "length of the patch's mean flow vector, pixels",
    "relative_speed": "length of the patch's mean flow vector over the normal top speed of its image rows; cells that "
    "changed by no more than noise count less",
    "directional_speed": "length of the patch's mean flow along the direction in which it most exceeds the normal top speed "
    "of its image rows, in multiples of it; cells that changed by no more than noise count less",
    "agitation": "motion in place: mean square root of the flow's deviation beyond its speed, over the last seconds",
    "descent": "downward speed of the upper third of a moving object, in expected heights a second",
    "object_distance": "distance of a moving object to the most similar normal objects, in standard deviations",
    "flow_residual": "length of the patch's mean flow vector that the network did not predict, pixels",
    "flow_error": "mean squared error of the predicted flow, pixels squared: S_F of the thesis' Eq. (18)",
    "frame_error": "mean squared error of the predicted frame: S_I of the thesis' Eq. (17)",
    "motion_distance": "mean squared distance of the motion queries to their nearest memory item",
    "appearance_distance": "mean squared distance of the appearance queries to their nearest memory item",
    "motion_novelty": "motion_distance over its normal level at the same place",
    "appearance_novelty": "appearance_distance over its normal level at the same place",
}
"""Every statistic with what it measures."""

HAND_DESIGNED = ("flow_speed", "relative_speed", "directional_speed", "agitation", "descent", "object_distance")
"""Statistics without the network: normal video gives their scales and baselines, and the memory of normal objects."""

OBJECT_STATISTICS = ("descent", "object_distance")
"""Statistics of moving objects: they need a scene in the bundle."""

VECTOR_STATISTICS = ("flow_speed", "relative_speed", "flow_residual")
"""Statistics whose value is the length of the patch's mean vector: opposite motions inside a patch cancel out."""

THESIS_PATCH = 16
"""Side of the patches of Eq. (16) to (19), pixels."""

THESIS_LAMBDA = 0.2
"""lambda_S of Eq. (16): the weight of the frame error."""


def parse_channel(channel: str) -> tuple[str, int]:
    """Split `STATISTIC:PATCH`; a number's patch is a single cell.

    Raises:
        ConfigError: the statistic is no name, or the patch side is no multiple of `CELL`.

    >>> parse_channel("flow_speed:12")
    ('flow_speed', 12)
    """
    name, colon, side = channel.partition(":")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise ConfigError(
            f"unknown statistic {short_repr(name)} in channel {short_repr(channel)}: {suggest(name, STATISTICS)}"
        )
    if not colon and name not in STATISTICS:
        return name, CELL
    if not (side.isascii() and side.isdigit() and len(side) <= 5) or not int(side) or int(side) % CELL:
        raise ConfigError(
            f"channel {short_repr(channel)} needs a patch side that is a multiple of {CELL}, such as {name}:16"
        )
    return name, int(side)


class Peak(NamedTuple):
    """The patch of a frame with the largest value.

    Attributes:
        value: of the patch.
        box: the patch in pixels of the model's image; None where the channel is one number per frame.
    """

    value: float
    box: Box | None


class PatchMap(NamedTuple):
    """A channel's value at every patch of a frame.

    Attributes:
        values: float64 (H, W). The patch at row y, column x starts at pixel (y * pitch, x * pitch).
        pitch: pixels from one patch to the next.
        side: of the patches in pixels; a whole number of cells, and no larger than the image.
    """

    values: NDArray[np.float64]
    pitch: int
    side: int

    def box(self, row: int, column: int) -> Box:
        """The pixels of one patch."""
        left, top = column * self.pitch, row * self.pitch
        return (left, top, left + self.side, top + self.side)


PatchFilter = Callable[[str, PatchMap], NDArray[np.bool_]]
"""Takes a channel and its patches; returns bool (H, W), True for the patches that may set the score."""


def patch_means(cells_Chw: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Means over all square patches of `side` cells that lie fully inside the map.

    Ours: the thesis leaves the border open. Padding it cost 5 points of AUC on Ped2, so patches stay inside.

    Shapes:
        cells_Chw: float (C, h, w). returns: float64 (C, h - side + 1, w - side + 1).

    >>> patch_means(np.arange(4, dtype=np.float32).reshape(1, 2, 2), 2)
    array([[[1.5]]])
    """
    n_maps, height, width = cells_Chw.shape
    means = np.empty((n_maps, height - side + 1, width - side + 1))
    for mean, cells in zip(means, cells_Chw, strict=True):
        # Four look-ups in an integral image give the sum of a patch of any size at the same cost.
        total = cv2.integral(cells, sdepth=cv2.CV_64F)
        np.subtract(total[side:, side:], total[:-side, side:], out=mean)
        mean -= total[side:, :-side]
        mean += total[:-side, :-side]
    means /= side**2
    return means


def patch_map(maps: Mapping[str, NDArray[np.float32]], channel: str) -> PatchMap:
    """Compute a channel's value at every patch.

    Shapes:
        maps: float32 (1, C, h, w), or (1,) for a number, by name of evidence.

    Raises:
        ConfigError: the evidence lacks the statistic.
    """
    (name, stored), (_, side) = _names(channel), parse_channel(channel)
    if stored not in maps:
        raise ConfigError(
            f"channel {channel!r} needs the evidence {stored!r}, which this model does not give: {suggest(stored, maps)}"
        )
    cells = _as_map(maps, stored)
    # The finest map has cells of CELL pixels; a coarser one, such as the distances of queries, has larger cells.
    finest = max(found.shape[-1] for found in maps.values() if found.ndim == 4)
    pitch = CELL * finest // cells.shape[-1]
    n_cells = min(max(1, side // pitch), *cells.shape[-2:])
    means = patch_means(cells, n_cells)
    values = np.sqrt((means**2).sum(axis=0)) if name in VECTOR_STATISTICS else means.max(axis=0)
    return PatchMap(values, pitch, n_cells * pitch)


def has_places(maps: Mapping[str, NDArray[np.float32]], channel: str) -> bool:
    """Whether the channel is a map, so that its patches have a place; a number holds for the whole frame.

    Args:
        maps: see `patch_map`; the channel's is among them.
        channel: its name.
    """
    return maps[_names(channel)[1]].ndim == 4


def _names(channel: str) -> tuple[str, str]:
    """The channel's statistic, and the evidence that holds it."""
    name, _ = parse_channel(channel)
    return name, "flow_mean" if name == "flow_speed" else name


def evidence_name(channel: str) -> str:
    """The evidence that a channel is computed from.

    >>> evidence_name("flow_speed:12"), evidence_name("motion_novelty:8"), evidence_name("frame_error:16")
    ('flow_mean', 'motion_distance', 'frame_error')
    """
    name, _ = parse_channel(channel)
    return "flow_mean" if name in ("flow_speed", "directional_speed") else NORMALISED.get(name, name)


def _as_map(maps: Mapping[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    """The evidence as a map (C, h, w). A number holds everywhere: its map is constant and covers the image."""
    found = maps[name]
    if found.ndim == 4:
        cells: NDArray[np.float32] = found[0]
        return cells
    finest = max((one for one in maps.values() if one.ndim == 4), key=lambda one: one.shape[-1])
    return np.broadcast_to(found.reshape(1, 1, 1), (1, *finest.shape[-2:])).astype(np.float32)


def find_peak(maps: Mapping[str, NDArray[np.float32]], channel: str, patch_filter: PatchFilter | None = None) -> Peak:
    """Find a channel's largest patch among those that the filter allows; the smallest of all where it allows none."""
    found = _largest(_filtered(patch_map(maps, channel), channel, patch_filter))
    return found if has_places(maps, channel) else found._replace(box=None)


def _filtered(patches: PatchMap, channel: str, patch_filter: PatchFilter | None) -> PatchMap:
    if patch_filter is None:
        return patches
    values = np.where(patch_filter(channel, patches), patches.values, patches.values.min())
    return patches._replace(values=values)


def _largest(patches: PatchMap) -> Peak:
    row, column = divmod(int(patches.values.argmax()), patches.values.shape[1])
    return Peak(float(patches.values[row, column]), patches.box(row, column))


def thesis_parts(
    maps: Mapping[str, NDArray[np.float32]], patch: int = THESIS_PATCH, patch_filter: PatchFilter | None = None
) -> tuple[Peak, float]:
    """Find the patch with the largest flow error S_F, and the frame error S_I of that same patch.

    Source: thesis, Eq. (17) to (19).
    """
    channel = f"flow_error:{patch}"
    flow = _filtered(patch_map(maps, channel), channel, patch_filter)
    frame = patch_map(maps, f"frame_error:{patch}")
    return _largest(flow), float(frame.values.flat[int(flow.values.argmax())])


def thesis_score(flow: float, frame: float, w_flow: float, w_frame: float, weight: float = THESIS_LAMBDA) -> float:
    """Compute S = log(w_F S_F) + lambda_S log(w_I S_I).

    Source: thesis, Eq. (16), with the second log that the slide drops and its source has.

    >>> thesis_score(2.0, 1.0, 0.5, 1.0, 0.2)
    0.0
    """
    smallest = np.finfo(np.float64).tiny
    return math.log(max(w_flow * flow, smallest)) + weight * math.log(max(w_frame * frame, smallest))
