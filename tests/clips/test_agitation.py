"""Agitation: motion in place counts, motion that progresses does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.clips.agitation import (
    MIN_NOISE,
    NOISE,
    SURE,
    TIME_CONSTANT_S,
    Agitation,
    change_confidence,
    in_place_motion,
)
from comemory.clips.flow_filter import FlowAverage, update_average
from comemory.types import CELL, INPUT_MAPS, named_input_maps

SIZE = (16, 24)
BLINKING = np.zeros((2, 1, *SIZE), np.uint8)
BLINKING[1, :, :, :8] = 255
"""Two images, of which one third changes by more than noise."""
CHANGED = np.s_[..., :2]
"""The cells of that third."""


def tracked(averages: Sequence[FlowAverage | None], rate_hz: float) -> Agitation:
    """The tracker after these averages, each with an image that blinks."""
    level = Agitation(*SIZE, rate_hz)
    for i, one in enumerate(averages):
        level.update(one, BLINKING[i % 2])
    return level


def after(flows: list[NDArray[np.float32]], rate_hz: float) -> NDArray[np.float32]:
    """The level where it blinks, after these flows."""
    average: FlowAverage | None = None
    averages = []
    for flow in flows:
        average = update_average(average, flow, 0.7, 0.3)
        averages.append(average)
    return tracked(averages, rate_hz).level[CHANGED]


def waving(deviation: float = 1.0) -> FlowAverage:
    return FlowAverage(np.zeros((*SIZE, 2), np.float32), np.full(SIZE, deviation, np.float32))


def uniform(dx: float) -> NDArray[np.float32]:
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[..., 0] = dx
    return flow


def test_waving_is_agitation_and_walking_is_not() -> None:
    back_and_forth = [uniform(2.0 if i % 2 else -2.0) for i in range(60)]
    walking = [uniform(2.0 + 0.6 * (-1) ** i) for i in range(60)]
    assert after(back_and_forth, 10).min() > 0.5
    assert not after(walking, 10)[..., 1:].any()
    assert not after([uniform(0.0)] * 60, 10).any()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), reach=st.floats(0.01, 20))
def test_a_cell_agrees_with_a_naive_loop(seed: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    mean, deviation = rng.normal(0, reach, (*SIZE, 2)).astype(np.float32), rng.gamma(2, reach, SIZE).astype(np.float32)
    found = in_place_motion(FlowAverage(mean, deviation))
    for y, x in np.ndindex(found.shape):
        beyond = [
            max(float(deviation[v, u]) - math.hypot(*mean[v, u].tolist()), 0.0)
            for v in range(y * CELL, (y + 1) * CELL)
            for u in range(x * CELL, (x + 1) * CELL)
        ]
        assert found[y, x] == pytest.approx(math.sqrt(sum(beyond) / CELL**2), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("rate_hz", [5.0, 10.0, 25.0])
def test_the_level_does_not_depend_on_the_frame_rate(rate_hz: float) -> None:
    tracker = tracked([None, *[waving()] * int(4 * rate_hz)], rate_hz)
    assert tracker.level[CHANGED] == pytest.approx(1 - math.exp(-4 / TIME_CONSTANT_S), rel=1e-4)


@pytest.mark.parametrize("rate_hz", [5.0, 30.0, 100.0])
def test_faint_motion_accumulates_at_any_frame_rate(rate_hz: float) -> None:
    assert tracked([waving(1e-4)] * int(20 * rate_hz), rate_hz).level[CHANGED] == pytest.approx(0.01, rel=0.01)


def test_the_level_starts_at_zero_decays_and_is_reset() -> None:
    level = tracked([], 1.0)
    assert not level.level.any()
    assert (level.confidence == 1).all()
    level.update(waving(), BLINKING[0])
    before = level.level.copy()
    assert before.any()
    level.update(None, BLINKING[0])
    assert level.level == pytest.approx(before * math.exp(-1 / TIME_CONSTANT_S), rel=1e-5)
    for _ in range(40):
        level.update(None, BLINKING[0])
    assert not level.level.any()
    level.update(waving(), BLINKING[1])
    assert level.level[CHANGED].any()
    level.reset()
    assert not level.level.any()


def test_input_maps_have_the_order_of_their_names() -> None:
    tracker = tracked([waving()] * 5, 10.0)
    assert tracker.input_maps().shape == (len(INPUT_MAPS), *tracker.confidence.shape)
    maps = named_input_maps(tracker.input_maps().astype(np.float32))
    assert maps["agitation"][0, 0] == pytest.approx(tracker.level, abs=1e-3)
    assert tracker.level.any()
    assert maps["change_confidence"][0, 0] == pytest.approx(tracker.confidence)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), channels=st.sampled_from([1, 3]), sigma=st.floats(0, 30))
def test_the_noise_is_the_median_change(seed: int, channels: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    before, after = (rng.normal(120, sigma, (channels, *SIZE)).clip(0, 255).astype(np.uint8) for _ in range(2))
    change = np.abs(before.astype(int) - after).sum(axis=0)
    cells = [
        [int(change[y : y + CELL, x : x + CELL].sum()) for x in range(0, SIZE[1], CELL)]
        for y in range(0, SIZE[0], CELL)
    ]
    noise = max(float(np.median(cells)), MIN_NOISE * CELL**2 * channels)
    expected = [[min(max((cell / noise - NOISE) / (SURE - NOISE), 0.0), 1.0) for cell in row] for row in cells]
    assert change_confidence(before, after) == pytest.approx(np.array(expected), abs=1e-5)


def test_noise_is_no_agitation_but_waving_in_noise_is() -> None:
    rng = np.random.default_rng(0)
    waving_average = FlowAverage(np.zeros((64, 64, 2), np.float32), np.ones((64, 64), np.float32))
    noisy, level = np.full((1, 64, 64), 90.0), Agitation(64, 64, 10.0)
    for i in range(60):
        image = noisy + rng.normal(0, 8, noisy.shape)
        image[:, 16:32, 16:32] += 100 * (i % 2)
        level.update(waving_average, image.clip(0, 255).astype(np.uint8))
    waved = level.level[4:8, 4:8]
    assert waved.min() > 0.6
    level.level[4:8, 4:8] = 0
    assert level.level.max() < 0.1
