"""The difference of images in place of flow."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from comemory.flow import FlowSettings
from comemory.flow.rgb_difference import GAIN, RgbDifference

PICTURES = arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 255))


def estimate(previous: np.ndarray, current: np.ndarray) -> np.ndarray:
    return RgbDifference(FlowSettings(name="rgb_difference")).estimate(previous, current)


@settings(max_examples=50, deadline=None)
@given(PICTURES, PICTURES)
def test_swapping_the_images_changes_the_sign(previous: np.ndarray, current: np.ndarray) -> None:
    there, back = estimate(previous, current), estimate(current, previous)
    np.testing.assert_array_equal(there[..., 0], -back[..., 0])
    np.testing.assert_array_equal(there[..., 1], back[..., 1])


@settings(max_examples=50, deadline=None)
@given(PICTURES, PICTURES)
def test_it_agrees_with_a_slow_version(previous: np.ndarray, current: np.ndarray) -> None:
    found = estimate(previous, current)
    before, after = previous.astype(float), current.astype(float)
    luma = np.array([0.299, 0.587, 0.114])
    half_level_twice = GAIN / 255 * 1.01
    np.testing.assert_allclose(found[..., 0], (after - before) @ luma * GAIN / 255, atol=half_level_twice)
    np.testing.assert_allclose(found[..., 1], np.abs(after - before).mean(axis=2) * GAIN / 255, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(PICTURES, PICTURES)
def test_it_stays_in_its_range(previous: np.ndarray, current: np.ndarray) -> None:
    found = estimate(previous, current)
    assert np.abs(found).max() <= GAIN
    assert (found[..., 1] >= 0).all()


def test_it_detects_a_change_of_colour_at_equal_brightness() -> None:
    red = np.full((2, 2, 3), (150, 0, 0), np.uint8)
    green_of_equal_luma = np.full((2, 2, 3), (0, 76, 0), np.uint8)
    found = estimate(red, green_of_equal_luma)
    assert np.abs(found[..., 0]).max() < 0.1
    assert found[..., 1].min() > 4


def test_no_change_is_exactly_zero() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    assert not estimate(image, image).any()
