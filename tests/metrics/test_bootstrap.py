"""The interval over videos, against drawing and concatenating naively."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics import micro_auc, micro_auc_ci95
from comemory.metrics.bootstrap import _draws


def videos(n: int, seed: int = 0, shift: float = 1.0) -> tuple[list[NDArray[np.float64]], list[NDArray[np.bool_]]]:
    generator = np.random.default_rng(seed)
    labels = [generator.random(30) < share for share in generator.random(n)]
    scores = [np.round(generator.normal(size=30) + generator.normal() + shift * y, 1) for y in labels]
    return scores, labels


def test_the_interval_equals_the_plain_bootstrap() -> None:
    scores, labels = videos(7)
    interval = micro_auc_ci95(scores, labels, seed=4, n_resamples=300)
    n_abnormal = np.array([y.sum() for y in labels], dtype=float)
    n_normal = np.array([(~y).sum() for y in labels], dtype=float)
    figures = []
    for weights in _draws(n_abnormal, n_normal, 300, np.random.default_rng(4)):
        chosen = np.repeat(np.arange(7), weights.astype(int))
        assert len(chosen) == 7
        figures.append(micro_auc([scores[i] for i in chosen], [labels[i] for i in chosen]))
    assert interval == pytest.approx(tuple(np.percentile(np.array(figures, dtype=float), [2.5, 97.5])), abs=1e-12)


def test_the_seed_determines_the_interval() -> None:
    scores, labels = videos(6)
    assert micro_auc_ci95(scores, labels, seed=1) == micro_auc_ci95(scores, labels, seed=1)
    assert micro_auc_ci95(scores, labels, seed=1) != micro_auc_ci95(scores, labels, seed=2)


def test_the_interval_contains_the_auc_and_stays_in_bounds() -> None:
    scores, labels = videos(12)
    interval, figure = micro_auc_ci95(scores, labels), micro_auc(scores, labels)
    assert interval is not None
    assert figure is not None
    assert 0 <= interval[0] < figure < interval[1] <= 1


def test_more_videos_give_a_narrower_interval() -> None:
    few, many = micro_auc_ci95(*videos(5, seed=2)), micro_auc_ci95(*videos(80, seed=2))
    assert few is not None
    assert many is not None
    assert many[1] - many[0] < few[1] - few[0]


def test_the_interval_covers_the_true_value_about_as_often_as_stated() -> None:
    truth = micro_auc(*videos(4000, seed=99))
    assert truth is not None
    intervals = [micro_auc_ci95(*videos(25, seed=100 + i), n_resamples=300) for i in range(60)]
    covered = sum(low <= truth <= high for low, high in (i for i in intervals if i is not None))
    assert covered >= 50


def test_draws_of_one_class_are_drawn_again() -> None:
    scores = [np.array([0.0, 1.0]), np.array([2.0, 3.0])]
    labels = [np.array([False, False]), np.array([True, True])]
    assert micro_auc_ci95(scores, labels) == (1.0, 1.0)


def test_too_little_data_gives_none() -> None:
    assert micro_auc_ci95([], []) is None
    assert micro_auc_ci95([[0.0, 1.0]], [[0, 1]]) is None
    assert micro_auc_ci95([[0.0, 1.0], []], [[0, 1], []]) is None
    assert micro_auc_ci95([[0.0], [1.0]], [[1], [1]]) is None
    assert micro_auc_ci95([[0.0], [1.0]], [[0], [0]]) is None


def test_invalid_input_is_refused() -> None:
    with pytest.raises(EvaluationError, match="0 bootstrap resamples"):
        micro_auc_ci95([[0.0]], [[1]], n_resamples=0)
    with pytest.raises(EvaluationError, match="video 'b'"):
        micro_auc_ci95([[0.0], [np.nan]], [[1], [0]], ["a", "b"])
