"""The moving average of the flow, its deviation, and the flow that is shrunk by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.clips.flow_filter import FlowAverage, decay_average, shrink_vectors, update_average


def random_fields(seed: int, scale: float) -> tuple[FlowAverage, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    mean, flow = rng.normal(0, scale, (2, 7, 9, 2)).astype(np.float32)
    return FlowAverage(mean, np.abs(rng.normal(0, scale, (7, 9))).astype(np.float32)), flow


def slow_warp(mean: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float64]:
    """The oracle of the warp: pixel by pixel in float64, clamped at the border."""
    height, width = flow.shape[:2]
    warped = np.empty(flow.shape)
    for y, x in np.ndindex(height, width):
        from_x = min(max(x - float(flow[y, x, 0]), 0), width - 1)
        from_y = min(max(y - float(flow[y, x, 1]), 0), height - 1)
        left, top = int(from_x), int(from_y)
        right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
        a, b = from_x - left, from_y - top
        above = (1 - a) * mean[top, left].astype(float) + a * mean[top, right].astype(float)
        below = (1 - a) * mean[bottom, left].astype(float) + a * mean[bottom, right].astype(float)
        warped[y, x] = (1 - b) * above + b * below
    return warped


def is_inside(y: int, x: int, flow: NDArray[np.float32]) -> bool:
    """Whether what is at (y, x) was inside the image before."""
    from_x, from_y = np.float32(x) - flow[y, x, 0], np.float32(y) - flow[y, x, 1]
    return bool(0 <= from_x <= flow.shape[1] - 1 and 0 <= from_y <= flow.shape[0] - 1)


def slow_update(
    average: FlowAverage, flow: NDArray[np.float32], decay: float, initial_deviation: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The oracle of `update_average`."""
    warped = slow_warp(average.mean, flow)
    mean = decay * warped + (1 - decay) * flow
    deviation = decay * average.deviation + (1 - decay) * np.sqrt(((flow - warped) ** 2).sum(axis=-1))
    for y, x in np.ndindex(flow.shape[:2]):
        if not is_inside(y, x, flow):
            mean[y, x], deviation[y, x] = flow[y, x], initial_deviation * np.hypot(*flow[y, x].astype(float))
    return mean, deviation


class TestUpdateAverage:
    @settings(deadline=None, max_examples=40)
    @given(
        seed=st.integers(0, 2**31), decay=st.sampled_from([0.0, 0.3, 0.7, 0.95]), scale=st.sampled_from([0.3, 2, 30])
    )
    def test_it_agrees_with_the_oracle(self, seed: int, decay: float, scale: float) -> None:
        before, flow = random_fields(seed, scale)
        steepest = max(float(np.abs(np.diff(before.mean, axis=axis)).max()) for axis in (0, 1))
        after, (mean, deviation) = update_average(before, flow, decay, 0.3), slow_update(before, flow, decay, 0.3)
        # OpenCV's remap works in steps of 1/32 pixel.
        assert after.mean == pytest.approx(mean, abs=steepest / 32 + 1e-5)
        assert after.deviation == pytest.approx(deviation, abs=steepest / 16 + 1e-4)
        assert after.mean.dtype == after.deviation.dtype == np.float32

    def test_it_is_exact_for_whole_pixels(self) -> None:
        before, _ = random_fields(0, 1)
        flow = np.random.default_rng(0).integers(-3, 4, (7, 9, 2)).astype(np.float32)
        after, (mean, deviation) = update_average(before, flow, 0.5), slow_update(before, flow, 0.5)
        assert after.mean == pytest.approx(mean, abs=1e-6)
        assert after.deviation == pytest.approx(deviation, abs=1e-6)

    def test_the_first_average_is_the_first_flow(self) -> None:
        flow = np.ones((2, 3, 2), np.float32)
        after = update_average(None, flow, 0.7)
        assert after.mean is flow
        assert not after.deviation.any()

    def test_the_first_flow_has_the_initial_deviation(self) -> None:
        flow = np.full((2, 3, 2), (3.0, 4.0), np.float32)
        after = update_average(None, flow, 0.7, 0.3)
        assert after.mean is flow
        assert after.deviation == pytest.approx(1.5)

    def test_the_deviation_of_steady_motion_decays(self) -> None:
        flow = np.full((2, 9, 2), (1.0, 0.0), np.float32)
        after = update_average(update_average(None, flow, 0.7, 0.5), flow, 0.7, 0.5)
        assert after.deviation[:, 1:] == pytest.approx(0.7 * 0.5)
        assert after.deviation[:, 0] == pytest.approx(0.5)

    @settings(deadline=None, max_examples=40)
    @given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.3, 2, 30]))
    def test_what_enters_the_image_has_no_history(self, seed: int, scale: float) -> None:
        before, flow = random_fields(seed, scale)
        after = update_average(before, flow, 0.7, 0.3)
        for y, x in np.ndindex(flow.shape[:2]):
            if not is_inside(y, x, flow):
                assert after.mean[y, x] == pytest.approx(flow[y, x], rel=1e-5)
                assert after.deviation[y, x] == pytest.approx(0.3 * np.hypot(*flow[y, x]), rel=1e-5)

    def test_what_enters_the_image_has_its_full_speed_at_once(self) -> None:
        static = FlowAverage(np.zeros((4, 9, 2), np.float32), np.zeros((4, 9), np.float32))
        flow = np.zeros((4, 9, 2), np.float32)
        flow[1:3, :2, 0] = 2
        after = update_average(static, flow, 0.7, 0.3)
        assert shrink_vectors(after, 0.7)[1:3, :2, 0] == pytest.approx(2 * (1 - 0.7 * 0.3))
        assert not after.mean[:, 2:].any()

    def test_the_average_moves_with_the_object(self) -> None:
        mean, flow = np.zeros((2, 1, 6, 2), np.float32)
        mean[0, 1] = (4, 0)
        flow[0, 2:4] = (1, 0)
        after = update_average(FlowAverage(mean, np.zeros((1, 6), np.float32)), flow, 0.5)
        assert after.mean[0, 2, 0] == pytest.approx(0.5 * 4 + 0.5 * 1)
        assert after.deviation[0] == pytest.approx([0, 2, 1.5, 0.5, 0, 0])

    def test_the_arguments_are_unchanged(self) -> None:
        before, flow = random_fields(1, 2)
        copies = [field.copy() for field in (*before, flow)]
        update_average(before, flow, 0.7)
        shrink_vectors(before, 0.7)
        decay_average(before, 0.7)
        assert all(np.array_equal(one, other) for one, other in zip((*before, flow), copies, strict=True))


class TestShrink:
    def test_steady_motion_keeps_its_speed_and_oscillating_motion_loses_it(self) -> None:
        rolling = np.full((5, 5, 2), 1.5, np.float32)
        forth, back = np.full((5, 5, 2), 3.0, np.float32), np.zeros((5, 5, 2), np.float32)
        roll = oscillation = None
        for i in range(40):
            roll, oscillation = (
                update_average(roll, rolling, 0.7),
                update_average(oscillation, back if i % 2 else forth, 0.7),
            )
        assert roll is not None
        assert oscillation is not None
        middle = np.s_[3:, 3:]  # away from the border, where motion enters
        assert shrink_vectors(roll, 0.7) == pytest.approx(rolling)
        assert oscillation.mean[middle].mean() == pytest.approx(1.5, rel=0.2)
        assert np.abs(shrink_vectors(oscillation, 0.7)[middle]).max() < 0.5 * np.abs(oscillation.mean[middle]).max()

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 2**31), weight=st.floats(0, 5))
    def test_vectors_keep_their_direction_and_never_grow(self, seed: int, weight: float) -> None:
        average, _ = random_fields(seed, 2)
        length = np.hypot(*np.moveaxis(average.mean.astype(float), -1, 0))
        left = np.maximum(length - weight * average.deviation, 0)
        assert shrink_vectors(average, weight) == pytest.approx(average.mean * (left / length)[..., None], abs=1e-4)

    def test_without_motion_nothing_is_divided_by_zero(self) -> None:
        static = FlowAverage(np.zeros((3, 4, 2), np.float32), np.zeros((3, 4), np.float32))
        assert not shrink_vectors(static, 0.7).any()


def test_mean_and_deviation_decay_alike() -> None:
    average, _ = random_fields(0, 2)
    assert shrink_vectors(decay_average(average, 0.7), 0.7) == pytest.approx(
        0.7 * shrink_vectors(average, 0.7), abs=1e-6
    )
