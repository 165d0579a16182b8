"""Named statistics of the evidence: which patch of a frame is the worst, and how bad it is.

Shape suffixes: h w cells, H W places of a patch map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError, nearest, short
from comemory.types import CELL, Box

STATISTICS = {
    "flow_speed": "length of the patch's mean flow vector, pixels",
    "perspective_speed": "length of the patch's mean flow vector over the speed that is usual in its rows of the picture, "
    "as far as what changes there is no noise",
    "restlessness": "motion that goes nowhere: mean root of the swing beyond the speed, over the last seconds",
    "flow_residual": "length of the patch's mean unexplained flow vector, pixels",
    "flow_error": "mean squared error of the flow, pixels squared: S_F of the seed's Eq. (18)",
    "frame_error": "mean squared error of the predicted frame: S_I of the seed's Eq. (17)",
    "motion_distance": "mean squared distance of the motion queries to their nearest item",
    "appearance_distance": "mean squared distance of the appearance queries to their nearest item",
    "motion_novelty": "motion_distance over what is usual at its place",
    "appearance_novelty": "appearance_distance over what is usual at its place",
}


UNLEARNED = ("flow_speed", "perspective_speed", "restlessness")
"""Statistics of the flow as it is: nothing is learned of them but their scale."""
VECTORS = ("flow_speed", "perspective_speed", "flow_residual")
"""Statistics whose patches have a mean vector, of which the length counts."""


def parse_channel(channel: str) -> tuple[str, int]:
    """Split `STATISTIC:PATCH`.

    Raises:
        ConfigError: an unknown statistic, or a patch that is not a multiple of the cell.

    >>> parse_channel("flow_speed:12")
    ('flow_speed', 12)
    """
    name, _, side = channel.partition(":")
    if name not in STATISTICS:
        raise ConfigError(f"unknown statistic {short(name)} in channel {short(channel)}: {nearest(name, STATISTICS)}")
    if not (side.isascii() and side.isdigit() and len(side) <= 5) or not int(side) or int(side) % CELL:
        raise ConfigError(
            f"channel {short(channel)} needs a patch side that is a multiple of {CELL}, such as {name}:16"
        )
    return name, int(side)


class Peak(NamedTuple):
    """The largest patch of a frame: its value and the box in pixels of the model's picture, inside of it."""

    value: float
    box: Box


class PatchMap(NamedTuple):
    """A channel's value at every patch of a frame.

    Attributes:
        values: float64 (H, W); the patch at row y, column x begins at the pixel (y * pitch, x * pitch).
        pitch: pixels from one patch to the next.
        side: of the patches in pixels: whole places, and no more of them than the picture has.
    """

    values: NDArray[np.float64]
    pitch: int
    side: int

    def box(self, row: int, column: int) -> Box:
        """The pixels of one patch."""
        left, top = column * self.pitch, row * self.pitch
        return (left, top, left + self.side, top + self.side)


Keep = Callable[[str, PatchMap], NDArray[np.bool_]]
"""Which patches of a channel may win: bool (H, W), such as those outside of the zones to ignore."""


def patch_means(cells_Chw: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Means over all square patches of `side` cells that lie fully inside the map.

    Ours: the seed does not say what happens at the border; padding there cost 5 points of AUC on Ped2.

    Shapes:
        cells_Chw: float (C, h, w). returns: float64 (C, h - side + 1, w - side + 1).

    >>> patch_means(np.arange(4, dtype=np.float32).reshape(1, 2, 2), 2)
    array([[[1.5]]])
    """
    n_maps, height, width = cells_Chw.shape
    means = np.empty((n_maps, height - side + 1, width - side + 1))
    for mean, cells in zip(means, cells_Chw, strict=True):
        total = cv2.integral(cells, sdepth=cv2.CV_64F)
        np.subtract(total[side:, side:], total[:-side, side:], out=mean)
        mean -= total[side:, :-side]
        mean += total[:-side, :-side]
    means /= side**2
    return means


def patch_map(maps: Mapping[str, NDArray[np.float32]], channel: str) -> PatchMap:
    """A channel's value at every patch.

    Shapes:
        maps: float32 (1, C, h, w) by name of evidence, as the graph gives them.

    Raises:
        ConfigError: the evidence has no such statistic.
    """
    name, side = parse_channel(channel)
    stored = "flow_mean" if name == "flow_speed" else name
    if stored not in maps:
        raise ConfigError(
            f"channel {channel!r} needs the evidence {stored!r}, which this model does not give: {nearest(stored, maps)}"
        )
    cells = maps[stored][0]
    finest = max(found.shape[-1] for found in maps.values() if found.ndim == 4)
    pitch = CELL * finest // cells.shape[-1]
    n_cells = min(max(1, side // pitch), *cells.shape[-2:])
    means = patch_means(cells, n_cells)
    values = np.sqrt((means**2).sum(axis=0)) if name in VECTORS else means[0]
    return PatchMap(values, pitch, n_cells * pitch)


def peak(maps: Mapping[str, NDArray[np.float32]], channel: str, keep: Keep | None = None) -> Peak:
    """The largest patch of a channel, of those that may win; the smallest of all where none may."""
    return _largest(_kept(patch_map(maps, channel), channel, keep))


def _kept(patches: PatchMap, channel: str, keep: Keep | None) -> PatchMap:
    if keep is None:
        return patches
    values = np.where(keep(channel, patches), patches.values, patches.values.min())
    return patches._replace(values=values)


def _largest(patches: PatchMap) -> Peak:
    row, column = divmod(int(patches.values.argmax()), patches.values.shape[1])
    return Peak(float(patches.values[row, column]), patches.box(row, column))


def thesis_parts(maps: Mapping[str, NDArray[np.float32]], patch: int, keep: Keep | None = None) -> tuple[Peak, float]:
    """S_F of the patch where it is largest, and S_I of that same patch. Source: seed, Eq. (17) to (19)."""
    channel = f"flow_error:{patch}"
    flow = _kept(patch_map(maps, channel), channel, keep)
    frame = patch_map(maps, f"frame_error:{patch}")
    return _largest(flow), float(frame.values.flat[int(flow.values.argmax())])


def thesis_score(flow: float, frame: float, w_flow: float, w_frame: float, weight: float) -> float:
    """S = log(w_F S_F) + lambda_S log(w_I S_I). Source: seed, Eq. (16), with the second log of its source.

    >>> thesis_score(2.0, 1.0, 0.5, 1.0, 0.2)
    0.0
    """
    smallest = np.finfo(np.float64).tiny
    return math.log(max(w_flow * flow, smallest)) + weight * math.log(max(w_frame * frame, smallest))
