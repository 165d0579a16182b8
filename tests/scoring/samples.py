"""Evidence, videos and calibrations that tests of the scoring share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.scoring import (
    CELL,
    Calibration,
    ScoreParts,
    Scorer,
    ScoringSettings,
    SpatialBaseline,
    fit_calibration,
    normalise,
)
from comemory.types import INPUT_MAPS, Score

Maps = dict[str, NDArray[np.float32]]


def sample_maps(rng: np.random.Generator, height: int = 32, width: int = 48, scale: float = 1.0) -> Maps:
    """Random maps of the shapes that a model gives for an image of height x width."""

    def cells(n_channels: int, pitch: int) -> NDArray[np.float32]:
        size = (1, n_channels, height // pitch, width // pitch)
        return (scale * rng.gamma(2.0, 1.0, size)).astype(np.float32)

    return {
        "flow_error": cells(1, CELL),
        "flow_residual": cells(2, CELL),
        "flow_mean": cells(2, CELL),
        "frame_error": cells(1, CELL),
        **{name: cells(1, CELL) for name in INPUT_MAPS},
        "motion_distance": cells(1, 2 * CELL),
        "appearance_distance": cells(1, 2 * CELL),
    }


def with_novelties(maps: Maps) -> Maps:
    """The maps and those that are normalised by a baseline, which is 1 everywhere."""
    levels = tuple((1.0,) * 100 for _ in range(100))
    baselines = {
        name: SpatialBaseline(levels=tuple(row[: maps[name].shape[3]] for row in levels[: maps[name].shape[2]]))
        for name in ("motion_distance", "appearance_distance", "flow_mean")
    }
    return dict(normalise(maps, baselines).maps)


def video(seed: int, n_frames: int, scale: float = 1.0) -> list[Maps]:
    rng = np.random.default_rng(seed)
    return [sample_maps(rng, scale=scale) for _ in range(n_frames)]


NOVELTY = ScoringSettings(appearance=("appearance_novelty:16",))


def calibration(**changes: Any) -> Calibration:
    return fit_calibration([video(1, 60), video(2, 40)], ScoringSettings(**changes), 25.0)


def update(scorer: Scorer, maps: Maps) -> ScoreParts:
    """Score a frame by its raw maps."""
    return scorer.update(normalise(maps, scorer.calibration.spatial_baselines))


def one_channel(values: Sequence[float] | NDArray[np.float64]) -> list[Maps]:
    """Frames that differ in their speed only."""
    maps = sample_maps(np.random.default_rng(0))
    return [{**maps, "flow_mean": np.full_like(maps["flow_mean"], value)} for value in values]


def scores(values: Sequence[float] | NDArray[np.float64], rate_hz: float = 25.0) -> list[Score]:
    return [Score(i, i / rate_hz, float(value), 0.0, 0.0, (i, 0, i + 1, 1)) for i, value in enumerate(values)]


SPEC = ScoringSettings(motion=("flow_speed:12",), appearance=("frame_error:16",))
CALIBRATION = calibration()
CALIBRATIONS = {
    (smoothing, score): calibration(
        motion=("flow_speed:12",), appearance=("frame_error:16",), smoothing_s=smoothing, score=score
    )
    for smoothing in (0.0, 0.5, 0.9)
    for score in ("comemory", "thesis")
}
FRAMES = video(7, 12, scale=2.0)
