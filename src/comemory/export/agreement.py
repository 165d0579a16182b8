"""How close the scores of two precisions are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Agreement, LabelledAgreement
from comemory.metrics import auc

Scores = NDArray[np.float64]


def compare_scores(scores: Scores, fp32: Scores) -> Agreement:
    """Compare two series of scores of the same frames.

    Shapes: float64 (n,) each.

    >>> compare_scores(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0])).spearman
    1.0
    """
    difference = np.abs(scores - fp32)
    return Agreement(
        n_frames=len(scores),
        spearman=_correlation(_ranks(scores), _ranks(fp32)),
        pearson=_correlation(scores, fp32),
        mean_difference=round(float(difference.mean()), 6),
        largest_difference=round(float(difference.max()), 6),
    )


def compare_labelled_scores(scores: Scores, fp32: Scores, labels: NDArray[np.bool_]) -> LabelledAgreement:
    """Compare on labelled frames, with the micro AUC of both. Shapes: (n,) each."""
    aucs = [None if value is None else round(value, 6) for value in (auc(scores, labels), auc(fp32, labels))]
    return LabelledAgreement(**compare_scores(scores, fp32).model_dump(), auc=aucs[0], auc_fp32=aucs[1])


def _correlation(one: Scores, other: Scores) -> float:
    """Pearson's correlation; where a series is constant, 1 if both are equal and 0 if not."""
    spread = float(one.std() * other.std())
    if not spread:
        return float(np.array_equal(one, other))
    product = ((one - one.mean()) * (other - other.mean())).mean()
    return round(float(np.clip(product / spread, -1, 1)), 6)


def _ranks(values: Sequence[float] | Scores) -> Scores:
    """The rank of each value; equal values share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places], np.float64)
