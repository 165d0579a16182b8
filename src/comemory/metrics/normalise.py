"""Scores normalised or smoothed with the whole video known: for published protocols, never for a live system."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from comemory.errors import EvaluationError
from comemory.metrics.paired import as_scores, same_length, video_name


def offline_max_division(
    scores: Sequence[ArrayLike], names: Sequence[str] | None = None
) -> tuple[list[NDArray[np.float64]], float]:
    """Divide each video by its own maximum.

    Log scores can be negative, and dividing by a negative maximum reverses their order. So if any score is below zero, the
    lowest score of all videos is first subtracted from all of them; the second value returned is this shift. A constant
    video becomes zeros.

    Source: thesis, Eq. (20). Deviation: the shift, and the zeros.

    Shapes:
        scores: one (n_frames,) array a video, finite.
        returns: float64 (n_frames,) a video, in [0, 1]; and the shift, 0.0 when none was needed.

    Raises:
        EvaluationError: scores that are not finite, or too few names.

    >>> offline_max_division([[1.0, 2.0], [3.0, 4.0]])
    ([array([0.5, 1. ]), array([0.75, 1.  ])], 0.0)
    >>> offline_max_division([[-2.0, -1.0], [0.0, 2.0]])
    ([array([0., 1.]), array([0.5, 1. ])], 2.0)
    """
    videos = _read(scores, names)
    lowest = min((float(video.min()) for video in videos if video.size), default=0.0)
    shift = max(0.0, -lowest)
    return [_scaled(video, -shift) for video in videos], shift


def offline_min_max(scores: Sequence[ArrayLike], names: Sequence[str] | None = None) -> list[NDArray[np.float64]]:
    """Map each video's lowest score to 0 and its highest to 1; a constant video becomes zeros.

    Source: Liu et al., CVPR 2018, Eq. (9), as most published protocols do it.

    Shapes:
        scores: one (n_frames,) array a video, finite; returns: float64 (n_frames,) a video, in [0, 1].

    Raises:
        EvaluationError: scores that are not finite, or too few names.

    >>> offline_min_max([[-3.0, -1.0, -2.0], [5.0, 5.0]])
    [array([0. , 1. , 0.5]), array([0., 0.])]
    """
    return [_scaled(video, float(video.min())) if video.size else video for video in _read(scores, names)]


def offline_smooth(
    scores: Sequence[ArrayLike], sigma_frames: float, names: Sequence[str] | None = None
) -> list[NDArray[np.float64]]:
    """Smooth each video with a Gaussian that looks as far ahead as it looks back.

    The kernel ends at 4 sigma and the video is mirrored at its ends, as in `scipy.ndimage.gaussian_filter1d`, which
    published protocols use.

    Args:
        scores: one (n_frames,) array a video, finite.
        sigma_frames: standard deviation in frames; 0 leaves the scores as they are.
        names: of the videos, for errors.

    Returns:
        float64 (n_frames,) a video.

    Raises:
        EvaluationError: scores that are not finite, a sigma that is negative or not finite, or too few names.

    >>> offline_smooth([[0.0, 0.0, 4.0, 0.0, 0.0]], 0.5)[0].round(2).tolist()
    [0.0, 0.43, 3.15, 0.43, 0.0]
    """
    weights = _gaussian(sigma_frames)
    radius = len(weights) // 2
    return [
        np.convolve(np.pad(video, radius, mode="symmetric"), weights, mode="valid") if video.size else video
        for video in _read(scores, names)
    ]


def causal_smooth(
    scores: Sequence[ArrayLike], sigma_frames: float, names: Sequence[str] | None = None
) -> list[NDArray[np.float64]]:
    """Smooth each video with the past half of the Gaussian of `offline_smooth`, this frame included.

    Ours: the same kernel without the look ahead, so that the two differ in nothing else. At the start of a video the
    weights are normalised over the frames that exist.

    Args:
        scores: one (n_frames,) array a video, finite.
        sigma_frames: standard deviation in frames; 0 leaves the scores as they are.
        names: of the videos, for errors.

    Returns:
        float64 (n_frames,) a video.

    Raises:
        EvaluationError: scores that are not finite, a sigma that is negative or not finite, or too few names.

    >>> causal_smooth([[0.0, 0.0, 4.0, 0.0, 0.0]], 0.5)[0].round(2).tolist()
    [0.0, 0.0, 3.52, 0.48, 0.0]
    """
    weights = _gaussian(sigma_frames)
    past = weights[len(weights) // 2 :]
    return [
        np.convolve(video, past)[: len(video)] / np.convolve(np.ones(len(video)), past)[: len(video)]
        if video.size
        else video
        for video in _read(scores, names)
    ]


def _gaussian(sigma_frames: float) -> NDArray[np.float64]:
    """Weights of a Gaussian that ends at 4 sigma, an odd number of them."""
    if not (math.isfinite(sigma_frames) and sigma_frames >= 0):
        raise EvaluationError(f"sigma of {sigma_frames} frames: expected a finite number, 0 or above")
    radius = int(4 * sigma_frames + 0.5)
    if not radius:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_frames) ** 2)
    return np.asarray(weights / weights.sum())


def _read(scores: Sequence[ArrayLike], names: Sequence[str] | None) -> list[NDArray[np.float64]]:
    same_length(names, scores=scores)
    return [as_scores(video, video_name(names, i)).astype(np.float64) for i, video in enumerate(scores)]


def _scaled(video: NDArray[np.float64], zero: float) -> NDArray[np.float64]:
    """(video - zero) / (max - zero), or zeros for a constant video."""
    if not video.size or video.min() == video.max():
        return np.zeros_like(video)
    height = float(video.max()) - zero
    if math.isinf(height):  # The difference overflows; a quarter of it does not, and the result is the same.
        return _scaled(video / 4, zero / 4)
    scaled: NDArray[np.float64] = (video - zero) / height
    return scaled
