"""The score of each place of a frame, on the scale of the frame's own score.

Shape suffixes: h w cells of the model's image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError
from comemory.scoring.calibration import Calibration
from comemory.scoring.channels import THESIS_LAMBDA, THESIS_PATCH, has_places, patch_map
from comemory.scoring.config import ScoringSettings
from comemory.scoring.scorer import fuse_channels, fuse_parts
from comemory.types import CELL, Evidence

HEAT_MAP_MAX = 4.0
"""The score at which a heat map reaches 1: one normal frame in 10,000."""

_THESIS_CHANNELS = tuple(f"{name}:{THESIS_PATCH}" for name in ("flow_error", "frame_error"))


def score_map(evidence: Evidence, calibration: Calibration, height: int, width: int) -> NDArray[np.float32]:
    """Compute the score of each place, on the scale of `Score.value` and not clipped.

    Ours: a place gets the score that the frame would have if the patch around the place were all that it shows, so a
    place at the threshold would raise an alarm alone. A channel that is quieter than the quietest normal frame counts as
    0 there, before its penalty. Scores are not smoothed over time.

    Args:
        evidence: of the frame's clip.
        calibration: of the bundle.
        height: of the model's image, pixels.
        width: of the model's image, pixels.

    Shapes: float32 (height / CELL, width / CELL).
    """
    if calibration.settings.score == "thesis":
        raw = _thesis_map(evidence, calibration, height, width)
    else:
        settings = calibration.settings
        motion = _part_map(evidence, settings.motion, calibration, height, width)
        appearance = _part_map(evidence, settings.appearance, calibration, height, width)
        raw = fuse_parts(motion, appearance, settings)
    return np.asarray(calibration.calibrated(raw), np.float32)


def has_score_map(evidence: Evidence, settings: ScoringSettings) -> bool:
    """Whether the score is made of maps; one of numbers alone is the same everywhere, and says nothing of a place."""
    channels = _THESIS_CHANNELS if settings.score == "thesis" else (*settings.motion, *settings.appearance)
    return any(has_places(evidence.maps, channel) for channel in channels)


def check_evidence(evidence: Evidence, calibration: Calibration, height: int, width: int) -> None:
    """Check that the calibration can score the evidence, and that the evidence covers the whole image.

    Raises:
        ConfigError: a map is no map of finite numbers, a channel is missing, or a map has another size.
    """
    for name, cells in evidence.maps.items():
        if not np.isfinite(cells).all() or (cells.ndim not in (1, 4) and not name.startswith("updated_")):
            raise ConfigError(f"the network does not give maps or single values of finite numbers, see {name}")
    settings = calibration.settings
    thesis = _THESIS_CHANNELS if calibration.has_thesis_score else ()
    for channel in (*settings.motion, *settings.appearance, *thesis):
        values, pitch, side = patch_map(evidence.maps, channel)
        size = tuple(pitch * (n - 1) + side for n in values.shape)
        if size != (height, width):
            raise ConfigError(f"the network's {channel} covers {size}, expected {(height, width)}")


def heat_map(score_hw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a score map into a heat map: float32 (H, W) of the model's size, 0 is normal, 1 is `HEAT_MAP_MAX` or more.

    >>> heat_map(np.array([[2.0]], np.float32)).shape
    (4, 4)
    """
    clipped = np.clip(score_hw / np.float32(HEAT_MAP_MAX), 0, 1)
    return np.asarray(clipped.repeat(CELL, axis=0).repeat(CELL, axis=1), np.float32)


def _thesis_map(evidence: Evidence, calibration: Calibration, height: int, width: int) -> NDArray[np.float64]:
    """Eq. (16) at every cell."""
    smallest = np.finfo(np.float32).tiny
    flow, frame = (patch_map(evidence.maps, channel) for channel in _THESIS_CHANNELS)
    w_flow, w_frame = calibration.thesis_weights
    log_flow = np.log(np.maximum(w_flow * flow.values, smallest))
    log_frame = np.log(np.maximum(w_frame * frame.values, smallest))
    return _at_cells(log_flow + THESIS_LAMBDA * log_frame, flow.pitch, height, width)


def _part_map(
    evidence: Evidence, channels: Sequence[str], calibration: Calibration, height: int, width: int
) -> NDArray[np.float64]:
    """The fused level of a part's channels at every cell; 0 without channels."""
    if not channels:
        return np.zeros(1)
    patches = [patch_map(evidence.maps, channel) for channel in channels]
    cells = [_at_cells(found.values, found.pitch, height, width) for found in patches]
    if calibration.settings.is_sum:
        summands = [calibration.level(channel, values) for channel, values in zip(channels, cells, strict=True)]
        return np.asarray(np.sum(summands, axis=0), np.float64)
    levels = [
        np.maximum(calibration.scales[channel](values), 0) for channel, values in zip(channels, cells, strict=True)
    ]
    return fuse_channels(levels, channels, calibration.settings)


def _at_cells(patches: NDArray[np.float64], pitch: int, height: int, width: int) -> NDArray[np.float64]:
    """The values of patches at every cell of the image."""
    cells = _centred(patches, height // pitch, width // pitch)
    return cells.repeat(pitch // CELL, axis=0).repeat(pitch // CELL, axis=1)


def _centred(patches: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Put each patch's value at the middle of the patch; cells at the border get the value of the nearest.

    The middle of a patch with an even side is a corner of four cells. All four get its value, and each cell the largest
    that it is given. So the map shows things where they are, and a mirrored image has the mirrored map.

    Shapes: patches (height - side + 1, width - side + 1); returns (height, width).
    """
    for axis, size in enumerate((height, width)):
        if (size - patches.shape[axis]) % 2:
            patches = np.pad(patches, [(1, 1) if a == axis else (0, 0) for a in range(2)], mode="edge")
            patches = np.maximum(np.delete(patches, 0, axis), np.delete(patches, -1, axis))
    more_y, more_x = ((size - n) // 2 for size, n in zip((height, width), patches.shape, strict=True))
    return np.pad(patches, ((more_y, more_y), (more_x, more_x)), mode="edge")
