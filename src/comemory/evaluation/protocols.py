"""The same scores under the normalisations and smoothings of published protocols, to show what each adds to the AUC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.evaluation.video_scores import FrameScores, VideoScores
from comemory.types import JSON

SIGMA_FRAMES = 10.0
"""Standard deviation of the Gaussian that both smoothings use. A round number, not fitted to any data set."""

Videos = Sequence[NDArray[np.float64]]
Transform = Callable[[Videos], Videos]

SCORES: Mapping[str, Callable[[FrameScores], NDArray[np.float64] | None]] = {
    "model": lambda video: video.score,
    "thesis": lambda video: video.thesis if isinstance(video, VideoScores) else None,
    "motion_baseline": lambda video: video.motion_baseline,
}
NORMALISATIONS: Mapping[str, Transform] = {
    "raw": lambda videos: videos,
    "offline_max": lambda videos: metrics.offline_max_division(videos)[0],
    "offline_min_max": metrics.offline_min_max,
}
SMOOTHINGS: Mapping[str, Transform] = {
    "none": lambda videos: videos,
    "causal": lambda videos: metrics.causal_smooth(videos, SIGMA_FRAMES),
    "offline_gaussian": lambda videos: metrics.offline_smooth(videos, SIGMA_FRAMES),
}


def protocol_matrix(videos: Sequence[FrameScores]) -> list[JSON]:
    """Compute micro and macro AUC of every score under every normalisation and smoothing.

    The scores are those of the model, of the thesis (Eq. 16) and of the motion baseline, as far as all videos have them.
    Smoothing comes before normalisation, so that normalised scores fill their range.

    Args:
        videos: those with labels; without any the AUCs are None.

    Returns:
        Records with `score`, `normalisation`, `smoothing`, `auc_micro` and `auc_macro`.
    """
    names = [video.name for video in videos]
    labels = [video.scored_labels for video in videos if video.scored_labels is not None]
    matrix: list[JSON] = []
    for score, scores_of in SCORES.items():
        raw = [scores for video in videos if (scores := scores_of(video)) is not None]
        if len(raw) < len(videos):
            continue
        for normalisation, normalise in NORMALISATIONS.items():
            for smoothing, smooth in SMOOTHINGS.items():
                changed = normalise(smooth(raw))
                matrix.append(
                    {
                        "score": score,
                        "normalisation": normalisation,
                        "smoothing": smoothing,
                        "auc_micro": metrics.micro_auc(changed, labels, names),
                        "auc_macro": metrics.macro_auc(changed, labels, names).value,
                    }
                )
    return matrix
