"""How abnormal each place of a frame is, on the scale of its score.

Shape suffixes: h w cells of the model's picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError
from comemory.scoring.calibration import Calibration, combine, join
from comemory.scoring.channels import patch_map
from comemory.scoring.spatial_baseline import with_relative
from comemory.types import CELL

HOTTEST = 4.0
"""The scaled value at which the heat map is full: one ordinary frame in 10,000."""


def score_map(
    maps: Mapping[str, NDArray[np.float32]], calibration: Calibration, height: int, width: int
) -> NDArray[np.float32]:
    """The score at each place, on the scale of the frame's and not clipped.

    Ours: the score that the frame would have if the patch around this place were all there is in it, each channel
    taken as 0 where it is calmer than the calmest ordinary frame: a place is not held against what else it shows.
    So a place at the threshold would raise an alarm alone. Without the running average over frames.

    Args:
        maps: the frame's evidence, by name.
        height, width: of the model's picture, pixels.

    Shapes: float32 (height / CELL, width / CELL).
    """
    settings = calibration.settings
    maps = with_relative(maps, calibration.usual)
    if settings.score == "thesis":
        smallest = np.finfo(np.float32).tiny
        flow, frame = (patch_map(maps, f"{name}:{settings.thesis_patch}") for name in ("flow_error", "frame_error"))
        log_flow, log_frame = (
            np.log(np.maximum(w * errors.values, smallest))
            for w, errors in ((calibration.w_flow, flow), (calibration.w_frame, frame))
        )
        raw = _cells(log_flow + settings.thesis_lambda * log_frame, flow.pitch, height, width)
    else:
        motion, appearance = (
            _part(maps, channels, calibration, height, width) for channels in (settings.motion, settings.appearance)
        )
        raw = combine(motion, appearance, settings)
    return np.asarray(calibration.scaled(raw), np.float32)


def refuse_misfit(maps: Mapping[str, NDArray[np.float32]], calibration: Calibration, height: int, width: int) -> None:
    """Refuse evidence that the calibration cannot judge, or that does not cover the picture.

    Raises:
        ConfigError: a map that is none, a channel that is missing, or one of another size.
    """
    for name, cells in maps.items():
        if not np.isfinite(cells).all() or (cells.ndim != 4 and not name.startswith("updated_")):
            raise ConfigError(f"the network does not give maps of numbers, see {name}")
    settings = calibration.settings
    thesis = [f"{name}:{settings.thesis_patch}" for name in ("flow_error", "frame_error")]
    for channel in (*settings.motion, *settings.appearance, *thesis):
        values, pitch, side = patch_map(maps, channel)
        size = tuple(pitch * (n - 1) + side for n in values.shape)
        if size != (height, width):
            raise ConfigError(f"the network's {channel} covers {size}, expected {(height, width)}")


def heat(score_hw: NDArray[np.float32]) -> NDArray[np.float32]:
    """A score map as float32 (H, W) of the model's size in [0, 1]: 0 is ordinary, 1 is 1 in 10,000.

    >>> heat(np.array([[2.0]], np.float32)).shape
    (4, 4)
    """
    clipped = np.clip(score_hw / np.float32(HOTTEST), 0, 1)
    return np.asarray(clipped.repeat(CELL, axis=0).repeat(CELL, axis=1), np.float32)


def _part(
    maps: Mapping[str, NDArray[np.float32]], channels: Sequence[str], fitted: Calibration, height: int, width: int
) -> NDArray[np.float64]:
    """The channels of a part joined at every cell; 0 without channels."""
    if not channels:
        return np.zeros(1)
    patches = [patch_map(maps, channel) for channel in channels]
    cells = [_cells(one.values, one.pitch, height, width) for one in patches]
    levels = [np.maximum(fitted.scales[channel](each), 0) for channel, each in zip(channels, cells, strict=True)]
    return np.maximum(join(levels, channels, fitted.settings), 0)


def _cells(patches: NDArray[np.float64], pitch: int, height: int, width: int) -> NDArray[np.float64]:
    """The values of patches at every cell of the picture."""
    cells = _centred(patches, height // pitch, width // pitch)
    return cells.repeat(pitch // CELL, axis=0).repeat(pitch // CELL, axis=1)


def _centred(patches: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Each patch's value at the middle of the patch, the border taken from the nearest.

    The middle of a patch of an even side is a corner of four cells: all of them have it, and each the largest it is given. So
    what the map shows is where it is, and a mirrored picture has the mirrored map.

    Shapes: patches (height - side + 1, width - side + 1); returns (height, width).
    """
    for axis, size in enumerate((height, width)):
        if (size - patches.shape[axis]) % 2:
            patches = np.pad(patches, [(1, 1) if a == axis else (0, 0) for a in range(2)], mode="edge")
            patches = np.maximum(np.delete(patches, 0, axis), np.delete(patches, -1, axis))
    more_y, more_x = ((size - n) // 2 for size, n in zip((height, width), patches.shape, strict=True))
    return np.pad(patches, ((more_y, more_y), (more_x, more_x)), mode="edge")
