"""Frame-level metrics: does an abnormal frame score higher than a normal one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from comemory.errors import EvaluationError
from comemory.metrics.paired import Labels, Scores, concatenate_videos, pair_scores, pair_videos


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """The receiver operating characteristic, from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: float64 (n_thresholds + 1,), rising.
        true_positive_rate: float64 (n_thresholds + 1,), rising.
        thresholds: float64 (n_thresholds + 1,), falling; a frame is called abnormal where its score is at least this.
            The first is infinite: nothing is called abnormal.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MacroAuc:
    """The mean AUC over videos.

    Attributes:
        value: None when no video holds both classes.
        n_videos: how many videos the mean is over.
        n_skipped: how many were left out, because all of their frames have the same label.
    """

    value: float | None
    n_videos: int
    n_skipped: int


def auc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Compute the area under the ROC curve: the chance that an abnormal frame scores above a normal one; a tie counts half.

    Exact: pairs are counted in integers (the Mann-Whitney U statistic) after one sort, then divided once.

    Source: Hanley & McNeil, Radiology 1982: the area is the Mann-Whitney statistic.

    Shapes:
        scores: (n_frames,) finite; labels: (n_frames,) bool.

    Returns:
        A number in [0, 1], or None when one of the classes is absent.

    Raises:
        EvaluationError: scores and labels do not fit together.

    >>> auc([0.1, 0.4, 0.4, 0.8], [False, False, True, True])
    0.875
    """
    score_array, label_array = pair_scores(scores, labels)
    n_abnormal = int(label_array.sum())
    n_normal = len(label_array) - n_abnormal
    if not n_abnormal or not n_normal:
        return None
    abnormal, normal = _counts_from_top(score_array, label_array)
    normal_below = n_normal - np.cumsum(normal)
    twice_u = int((abnormal * (2 * normal_below + normal)).sum())
    return twice_u / (2 * n_abnormal * n_normal)


def micro_auc(
    scores: Sequence[ArrayLike], labels: Sequence[ArrayLike], names: Sequence[str] | None = None
) -> float | None:
    """Compute the AUC over the frames of all videos together: one threshold for all of them, as in a live system.

    Raises:
        EvaluationError: scores and labels do not fit together; the text names the video.

    >>> micro_auc([[0.1, 0.9], [0.5]], [[0, 1], [1]])
    1.0
    """
    return auc(*concatenate_videos(scores, labels, names))


def macro_auc(scores: Sequence[ArrayLike], labels: Sequence[ArrayLike], names: Sequence[str] | None = None) -> MacroAuc:
    """Compute the mean of the AUCs of the videos. A video whose frames all have one label has no AUC and is skipped.

    Raises:
        EvaluationError: scores and labels do not fit together; the text names the video.

    >>> macro_auc([[0.1, 0.9], [0.5]], [[0, 1], [1]])
    MacroAuc(value=1.0, n_videos=1, n_skipped=1)
    """
    each = [auc(s, y) for s, y in pair_videos(scores, labels, names)]
    known = [value for value in each if value is not None]
    mean = float(np.mean(known)) if known else None
    return MacroAuc(value=mean, n_videos=len(known), n_skipped=len(each) - len(known))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Compute the area under the precision-recall curve by steps: sum over thresholds of (R_n - R_(n-1)) P_n.

    Source: scikit-learn, `average_precision_score`. No interpolation, which would be optimistic.

    Returns:
        A number in (0, 1], or None when one of the classes is absent (without normal frames it is always 1).

    Raises:
        EvaluationError: scores and labels do not fit together.

    >>> round(average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 4)
    0.8333
    """
    score_array, label_array = pair_scores(scores, labels)
    if not _has_both(label_array):
        return None
    abnormal, normal = _counts_from_top(score_array, label_array)
    hits = np.cumsum(abnormal)
    precision = hits / (hits + np.cumsum(normal))
    return float((abnormal * precision).sum() / hits[-1])


def roc_curve(scores: ArrayLike, labels: ArrayLike) -> RocCurve | None:
    """Compute all points of the ROC curve, one for each distinct score; None when one of the classes is absent.

    Raises:
        EvaluationError: scores and labels do not fit together.

    >>> roc_curve([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1]).true_positive_rate.tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    score_array, label_array = pair_scores(scores, labels)
    if not _has_both(label_array):
        return None
    abnormal, normal = _counts_from_top(score_array, label_array)
    thresholds = np.unique(score_array)[::-1].astype(np.float64)
    return RocCurve(
        false_positive_rate=_rising_rate(normal),
        true_positive_rate=_rising_rate(abnormal),
        thresholds=np.concatenate([[np.inf], thresholds]),
    )


def equal_error_rate(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Compute the rate at which false positives and misses are equally frequent.

    Defined as the false positive rate where the ROC curve, its points joined by straight lines, meets the line
    FPR = 1 - TPR. The curve rises from (0, 0) to (1, 1), so it meets that line in exactly one point.

    Returns:
        A number in [0, 1], or None when one of the classes is absent.

    Raises:
        EvaluationError: scores and labels do not fit together.

    >>> equal_error_rate([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.5
    """
    curve = roc_curve(scores, labels)
    if curve is None:
        return None
    x, y = curve.false_positive_rate, curve.true_positive_rate
    excess = x + y - 1.0
    after = int(np.argmax(excess >= 0))
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    return float(np.clip(x[before] + share * (x[after] - x[before]), 0.0, 1.0))


def false_positive_rate_at(scores: ArrayLike, labels: ArrayLike, true_positive_rate: float = 0.95) -> float | None:
    """Compute the false positive rate at the threshold that finds the given part of the abnormal frames.

    Defined without interpolation: the smallest FPR among the thresholds whose TPR is at least the given one, so
    that an existing threshold reaches it.

    Args:
        scores: (n_frames,), higher is more abnormal.
        labels: (n_frames,), True where abnormal.
        true_positive_rate: in (0, 1]; 0.95 for the usual FPR95.

    Returns:
        A number in [0, 1], or None when one of the classes is absent.

    Raises:
        EvaluationError: scores and labels do not fit together, or the rate lies outside (0, 1].

    >>> false_positive_rate_at([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.5
    """
    if not 0 < true_positive_rate <= 1:
        raise EvaluationError(f"true positive rate {true_positive_rate}: expected a number above 0 and up to 1")
    curve = roc_curve(scores, labels)
    if curve is None:
        return None
    return float(curve.false_positive_rate[np.argmax(curve.true_positive_rate >= true_positive_rate)])


def _has_both(labels: Labels) -> bool:
    return bool(labels.any() and not labels.all())


def _counts_from_top(scores: Scores, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Abnormal and normal frames at each distinct score, from the highest score down."""
    values, group = np.unique(scores, return_inverse=True)
    total = np.bincount(group, minlength=len(values))
    abnormal = np.bincount(group[labels], minlength=len(values))
    return abnormal[::-1].astype(np.int64), (total - abnormal)[::-1].astype(np.int64)


def _rising_rate(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.cumsum(counts)
    return np.concatenate([[0.0], total / total[-1]])
