"""Frame-level metrics against scikit-learn, against pair counting, and against what must hold for any scores."""

from __future__ import annotations

import warnings
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from comemory.errors import EvaluationError
from comemory.metrics import (
    MacroAuc,
    auc,
    average_precision,
    concatenate_videos,
    equal_error_rate,
    false_positive_rate_at,
    macro_auc,
    micro_auc,
    roc_curve,
)

FIGURES = [auc, average_precision, equal_error_rate, false_positive_rate_at, roc_curve]
NUMBERS = [auc, average_precision, equal_error_rate, false_positive_rate_at]


def pair_count(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """The definition, one pair after the other."""
    wins = [(a > n) + 0.5 * (a == n) for a, n in product(scores[labels], scores[~labels])]
    return float(np.mean(wins))


def cases() -> list[tuple[str, NDArray[np.float64], NDArray[np.bool_]]]:
    generator = np.random.default_rng(0)
    labels = generator.random(200) < 0.3
    continuous = generator.normal(size=200) + labels
    return [
        ("continuous", continuous, labels),
        ("many ties", np.round(continuous), labels),
        ("constant", np.zeros(200), labels),
        ("perfect", labels.astype(float), labels),
        ("inverted", -labels.astype(float), labels),
        ("one abnormal", continuous, np.arange(200) == 7),
        ("one normal", continuous, np.arange(200) != 7),
        ("two frames", np.array([0.0, 1.0]), np.array([True, False])),
        ("tiny differences", 1.0 + np.arange(200) * np.finfo(float).eps, labels),
        ("extreme", np.where(labels, 1e300, -1e300) * generator.random(200), labels),
        ("denormal", generator.integers(0, 5, 200) * 5e-324, labels),
    ]


@st.composite
def scored(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores with ties, and labels of both classes."""
    n = draw(st.integers(2, 40))
    value = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_subnormal=False))
    scores = np.array(draw(st.lists(value, min_size=n, max_size=n)))
    labels = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    labels[:2] = [True, False]
    return scores, labels


@pytest.mark.parametrize(("name", "scores", "labels"), cases(), ids=[name for name, *_ in cases()])
def test_agrees_with_scikit_learn(name: str, scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> None:
    assert auc(scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-9)
    assert auc(scores, labels) == pytest.approx(pair_count(scores, labels), abs=1e-9)
    assert average_precision(scores, labels) == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-9)
    x, y, thresholds = sk.roc_curve(labels, scores, drop_intermediate=False)
    curve = roc_curve(scores, labels)
    assert curve is not None
    np.testing.assert_allclose(curve.false_positive_rate, x, atol=1e-12)
    np.testing.assert_allclose(curve.true_positive_rate, y, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    assert false_positive_rate_at(scores, labels) == pytest.approx(x[y >= 0.95].min(), abs=1e-12)


@pytest.mark.parametrize(("name", "scores", "labels"), cases(), ids=[name for name, *_ in cases()])
def test_equal_error_rate_lies_on_the_curve_and_on_the_line(
    name: str, scores: NDArray[np.float64], labels: NDArray[np.bool_]
) -> None:
    rate = equal_error_rate(scores, labels)
    curve = roc_curve(scores, labels)
    assert rate is not None
    assert curve is not None
    points = list(zip(curve.false_positive_rate, curve.true_positive_rate, strict=True))
    distances = []
    for (x0, y0), (x1, y1) in pairwise(points):
        along = np.array([x1 - x0, y1 - y0])
        t = np.clip(np.dot([rate - x0, 1 - rate - y0], along) / np.dot(along, along), 0, 1)
        distances.append(np.hypot(*(np.array([x0, y0]) + t * along - [rate, 1 - rate])))
    assert min(distances) < 1e-12


def test_equal_error_rate_by_hand() -> None:
    assert equal_error_rate([0, 1], [False, True]) == 0.0
    assert equal_error_rate([1, 0], [False, True]) == 1.0
    assert equal_error_rate([0, 0], [False, True]) == 0.5
    # Points (0,0) (0,1/2) (1/2,1/2) (1/2,1) (1,1): the vertical at 1/2 and the level at 1/2 meet the line in (1/2,1/2).
    assert equal_error_rate([4, 3, 2, 1], [True, False, True, False]) == 0.5
    # One abnormal frame, then a tie of one abnormal and two normal: from (0,1/2) straight to (1,1), met at x = 1/3.
    assert equal_error_rate([2, 1, 1, 1], [True, True, False, False]) == pytest.approx(1 / 3)


def test_false_positive_rate_needs_a_threshold_that_exists() -> None:
    scores = np.arange(40)
    labels = np.arange(40) % 2 == 1
    assert false_positive_rate_at(scores, labels, 0.95) == 18 / 20
    assert false_positive_rate_at(scores, labels, 0.951) == 19 / 20
    assert false_positive_rate_at(scores, labels, 1e-9) == 0.0
    assert false_positive_rate_at(scores, labels, 1.0) == 19 / 20


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.1, float("nan")])
def test_an_impossible_true_positive_rate_is_refused(rate: float) -> None:
    with pytest.raises(EvaluationError, match="true positive rate"):
        false_positive_rate_at([0, 1], [0, 1], rate)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("labels", [[True, True, True], [False, False, False], [True], [False], []])
def test_one_class_has_no_metric(figure: object, labels: list[bool]) -> None:
    assert callable(figure)
    assert figure(np.arange(len(labels), dtype=float), labels) is None


@given(scored())
@settings(deadline=None, max_examples=80)
def test_bounds_permutation_and_flip(case: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    scores, labels = case
    order = np.random.default_rng(1).permutation(len(scores))
    for figure in NUMBERS:
        value = figure(scores, labels)
        assert value is not None
        assert 0.0 <= value <= 1.0
        assert figure(scores[order], labels[order]) == pytest.approx(value, abs=1e-12)
    value, flipped, negated = auc(scores, labels), auc(scores, ~labels), auc(-scores, labels)
    assert value is not None
    assert flipped == pytest.approx(1 - value, abs=1e-12)
    assert negated == pytest.approx(1 - value, abs=1e-12)
    assert value == pytest.approx(pair_count(scores, labels), abs=1e-9)


@given(scored())
@settings(deadline=None, max_examples=80)
def test_a_rising_transform_changes_nothing(case: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    scores, labels = case
    ranks = np.unique(scores, return_inverse=True)[1]
    for transformed in (ranks, 3.0 * ranks - 7.0, np.exp(ranks / 10.0), ranks.astype(np.uint16), ranks > -1):
        if transformed.dtype == np.bool_:
            assert auc(transformed, labels) == 0.5
            continue
        for figure in NUMBERS:
            assert figure(transformed, labels) == figure(scores, labels)


@given(scored())
@settings(deadline=None, max_examples=40)
def test_agrees_with_scikit_learn_on_any_scores(case: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    scores, labels = case
    assert auc(scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-9)
    assert average_precision(scores, labels) == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-9)


def test_large_integers_are_compared_exactly() -> None:
    big = 2**53
    assert auc(np.array([big, big + 1]), [False, True]) == 1.0
    assert auc(np.array([2**63, 2**63 + 1], dtype=np.uint64), [True, False]) == 0.0


def test_a_million_frames_are_counted_without_overflow() -> None:
    generator = np.random.default_rng(3)
    labels = generator.random(1_000_000) < 0.5
    scores = generator.normal(size=labels.size).astype(np.float32) + labels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = auc(scores, labels)
    assert value == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-9)


def test_micro_joins_and_macro_averages() -> None:
    scores = [np.array([0.0, 1.0]), np.array([10.0, 11.0, 9.0]), np.array([5.0])]
    labels = [np.array([False, True]), np.array([False, True, False]), np.array([True])]
    assert micro_auc(scores, labels) == pair_count(np.concatenate(scores), np.concatenate(labels))
    assert macro_auc(scores, labels) == MacroAuc(value=1.0, n_videos=2, n_skipped=1)
    assert macro_auc(scores[2:], labels[2:]) == MacroAuc(value=None, n_videos=0, n_skipped=1)
    assert macro_auc([], []) == MacroAuc(value=None, n_videos=0, n_skipped=0)
    assert micro_auc([], []) is None


def test_a_video_without_frames_changes_nothing() -> None:
    assert micro_auc([[0.0, 1.0], []], [[0, 1], []]) == 1.0
    assert macro_auc([[0.0, 1.0], []], [[0, 1], []]).n_skipped == 1


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        ([0.0, np.nan, np.nan], [0, 1, 1], ["score nan", "'gate'", "position 1", "1 more"]),
        ([0.0, np.inf], [0, 1], ["score inf", "'gate'"]),
        ([0.0, 1.0], [0], ["2 scores", "1 labels", "'gate'"]),
        ([0.0, 1.0], [0, 2], ["label 2", "'gate'", "position 1"]),
        ([0.0, 1.0], [0, np.nan], ["label nan", "'gate'"]),
        ([0.0, 1.0], ["no", "yes"], ["labels", "dtype", "'gate'"]),
        (["a", "b"], [0, 1], ["scores", "dtype", "'gate'"]),
        ([1j, 2j], [0, 1], ["scores", "complex", "'gate'"]),
        ([None, 1.0], [0, 1], ["scores", "object", "'gate'"]),
        ([[0.0], [1.0]], [0, 1], ["shape (2, 1)", "'gate'"]),
        ([[0.0], [1.0, 2.0]], [0, 1], ["not an array", "'gate'"]),
        (0.5, [1], ["shape ()", "'gate'"]),
    ],
)
def test_invalid_input_is_refused_with_the_name_of_the_video(scores: object, labels: object, words: list[str]) -> None:
    for function in (concatenate_videos, micro_auc, macro_auc):
        with pytest.raises(EvaluationError) as caught:
            function([[0.0], scores], [[0], labels], ["door", "gate"])  # type: ignore[list-item, operator]
        text = str(caught.value)
        assert all(word in text for word in words), text
        assert "\n" not in text


def test_without_names_the_error_gives_the_number() -> None:
    with pytest.raises(EvaluationError, match="video number 1"):
        micro_auc([[0.0], [np.nan]], [[0], [1]])


def test_lengths_of_the_lists_must_agree() -> None:
    with pytest.raises(EvaluationError, match=r"2 scores, 1 labels: expected one of each"):
        micro_auc([[0.0], [1.0]], [[0]])
    with pytest.raises(EvaluationError, match=r"1 names"):
        micro_auc([[0.0], [1.0]], [[0], [1]], ["only"])


def test_inputs_are_not_modified() -> None:
    scores, labels = np.array([3.0, 1.0, 2.0]), np.array([1, 0, 1])
    before = scores.copy(), labels.copy()
    for figure in FIGURES:
        figure(scores, labels)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(labels, before[1])
