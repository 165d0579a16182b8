"""The score of each place."""

from __future__ import annotations

import numpy as np
import pytest
from scoring.samples import (
    FRAMES,
    calibration,
)

from comemory.scoring import (
    CELL,
    SpatialBaseline,
    normalise,
    peak,
    score_map,
)


class TestScoreMap:
    """Where the map says something is, it is."""

    @pytest.mark.parametrize("score", ["comemory", "thesis"])
    @pytest.mark.parametrize("axis", [2, 3])
    def test_a_mirrored_image_has_the_mirrored_map(self, score: str, axis: int) -> None:
        fitted = calibration(score=score)
        there = {
            "flow_mean": SpatialBaseline(levels=fitted.spatial_baselines["flow_mean"].levels[:: -1 if axis == 2 else 1])
        }
        for maps in FRAMES[:5]:
            height, width = (CELL * n for n in maps["frame_error"].shape[2:])
            mirrored = {name: np.flip(cells, axis) for name, cells in maps.items()}
            expected = np.flip(score_map(normalise(maps, fitted.spatial_baselines), fitted, height, width), axis - 2)
            found = score_map(normalise(mirrored, there), fitted, height, width)
            assert np.array_equal(found, expected)

    @pytest.mark.parametrize("side", [8, 12, 16, 32])
    def test_the_highest_place_is_the_middle_of_the_largest_patch(self, side: int) -> None:
        channel = f"flow_speed:{side}"
        fitted = calibration(motion=(channel,), appearance=())
        for maps in FRAMES[:5]:
            height, width = (CELL * n for n in maps["frame_error"].shape[2:])
            found = score_map(normalise(maps, fitted.spatial_baselines), fitted, height, width)
            rows, columns = np.nonzero(found == found.max())
            left, top, right, bottom = peak(maps, channel).box
            middle = ((left + right) / 2, (top + bottom) / 2)
            inside = [
                max(abs(CELL * (x + 0.5) - middle[0]), abs(CELL * (y + 0.5) - middle[1])) <= CELL / 2
                for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
            ]
            assert any(inside)
