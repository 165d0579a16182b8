"""Means over seeds, and rank correlations between scores of variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class MeanAndSd(NamedTuple):
    """A mean over `n` seeds; `sd` is the sample standard deviation, None of one value."""

    mean: float
    sd: float | None
    n: int


class Correlation(NamedTuple):
    """A rank correlation in [-1, 1]; `low` and `high` are the ends of its 95 % interval, None without one."""

    value: float
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> MeanAndSd | None:
    """Return mean and standard deviation; None without values.

    >>> spread([0.98, 0.99, 0.97])
    MeanAndSd(mean=0.98, sd=0.01, n=3)
    """
    if not values:
        return None
    sd = float(np.std(values, ddof=1).round(12)) if len(values) > 1 else None
    return MeanAndSd(float(np.mean(values).round(12)), sd, len(values))


def ranks(values: ArrayLike) -> Floats:
    """Return ranks from 1; equal values share the mean of their ranks.

    >>> ranks([0.3, 0.1, 0.3]).tolist()
    [2.5, 1.0, 2.5]
    """
    array = np.asarray(values, np.float64)
    ordered = np.sort(array)
    below, up_to = np.searchsorted(ordered, array, "left"), np.searchsorted(ordered, array, "right")
    return np.asarray((below + up_to + 1) / 2, np.float64)


def spearman(one: ArrayLike, other: ArrayLike) -> float | None:
    """Return Spearman's rank correlation, which is Pearson's of the ranks. None if either has a single value only.

    Source: Spearman, "The proof and measurement of association between two things", 1904.

    Shapes:
        one, other: (n,).

    >>> spearman([1, 2, 3], [10, 20, 15])
    0.5
    """
    a, b = ranks(one), ranks(other)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.round(a @ b / norm, 12)) if norm else None


def kendall(one: ArrayLike, other: ArrayLike) -> float | None:
    """Return Kendall's tau-b: pairs in the same order minus pairs in opposite order, corrected for ties.

    None if either has a single value only.

    Source: Kendall, "The treatment of ties in ranking problems", 1945.

    Shapes:
        one, other: (n,).

    >>> kendall([1, 2, 3], [1, 3, 2])
    0.333333333333
    """
    a, b = (np.sign(np.subtract.outer(values, values)) for values in (np.asarray(one), np.asarray(other)))
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float(np.round((a * b).sum() / norm, 12)) if norm else None


def correlation(
    measure: Callable[[ArrayLike, ArrayLike], float | None],
    one: Sequence[float],
    other: Sequence[float],
    *,
    seed: int = 0,
    n_resamples: int = 2000,
) -> Correlation | None:
    """Return a rank correlation with a percentile bootstrap interval over the variants.

    Variants are drawn with replacement; draws without a correlation (a single variant) are left out.

    Args:
        measure: `spearman` or `kendall`.
        one: scores of the variants.
        other: other scores of the same variants, in the same order.
        seed: of the draws; the same seed gives the same interval.
        n_resamples: number of draws.

    Returns:
        None with fewer than three variants, or where either score is the same for all. With fewer than five there is no
        interval: it would cover nearly everything.
    """
    if len(one) < 3 or (value := measure(one, other)) is None:
        return None
    if len(one) < 5:
        return Correlation(value, None, None)
    generator = np.random.default_rng(seed)
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    draws = [measure(a[drawn], b[drawn]) for drawn in generator.integers(0, len(a), (n_resamples, len(a)))]
    low, high = np.percentile([draw for draw in draws if draw is not None], [2.5, 97.5])
    return Correlation(value, float(low), float(high))
