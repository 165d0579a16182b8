"""Pixel-level AUC: an abnormal frame counts as detected only if the score map covers its abnormal pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics.frame import auc


def pixel_score(score_map: NDArray[np.floating], mask: NDArray[np.bool_], coverage: float = 0.4) -> float:
    """Return the highest threshold at which this frame is positive by the pixel-level criterion.

    An abnormal frame is positive once at least `coverage` of its abnormal pixels score the threshold or more; a normal
    frame (an empty mask) once any pixel does. So each frame is one number, and a video need not be held
    in memory.

    Source: Mahadevan et al., CVPR 2010, section 5.1, with its 40 %.

    Shapes:
        score_map: float (H, W), finite; mask: bool (H, W), True on abnormal pixels.

    Raises:
        EvaluationError: sizes differ, the map is empty or not finite, or coverage lies outside (0, 1].

    >>> pixel_score(np.array([[5.0, 1.0, 2.0, 3.0]]), np.array([[False, True, True, True]]))
    2.0
    """
    if not 0 < coverage <= 1:
        raise EvaluationError(f"coverage {coverage}: expected a number above 0 and up to 1")
    if score_map.shape != mask.shape or score_map.ndim != 2 or not score_map.size:
        raise EvaluationError(
            f"score map of shape {score_map.shape} and mask of shape {mask.shape}: expected the same (H, W); "
            "resize the map to the size of the mask"
        )
    if not np.isfinite(score_map).all():
        raise EvaluationError("a score map holds values that are not finite: expected finite numbers")
    abnormal = score_map[mask.astype(np.bool_)]
    if not abnormal.size:
        return float(score_map.max())
    needed = minimum_count(coverage, abnormal.size)
    return float(np.partition(abnormal, abnormal.size - needed)[abnormal.size - needed])


def pixel_auc(frames: Iterable[tuple[NDArray[np.floating], NDArray[np.bool_]]], coverage: float = 0.4) -> float | None:
    """Compute the area under the ROC of the pixel-level criterion, over (score map, mask) of all frames of all videos.

    The true positive rate is over abnormal frames, the false positive rate over normal frames, as at frame level.

    Source: Mahadevan et al., CVPR 2010, section 5.1.

    Returns:
        A number in [0, 1]; None when all frames are normal or all abnormal.

    Raises:
        EvaluationError: a map and its mask do not fit together.

    >>> hit = (np.array([[0.0, 9.0]]), np.array([[False, True]]))
    >>> beside = (np.array([[9.0, 0.0]]), np.array([[False, True]]))
    >>> normal = (np.array([[1.0, 2.0]]), np.array([[False, False]]))
    >>> pixel_auc([hit, beside, normal])
    0.5
    """
    scores: list[float] = []
    labels: list[bool] = []
    for score_map, mask in frames:
        scores.append(pixel_score(score_map, mask, coverage))
        labels.append(bool(mask.any()))
    return auc(scores, labels)


def minimum_count(fraction: float, total: int) -> int:
    """Return the smallest count of at least 1 with count / total >= fraction, exact despite rounding.

    >>> minimum_count(0.1, 70), minimum_count(0.1, 71), minimum_count(0.4, 1)
    (7, 8, 1)
    """
    count = max(1, int(np.ceil(fraction * total)))
    return count - 1 if count > 1 and (count - 1) / total >= fraction else count
