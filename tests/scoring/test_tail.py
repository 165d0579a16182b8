"""The scale of a statistic, against samples of known distributions."""

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

from comemory.errors import ConfigError
from comemory.scoring import (
    LINEAR_LIMIT,
    TailScale,
    fit_tail_scale,
)


class TestTailScale:
    @pytest.mark.parametrize("draw", ["exponential", "normal", "gamma"])
    def test_one_new_normal_frame_in_ten_to_the_s_exceeds_s(self, draw: str) -> None:
        rng = np.random.default_rng(0)
        sample = {
            "exponential": lambda n: rng.exponential(2.0, n),
            "normal": lambda n: rng.normal(5.0, 2.0, n),
            "gamma": lambda n: rng.gamma(3.0, 1.0, n),
        }[draw]
        scale = fit_tail_scale(sample(20_000))
        scaled = scale(sample(400_000))
        for s, tolerance in ((0.2, 0.03), (0.5, 0.03), (1.0, 0.05), (1.5, 0.15), (2.0, 0.15)):
            assert (scaled > s).mean() == pytest.approx(10**-s, rel=tolerance)
        share = (scaled > 3).mean()
        if draw == "exponential":
            assert share == pytest.approx(1e-3, rel=0.25)
        else:
            assert share < 1.3e-3, "a tail lighter than the exponential gives fewer alarms than asked for, not more"

    @settings(deadline=None, max_examples=80)
    @given(
        values=st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=60),
        probes=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20, unique=True),
    )
    def test_strictly_increasing_whatever_it_was_fitted_on(self, values: list[float], probes: list[float]) -> None:
        scale = fit_tail_scale(values)
        unit = max(np.ptp(values), abs(max(values)), 1e-9)
        apart = [a for a, b in itertools.pairwise([*sorted(probes), math.inf]) if b - a > 1e-5 * unit]
        near = [x for x in apart if abs(x - scale.knots[-1]) < 1e4 * unit and float(scale(x)) < 1e3]
        assert np.all(np.diff(scale(np.array(near))) > 0)

    @settings(deadline=None, max_examples=50)
    @given(values=st.lists(st.floats(0, 100), min_size=20, max_size=60), share=st.floats(0, 1))
    def test_continuous(self, values: list[float], share: float) -> None:
        scale = fit_tail_scale(values)
        places = [*scale.knots, scale.knots[-1] + LINEAR_LIMIT * scale.excess / math.log10(math.e)]
        steepest = max(
            math.log10(math.e) / scale.excess,
            max(np.diff(scale.levels) / np.diff(scale.knots)),
        )
        for x in places:
            step = 1e-9 * share / steepest
            assert abs(float(scale(x + step)) - float(scale(x - step))) <= 3e-9 + 1e-6 * abs(x) * 1e-9 * steepest

    def test_the_ninetieth_percentile_is_one_and_an_e_fold_excess_adds_to_it(self) -> None:
        scale = fit_tail_scale(np.linspace(0, 1, 1001))
        assert float(scale(scale.knots[-1])) == pytest.approx(1.0)
        assert float(scale(scale.knots[-1] + scale.excess * math.log(10))) == pytest.approx(2.0)

    def test_beyond_the_linear_limit_it_grows_as_a_logarithm(self) -> None:
        scale = fit_tail_scale(np.linspace(0, 1, 1001))
        far = scale.knots[-1] + scale.excess * math.log(10) * np.array([5.0, 14.0, 104.0, 1004.0])
        assert scale(far) == pytest.approx([6.0, 7.0, 6 + math.log10(100), 6 + math.log10(1000)])

    @given(
        hnp.arrays(np.float64, 40, elements=st.floats(-1e6, 1e6)),
        st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20),
    )
    @settings(max_examples=300, deadline=None)
    def test_one_number_gets_the_level_that_an_array_gives(
        self, normal: NDArray[np.float64], values: list[float]
    ) -> None:
        scale = fit_tail_scale(normal)
        near = [*values, *scale.knots, *(knot + scale.excess * 9 for knot in scale.knots)]
        with np.errstate(all="ignore"):
            together = scale(np.array(near))
            alone = np.array([float(scale(value)) for value in near])
        np.testing.assert_array_equal(alone, together)

    @settings(deadline=None, max_examples=60)
    @given(
        probes=st.lists(
            st.one_of(st.floats(allow_nan=False), st.sampled_from([1e308, -1e308, math.inf, -math.inf])), min_size=1
        ),
        excess=st.sampled_from([5e-324, 1e-12, 1.0, 1e300]),
    )
    def test_no_value_is_too_extreme(self, probes: list[float], excess: float) -> None:
        """Warnings are errors in these tests."""
        scale = TailScale(knots=(-1.0, 0.0, 2.0), levels=(0.0, 0.5, 1.0), excess=excess)
        scaled = scale(np.array(sorted(probes)))
        assert np.isfinite(scaled).all()
        assert scaled.min() >= -1
        assert np.all(np.diff(scaled) >= 0)
        assert math.isnan(float(scale(math.nan)))

    def test_constant_video_has_a_scale(self) -> None:
        scale = fit_tail_scale(np.zeros(50))
        assert float(scale(0.0)) == 0.0
        assert float(scale(1.0)) > LINEAR_LIMIT

    @pytest.mark.parametrize(
        "values", [[], [1.0] * 19, [*([1.0] * 30), math.nan], [*([1.0] * 30), math.inf], [math.nan] * 30]
    )
    def test_too_few_or_not_finite_is_refused_with_both_counts(self, values: list[float]) -> None:
        finite = sum(math.isfinite(value) for value in values)
        with pytest.raises(ConfigError, match=rf"got {len(values)}, {finite} of them finite"):
            fit_tail_scale(values)

    @pytest.mark.parametrize(
        ("knots", "levels"),
        [((), ()), ((1.0,), (0.0, 1.0)), ((1.0, 1.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0)), ((2.0, 1.0), (0.0, 1.0))],
    )
    def test_a_scale_that_does_not_increase_is_refused(
        self, knots: tuple[float, ...], levels: tuple[float, ...]
    ) -> None:
        with pytest.raises(ValidationError):
            TailScale(knots=knots, levels=levels, excess=1.0)


class TestResolution:
    @settings(deadline=None, max_examples=80)
    @given(
        values=st.lists(st.floats(0, 10), min_size=20, max_size=60),
        probes=st.lists(st.floats(0, 100), min_size=1, max_size=20),
        resolution=st.floats(0.01, 10),
    )
    def test_it_only_lowers_levels_and_caps_them(
        self, values: list[float], probes: list[float], resolution: float
    ) -> None:
        scale, coarse = fit_tail_scale(values), fit_tail_scale(values, resolution)
        for probe in probes:
            level = float(coarse(probe))  # a sum takes no level below 0
            assert max(level, 0) <= max(float(scale(probe)), 0) + 1e-9
            assert level <= probe / resolution * math.log10(math.e) + 1e-9, "as in exponential footage with this mean"

    def test_footage_that_is_coarser_keeps_its_scale(self) -> None:
        values = np.random.default_rng(0).exponential(1.0, 20_000)
        assert fit_tail_scale(values, 0.9) == fit_tail_scale(values)

    def test_noise_where_nobody_descends_is_not_rare_and_a_fall_is(self) -> None:
        """A walk without a fall: heads go down by 0.04 heights a second at most."""
        footage = np.abs(np.random.default_rng(0).normal(0, 0.015, 5000))
        fine, coarse = fit_tail_scale(footage), fit_tail_scale(footage, 0.03)
        assert float(fine(0.08)) > 4, "one frame in 10,000"
        assert float(coarse(0.08)) < 1.5
        assert float(coarse(0.8)) > 6
