"""The carried flow, its swing, and what is left of it when the swing is taken off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.clips.flow_filter import FlowAverage, decay_average, shrink, update_average


def fields(seed: int, reach: float) -> tuple[FlowAverage, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    mean, flow = rng.normal(0, reach, (2, 7, 9, 2)).astype(np.float32)
    return FlowAverage(mean, np.abs(rng.normal(0, reach, (7, 9))).astype(np.float32)), flow


def slow_moved(mean: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float64]:
    """The oracle: pixel by pixel in float64, edges held."""
    height, width = flow.shape[:2]
    moved = np.empty(flow.shape)
    for y, x in np.ndindex(height, width):
        from_x = min(max(x - float(flow[y, x, 0]), 0), width - 1)
        from_y = min(max(y - float(flow[y, x, 1]), 0), height - 1)
        left, top = int(from_x), int(from_y)
        right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
        a, b = from_x - left, from_y - top
        above = (1 - a) * mean[top, left].astype(float) + a * mean[top, right].astype(float)
        below = (1 - a) * mean[bottom, left].astype(float) + a * mean[bottom, right].astype(float)
        moved[y, x] = (1 - b) * above + b * below
    return moved


def slow_carry(carried: FlowAverage, flow: NDArray[np.float32], share: float) -> tuple[NDArray[np.float64], ...]:
    moved = slow_moved(carried.mean, flow)
    strayed = np.sqrt(((flow - moved) ** 2).sum(axis=-1))
    return share * moved + (1 - share) * flow, share * carried.deviation + (1 - share) * strayed


class TestCarry:
    @settings(deadline=None, max_examples=40)
    @given(
        seed=st.integers(0, 2**31), share=st.sampled_from([0.0, 0.3, 0.7, 0.95]), reach=st.sampled_from([0.3, 2, 30])
    )
    def test_as_the_oracle_carries(self, seed: int, share: float, reach: float) -> None:
        before, flow = fields(seed, reach)
        steepest = max(float(np.abs(np.diff(before.mean, axis=axis)).max()) for axis in (0, 1))
        after, (mean, swing) = update_average(before, flow, share), slow_carry(before, flow, share)
        # OpenCV's remap knows 1/32 of a pixel.
        assert after.mean == pytest.approx(mean, abs=steepest / 32 + 1e-5)
        assert after.deviation == pytest.approx(swing, abs=steepest / 16 + 1e-4)
        assert after.mean.dtype == after.deviation.dtype == np.float32

    def test_on_whole_pixels_it_is_exact(self) -> None:
        before, _ = fields(0, 1)
        flow = np.random.default_rng(0).integers(-3, 4, (7, 9, 2)).astype(np.float32)
        after, (mean, swing) = update_average(before, flow, 0.5), slow_carry(before, flow, 0.5)
        assert after.mean == pytest.approx(mean, abs=1e-6)
        assert after.deviation == pytest.approx(swing, abs=1e-6)

    def test_the_first_flow_is_taken_as_it_is(self) -> None:
        flow = np.ones((2, 3, 2), np.float32)
        after = update_average(None, flow, 0.7)
        assert after.mean is flow
        assert not after.deviation.any()

    def test_a_first_flow_is_not_taken_for_steady(self) -> None:
        flow = np.full((2, 3, 2), (3.0, 4.0), np.float32)
        after = update_average(None, flow, 0.7, 0.3)
        assert after.mean is flow
        assert after.deviation == pytest.approx(1.5)
        assert update_average(after, flow, 0.7, 0.3).deviation == pytest.approx(0.7 * 1.5)

    @settings(deadline=None, max_examples=40)
    @given(seed=st.integers(0, 2**31), reach=st.sampled_from([0.3, 2, 30]))
    def test_what_comes_from_outside_begins_anew_and_the_rest_is_as_it_was(self, seed: int, reach: float) -> None:
        before, flow = fields(seed, reach)
        held, anew = update_average(before, flow, 0.7), update_average(before, flow, 0.7, 0.3, anew=True)
        for y, x in np.ndindex(flow.shape[:2]):
            from_x, from_y = np.float32(x) - flow[y, x, 0], np.float32(y) - flow[y, x, 1]
            if 0 <= from_x <= flow.shape[1] - 1 and 0 <= from_y <= flow.shape[0] - 1:
                assert np.array_equal(anew.mean[y, x], held.mean[y, x])
                assert anew.swing[y, x] == held.deviation[y, x]
            else:
                assert anew.mean[y, x] == pytest.approx(flow[y, x], rel=1e-5)
                assert anew.swing[y, x] == pytest.approx(0.3 * np.hypot(*flow[y, x]), rel=1e-5)

    def test_what_comes_in_is_as_fast_as_it_is_from_the_first(self) -> None:
        still = FlowAverage(np.zeros((4, 9, 2), np.float32), np.zeros((4, 9), np.float32))
        flow = np.zeros((4, 9, 2), np.float32)
        flow[1:3, :2, 0] = 2
        held, anew = update_average(still, flow, 0.7), update_average(still, flow, 0.7, 0.3, anew=True)
        assert shrink(held, 0.7).max() < 0.2
        assert shrink(anew, 0.7)[1:3, :2, 0] == pytest.approx(2 * (1 - 0.7 * 0.3))
        assert not anew.mean[:, 2:].any()

    def test_the_average_goes_where_the_thing_goes(self) -> None:
        mean, flow = np.zeros((2, 1, 6, 2), np.float32)
        mean[0, 1] = (4, 0)
        flow[0, 2:4] = (1, 0)
        after = update_average(FlowAverage(mean, np.zeros((1, 6), np.float32)), flow, 0.5)
        assert after.mean[0, 2, 0] == pytest.approx(0.5 * 4 + 0.5 * 1)
        assert after.deviation[0] == pytest.approx([0, 2, 1.5, 0.5, 0, 0])

    def test_what_was_given_is_left_alone(self) -> None:
        before, flow = fields(1, 2)
        kept = [field.copy() for field in (*before, flow)]
        update_average(before, flow, 0.7)
        shrink(before, 0.7)
        decay_average(before, 0.7)
        assert all(np.array_equal(one, other) for one, other in zip((*before, flow), kept, strict=True))


class TestSteady:
    def test_what_goes_on_keeps_its_speed_and_what_swings_loses_it(self) -> None:
        rolling = np.full((5, 5, 2), 1.5, np.float32)
        forth, back = np.full((5, 5, 2), 3.0, np.float32), np.zeros((5, 5, 2), np.float32)
        roll = swing = None
        for i in range(40):
            roll, swing = update_average(roll, rolling, 0.7), update_average(swing, back if i % 2 else forth, 0.7)
        assert roll is not None
        assert swing is not None
        assert shrink(roll, 0.7) == pytest.approx(rolling)
        assert swing.mean.mean() == pytest.approx(1.5, rel=0.2)
        assert np.abs(shrink(swing, 0.7)).max() < 0.5 * np.abs(swing.mean).max()

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 2**31), weight=st.floats(0, 5))
    def test_each_vector_keeps_its_way_and_grows_no_longer(self, seed: int, weight: float) -> None:
        carried, _ = fields(seed, 2)
        length = np.hypot(*np.moveaxis(carried.mean.astype(float), -1, 0))
        left = np.maximum(length - weight * carried.deviation, 0)
        assert shrink(carried, weight) == pytest.approx(carried.mean * (left / length)[..., None], abs=1e-4)

    def test_where_nothing_moves_nothing_is_divided(self) -> None:
        still = FlowAverage(np.zeros((3, 4, 2), np.float32), np.zeros((3, 4), np.float32))
        assert not shrink(still, 0.7).any()

    def test_both_die_away_alike_where_nothing_moves(self) -> None:
        carried, _ = fields(0, 2)
        assert shrink(decay_average(carried, 0.7), 0.7) == pytest.approx(0.7 * shrink(carried, 0.7), abs=1e-6)
