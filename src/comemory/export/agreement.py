"""How near the scores of one precision come to those of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Agreement, Check
from comemory.metrics import auc

Scores = NDArray[np.float64]


def agreement(scores: Scores, fp32: Scores) -> Agreement:
    """Compare the scores of the same frames.

    >>> agreement(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0])).spearman
    1.0
    """
    far = np.abs(scores - fp32)
    return Agreement(
        n_frames=len(scores),
        spearman=_correlation(_ranks(scores), _ranks(fp32)),
        pearson=_correlation(scores, fp32),
        mean_difference=round(float(far.mean()), 6),
        largest_difference=round(float(far.max()), 6),
    )


def check(scores: Scores, fp32: Scores, labels: NDArray[np.bool_]) -> Check:
    """The same on labelled frames, with the micro AUC of both."""
    aucs = [None if value is None else round(value, 6) for value in (auc(scores, labels), auc(fp32, labels))]
    return Check(**agreement(scores, fp32).model_dump(), auc=aucs[0], auc_fp32=aucs[1])


def _correlation(one: Scores, other: Scores) -> float:
    """Pearson's; where one does not vary, 1 for equal numbers and 0 for others."""
    spread = float(one.std() * other.std())
    if not spread:
        return float(np.array_equal(one, other))
    product = ((one - one.mean()) * (other - other.mean())).mean()
    return round(float(np.clip(product / spread, -1, 1)), 6)


def _ranks(values: Sequence[float] | Scores) -> Scores:
    """The rank of each value, equal ones sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places], np.float64)
