"""Means and rank correlations against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from comemory.research.reproduce.statistics import correlation, kendall, ranks, spearman, spread

scipy_stats = pytest.importorskip("scipy.stats", reason="needs scipy: pip install '.[dev]'")

scores = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=20)


def test_a_spread_is_that_of_a_sample() -> None:
    made = spread([0.1, 0.4, 0.4, 0.7])
    assert made is not None
    assert made == (pytest.approx(0.4), pytest.approx(np.std([0.1, 0.4, 0.4, 0.7], ddof=1)), 4)
    assert spread([0.5]) == (0.5, None, 1)
    assert spread([]) is None


@settings(max_examples=60, deadline=None)
@given(scores)
def test_rank_correlations_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    one, other = zip(*pairs, strict=True)
    assert ranks(one).tolist() == scipy_stats.rankdata(one).tolist()
    assume(len(set(one)) > 1 and len(set(other)) > 1)
    assert spearman(one, other) == pytest.approx(scipy_stats.spearmanr(one, other).statistic)
    assert kendall(one, other) == pytest.approx(scipy_stats.kendalltau(one, other).statistic)


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_equal_scores_have_no_correlation(measure: type) -> None:
    assert measure([1, 1, 1], [1, 2, 3]) is None
    assert correlation(measure, [1, 1, 1], [1, 2, 3]) is None


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_an_interval_holds_the_value_and_is_the_same_each_time(measure: type) -> None:
    generator = np.random.default_rng(3)
    one = generator.normal(size=12).tolist()
    other = [value + noise for value, noise in zip(one, generator.normal(size=12).tolist(), strict=True)]
    made = correlation(measure, one, other)
    assert made is not None
    assert made == correlation(measure, one, other)
    assert made.low is not None
    assert made.high is not None
    assert -1 <= made.low < made.value < made.high <= 1


def test_the_same_order_correlates_wholly() -> None:
    assert correlation(spearman, [1, 2, 3, 4, 5], [2, 3, 5, 8, 9]) == (1.0, 1.0, 1.0)


def test_few_variants_have_no_interval_and_two_no_correlation() -> None:
    assert correlation(kendall, [1, 2, 3, 4], [1, 2, 4, 3]) == (pytest.approx(2 / 3), None, None)
    assert correlation(kendall, [1, 2], [1, 2]) is None
