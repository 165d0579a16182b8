"""The pixel-level criterion, against sweeping every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics import auc, pixel_auc, pixel_score
from comemory.metrics.pixel import minimum_count


def swept(maps: NDArray[np.float64], masks: NDArray[np.bool_], coverage: float) -> float:
    """The definition: rates at every threshold, then the trapezoids under them."""
    abnormal = masks.any(axis=(1, 2))
    x, y = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        called = maps >= threshold
        covered = [(c & m).sum() / m.sum() >= coverage for c, m in zip(called[abnormal], masks[abnormal], strict=True)]
        y.append(float(np.mean(covered)))
        x.append(float(called[~abnormal].any(axis=(1, 2)).mean()))
    return float(np.trapezoid(y, x))


@pytest.mark.parametrize("coverage", [0.01, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("decimals", [0, 3])
def test_equals_the_sweep(coverage: float, decimals: int) -> None:
    generator = np.random.default_rng(5)
    masks = generator.random((24, 5, 6)) < 0.3
    masks[::3] = False
    maps = np.round(generator.normal(size=masks.shape) + masks, decimals)
    assert pixel_auc(zip(maps, masks, strict=True), coverage) == pytest.approx(swept(maps, masks, coverage), abs=1e-9)


def test_forty_percent_by_hand() -> None:
    score_map = np.array([[9.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    mask = np.array([[False, True, True, True, True, True]])
    assert pixel_score(score_map, mask) == 4.0
    assert pixel_score(score_map, mask, coverage=0.41) == 3.0
    assert pixel_score(score_map, mask, coverage=1.0) == 1.0
    assert pixel_score(score_map, np.zeros_like(mask)) == 9.0


def test_a_detection_at_the_wrong_place_does_not_count() -> None:
    normal = np.zeros((2, 2)), np.zeros((2, 2), bool)
    beside = np.array([[9.0, -1.0], [0.0, 0.0]]), np.array([[False, True], [False, False]])
    assert pixel_auc([normal, beside]) == 0.0
    assert auc([0.0, 9.0], [False, True]) == 1.0


@given(st.integers(1, 400), st.floats(0.001, 1.0))
@settings(deadline=None, max_examples=200)
def test_minimum_count_is_the_smallest(total: int, fraction: float) -> None:
    count = minimum_count(fraction, total)
    assert 1 <= count <= total
    assert count / total >= fraction
    assert count == 1 or (count - 1) / total < fraction


@pytest.mark.parametrize("percent", range(1, 101))
def test_minimum_count_is_safe_from_rounding(percent: int) -> None:
    assert [minimum_count(percent / 100, total) for total in (100, 200, 700)] == [percent, 2 * percent, 7 * percent]


def test_one_class_is_none() -> None:
    normal = np.zeros((1, 1)), np.zeros((1, 1), bool)
    abnormal = np.zeros((1, 1)), np.ones((1, 1), bool)
    assert pixel_auc([normal]) is None
    assert pixel_auc([abnormal]) is None
    assert pixel_auc([]) is None


def test_invalid_input_is_refused() -> None:
    with pytest.raises(EvaluationError, match="resize the map"):
        pixel_score(np.zeros((2, 2)), np.zeros((4, 4), bool))
    with pytest.raises(EvaluationError, match="expected the same"):
        pixel_score(np.zeros((0, 2)), np.zeros((0, 2), bool))
    with pytest.raises(EvaluationError, match="not finite"):
        pixel_score(np.array([[np.nan]]), np.array([[True]]))
    for coverage in (0.0, 1.5, float("nan")):
        with pytest.raises(EvaluationError, match="coverage"):
            pixel_score(np.zeros((1, 1)), np.zeros((1, 1), bool), coverage)
