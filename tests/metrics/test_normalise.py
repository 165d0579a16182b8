"""Offline normalisation and smoothing: order and range are preserved, and numbers equal those of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from comemory.errors import EvaluationError
from comemory.metrics import causal_smooth, offline_max_division, offline_min_max, offline_smooth

VIDEOS = st.lists(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20), min_size=1, max_size=4
)


@given(VIDEOS)
@settings(deadline=None, max_examples=150)
def test_order_and_range_hold_for_any_scores(videos: list[list[float]]) -> None:
    divided, shift = offline_max_division(videos)
    assert shift >= 0
    for normalised in (divided, offline_min_max(videos)):
        for before, after in zip(videos, normalised, strict=True):
            assert after.min() >= 0
            assert after.max() <= 1
            assert after.max() == (1.0 if min(before) < max(before) else 0.0)
            order = np.argsort(before, kind="stable")
            assert np.all(np.diff(after[order]) >= 0)


def test_max_division_by_hand() -> None:
    divided, shift = offline_max_division([[1.0, 4.0], [2.0, 2.0]])
    assert shift == 0.0
    assert [v.tolist() for v in divided] == [[0.25, 1.0], [0.0, 0.0]]


def test_max_division_of_log_scores_does_not_flip_the_order() -> None:
    divided, shift = offline_max_division([[-4.0, -1.0], [-3.0, -2.0]])
    assert shift == 4.0
    assert [v.tolist() for v in divided] == [[0.0, 1.0], [0.5, 1.0]]


def test_inputs_are_not_modified_and_integers_taken() -> None:
    video = np.array([3, 1, 2])
    assert offline_min_max([video])[0].tolist() == [1.0, 0.0, 0.5]
    assert offline_max_division([video])[0][0].tolist() == [1.0, 1 / 3, 2 / 3]
    assert video.tolist() == [3, 1, 2]


def test_a_video_without_frames_stays_so() -> None:
    assert offline_min_max([[]])[0].shape == (0,)
    assert offline_smooth([[]], 2.0)[0].shape == (0,)
    assert offline_max_division([[], [1.0, 2.0]])[0][0].shape == (0,)
    assert offline_max_division([]) == ([], 0.0)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 200])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.7, 20.0])
def test_smoothing_equals_that_of_scipy(n: int, sigma: float) -> None:
    video = np.random.default_rng(n).normal(size=n)
    np.testing.assert_allclose(offline_smooth([video], sigma)[0], gaussian_filter1d(video, sigma), atol=1e-12)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.7])
def test_causal_smoothing_is_the_weighted_mean_of_the_past(sigma: float) -> None:
    video = np.random.default_rng(3).normal(size=30)
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    naive = [np.average(video[max(0, i - reach) : i + 1][::-1], weights=weights[: i + 1]) for i in range(30)]
    np.testing.assert_allclose(causal_smooth([video], sigma)[0], naive, atol=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.integers(1, 19))
@settings(deadline=None, max_examples=60)
def test_causal_smoothing_does_not_look_ahead(video: list[float], k: int) -> None:
    whole, part = causal_smooth([video], 2.0)[0], causal_smooth([video[:k]], 2.0)[0]
    np.testing.assert_allclose(whole[:k], part, rtol=1e-12, atol=1e-12 * max(map(abs, video)))


def test_causal_smoothing_does_not_change_constant_or_empty_videos() -> None:
    np.testing.assert_allclose(causal_smooth([[3.0] * 25], 4.0)[0], 3.0)
    assert causal_smooth([[]], 2.0)[0].shape == (0,)
    assert causal_smooth([[1.0, 5.0]], 0.0)[0].tolist() == [1.0, 5.0]


def test_a_sigma_of_zero_changes_nothing() -> None:
    assert offline_smooth([[1.0, 5.0]], 0.0)[0].tolist() == [1.0, 5.0]


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_bad_sigma_is_refused(sigma: float) -> None:
    for smooth in (offline_smooth, causal_smooth):
        with pytest.raises(EvaluationError, match="sigma of"):
            smooth([[1.0]], sigma)


def test_scores_that_are_not_finite_are_refused_by_name() -> None:
    for call in (
        lambda v, n: offline_max_division(v, n),
        lambda v, n: offline_min_max(v, n),
        lambda v, n: offline_smooth(v, 1.0, n),
        lambda v, n: causal_smooth(v, 1.0, n),
    ):
        with pytest.raises(EvaluationError, match="score nan of video 'gate'"):
            call([[float("nan")]], ["gate"])
        with pytest.raises(EvaluationError, match="expected one of each"):
            call([[1.0]], ["gate", "door"])
