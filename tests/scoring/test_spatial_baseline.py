"""Evidence in units of the normal level at each place."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import ValidationError
from scoring.samples import (
    NOVELTY,
    sample_maps,
    update,
)

from comemory.scoring import (
    Scorer,
    ScoringSettings,
    SpatialBaseline,
    find_peak,
    fit_calibration,
    normalise,
)
from comemory.scoring.spatial_baseline import fit_row_baseline


class TestSpatialBaseline:
    def test_each_place_is_compared_with_its_own_level(self) -> None:
        rng = np.random.default_rng(0)
        normal = [sample_maps(rng) for _ in range(200)]
        for maps in normal:
            maps["appearance_distance"][..., :3] *= 10
        fitted = fit_calibration([normal], NOVELTY, 25.0)
        assert np.array(fitted.spatial_baselines["appearance_distance"].levels)[:, :3].min() > (
            np.array(fitted.spatial_baselines["appearance_distance"].levels)[:, 3:].max()
        )
        scorer = Scorer(fitted)
        calm = {name: np.full_like(cells, 0.1) for name, cells in normal[0].items()}
        there, here = ({name: cells.copy() for name, cells in calm.items()} for _ in range(2))
        there["appearance_distance"][0, 0, 1, 1] = here["appearance_distance"][0, 0, 1, 5] = 20
        assert update(scorer, here).appearance > update(scorer, there).appearance

    def test_slow_pixels_are_fast_in_a_distant_row(self) -> None:
        rng = np.random.default_rng(0)
        normal = [sample_maps(rng) for _ in range(200)]
        for maps in normal:
            maps["flow_mean"][:, :, :4] *= 0.3
        fitted = fit_calibration([normal], ScoringSettings(motion=("relative_speed:8",), appearance=()), 25.0)
        calm = {name: np.full_like(cells, 0.1) for name, cells in normal[0].items()}
        far, near = ({name: cells.copy() for name, cells in calm.items()} for _ in range(2))
        far["flow_mean"][..., 1:3, 4:6] = near["flow_mean"][..., 5:7, 4:6] = 6
        scorer = Scorer(fitted)
        assert update(scorer, far).motion > update(scorer, near).motion
        assert update(scorer, far).box == (16, 4, 24, 12)

    @settings(deadline=None, max_examples=60)
    @given(
        flows=hnp.arrays(
            np.float32,
            st.tuples(st.integers(1, 5), st.just(2), st.integers(1, 6), st.integers(1, 4)),
            elements=st.floats(-1e3, 1e3, width=32),
        )
    )
    def test_the_level_of_a_row_equals_the_naive_loop(self, flows: NDArray[np.float32]) -> None:
        reached: list[float] = []
        for row in range(flows.shape[2]):
            fastest = [max(math.hypot(*flow[:, row, x].tolist()) for x in range(flows.shape[3])) for flow in flows]
            reached.append(max(float(np.quantile(fastest, 0.99)), *reached[-1:], 0.0))
        expected = [max(speed, 0.25 * reached[-1], 1e-9) for speed in reached]
        levels = [level for (level,) in fit_row_baseline(flows).levels]
        assert levels == pytest.approx(expected)
        assert all(level <= below for level, below in itertools.pairwise(levels))

    def test_a_camera_that_looks_straight_down_has_one_level(self) -> None:
        flows = [np.full((2, 5, 7), speed, np.float32) for speed in np.linspace(1, 2, 50)]
        maps = {"flow_mean": flows[-1][None]}
        baselines = {"flow_mean": fit_row_baseline(flows)}
        near = find_peak(normalise(maps, baselines).maps, "relative_speed:8")
        assert near.value == pytest.approx(1.0, rel=0.01)
        assert len(set(baselines["flow_mean"].levels)) == 1

    def test_the_relative_speed_is_weighted_by_the_change_confidence(self) -> None:
        flows = [np.full((2, 6, 8), speed, np.float32) for speed in np.linspace(1, 2, 50)]
        baselines = {"flow_mean": fit_row_baseline(flows)}
        sure = np.zeros((1, 1, 6, 8), np.float32)
        sure[..., 2:4, 2:4], sure[..., 4:6, 6:8] = 0.5, 0.25
        maps = {"flow_mean": flows[-1][None], "change_confidence": sure}
        whole = find_peak(normalise({"flow_mean": flows[-1][None]}, baselines).maps, "relative_speed:8").value
        found = find_peak(normalise(maps, baselines).maps, "relative_speed:8")
        assert found.value == pytest.approx(whole / 2)
        assert found.box == (8, 8, 16, 16)
        assert find_peak(maps, "flow_speed:8").value == pytest.approx(math.hypot(2, 2))

    @pytest.mark.parametrize("levels", [(), ((),), ((1.0,), (1.0, 2.0)), ((0.0,),), ((math.inf,),)])
    def test_levels_are_rows_of_positive_numbers(self, levels: tuple[tuple[float, ...], ...]) -> None:
        with pytest.raises(ValidationError):
            SpatialBaseline(levels=levels)
