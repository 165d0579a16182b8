"""The score of each place."""

from __future__ import annotations

import numpy as np
import pytest
from scoring.samples import (
    FRAMES,
    calibration,
    update,
    video,
)

from comemory.scoring import (
    CELL,
    Scorer,
    ScoringSettings,
    SpatialBaseline,
    find_peak,
    normalise,
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
            left, top, right, bottom = find_peak(maps, channel).box
            middle = ((left + right) / 2, (top + bottom) / 2)
            inside = [
                max(abs(CELL * (x + 0.5) - middle[0]), abs(CELL * (y + 0.5) - middle[1])) <= CELL / 2
                for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
            ]
            assert any(inside)


LEARNED = [
    {"motion": ("frame_error:8",), "appearance": ()},
    {"motion": (), "appearance": ("frame_error:8",)},
    {"motion": (), "appearance": ("frame_error:8",), "appearance_penalty": 0.0},
]
"""The same single channel, with the penalties 1, 3 and 0."""


class TestPenaltyOfAllChannels:
    """Nothing is left for it to be subtracted from."""

    @pytest.mark.parametrize("scale", [0.5, 2.0, 40.0])
    def test_it_changes_neither_score_nor_map(self, scale: float) -> None:
        frames = video(7, 6, scale=scale)
        fitted = [calibration(**settings) for settings in LEARNED]
        found = []
        for one in fitted:
            scorer = Scorer(one)
            maps = [score_map(normalise(frame, one.spatial_baselines), one, 32, 48) for frame in frames]
            found.append(([update(scorer, frame).value for frame in frames], maps, one.threshold("1/h")))
        for values, maps, threshold in found[1:]:
            assert values == pytest.approx(found[0][0])
            assert np.array(maps) == pytest.approx(np.array(found[0][1]), abs=1e-5)
            assert threshold == pytest.approx(found[0][2])

    def test_the_largest_place_of_the_map_has_the_score_of_the_frame(self) -> None:
        for settings in LEARNED:
            fitted = calibration(**settings)
            scorer = Scorer(fitted)
            for frame in video(3, 6, scale=2.0):
                found = score_map(normalise(frame, fitted.spatial_baselines), fitted, 32, 48)
                assert found.max() == pytest.approx(update(scorer, frame).value, rel=1e-5)

    def test_it_is_none_beside_a_channel_that_no_network_learned(self) -> None:
        assert ScoringSettings().common_penalty == 0
        assert ScoringSettings(motion=("flow_residual:8",)).common_penalty == 1
