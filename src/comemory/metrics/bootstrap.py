"""Confidence intervals: how much a metric would change with other videos of the same kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from comemory.errors import EvaluationError
from comemory.metrics.paired import Labels, Scores, pair_videos


def micro_auc_ci95(
    scores: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
) -> tuple[float, float] | None:
    """Estimate a 95 % interval of the micro AUC by bootstrap over videos.

    Videos, not frames, are drawn with replacement, because the frames of one video are far from independent. A draw
    without both classes has no AUC and is drawn again. The interval runs from the 2.5th to the 97.5th percentile.

    The AUC of a draw needs only the pairs won between each two videos. They are counted once, and every draw is a small
    weighted sum: exact, and cheap for any number of frames.

    Ours: the percentile bootstrap of Efron & Tibshirani, 1993, with the video as the unit.

    Args:
        scores: one (n_frames,) array for each video.
        labels: the same, True where abnormal.
        names: of the videos, for errors.
        seed: of the draws; the same seed gives the same interval.
        n_resamples: number of draws.

    Returns:
        Low and high end in [0, 1]; None with fewer than two videos or only one class.

    Raises:
        EvaluationError: scores and labels do not fit together, or the number of draws is below 1.
    """
    if n_resamples < 1:
        raise EvaluationError(f"{n_resamples} bootstrap resamples: expected at least 1")
    pairs = [(s, y) for s, y in pair_videos(scores, labels, names) if len(s)]
    n_abnormal = np.array([y.sum() for _, y in pairs], dtype=np.float64)
    n_normal = np.array([(~y).sum() for _, y in pairs], dtype=np.float64)
    if len(pairs) < 2 or not n_abnormal.any() or not n_normal.any():
        return None
    won = _pairs_won(pairs)
    weights = _draws(n_abnormal, n_normal, n_resamples, np.random.default_rng(seed))
    aucs = ((weights @ won) * weights).sum(axis=1) / ((weights @ n_abnormal) * (weights @ n_normal))
    low, high = np.percentile(aucs, [2.5, 97.5])
    return float(low), float(high)


def _pairs_won(pairs: Sequence[tuple[Scores, Labels]]) -> NDArray[np.float64]:
    """At [i, j]: pairs of an abnormal frame of video i above a normal frame of video j; a tie counts half."""
    video = np.concatenate([np.full(int(y.sum()), i) for i, (_, y) in enumerate(pairs)])
    abnormal = np.concatenate([s[y] for s, y in pairs])
    won = np.zeros((len(pairs), len(pairs)))
    for j, (s, y) in enumerate(pairs):
        normal = np.sort(s[~y])
        below, up_to = np.searchsorted(normal, abnormal, "left"), np.searchsorted(normal, abnormal, "right")
        won[:, j] = np.bincount(video, weights=(below + up_to) / 2, minlength=len(pairs))
    return won


def _draws(
    n_abnormal: NDArray[np.float64], n_normal: NDArray[np.float64], n_resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """How often each video is in each draw, (n_resamples, n_videos); every draw has both classes."""
    n_videos = len(n_abnormal)
    accepted: list[NDArray[np.float64]] = []
    missing = n_resamples
    while missing:
        chosen = generator.integers(n_videos, size=(missing, n_videos))
        flat = (chosen + n_videos * np.arange(missing)[:, None]).ravel()
        weights = np.bincount(flat, minlength=missing * n_videos).reshape(missing, n_videos).astype(np.float64)
        weights = weights[(weights @ n_abnormal > 0) & (weights @ n_normal > 0)]
        accepted.append(weights)
        missing -= len(weights)
    return np.concatenate(accepted)
