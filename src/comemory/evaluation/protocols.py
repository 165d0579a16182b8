"""What each habit of published protocols is worth: one score under every normalisation and smoothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.evaluation.video_scores import VideoScores
from comemory.types import JSON

SIGMA_FRAMES = 10.0
"""Of the Gaussian that both smoothings use; fixed, and not fitted to anything."""

Videos = Sequence[NDArray[np.float64]]
Remake = Callable[[Videos], Videos]

SCORES: Mapping[str, Callable[[VideoScores], NDArray[np.float64]]] = {
    "model": lambda video: video.score,
    "thesis": lambda video: video.thesis,
    "control": lambda video: video.control,
}
NORMALISATIONS: Mapping[str, Remake] = {
    "raw": lambda videos: videos,
    "offline_max": lambda videos: metrics.offline_max_division(videos)[0],
    "offline_min_max": metrics.offline_min_max,
}
SMOOTHINGS: Mapping[str, Remake] = {
    "none": lambda videos: videos,
    "causal": lambda videos: metrics.causal_smooth(videos, SIGMA_FRAMES),
    "offline_gaussian": lambda videos: metrics.offline_smooth(videos, SIGMA_FRAMES),
}


def protocol_matrix(videos: Sequence[VideoScores]) -> list[JSON]:
    """Micro and macro AUC of the model's score, the thesis's and the control's under every protocol.

    Scores are smoothed first and normalised then, so that the normalised ones fill their range.

    Args:
        videos: those with labels; without any the figures are None.
    """
    names = [video.name for video in videos]
    labels = [video.scored_labels for video in videos if video.scored_labels is not None]
    matrix: list[JSON] = []
    for score, taken in SCORES.items():
        raw = [taken(video) for video in videos]
        for normalisation, normalise in NORMALISATIONS.items():
            for smoothing, smooth in SMOOTHINGS.items():
                scores = normalise(smooth(raw))
                matrix.append(
                    {
                        "score": score,
                        "normalisation": normalisation,
                        "smoothing": smoothing,
                        "auc_micro": metrics.micro_auc(scores, labels, names),
                        "auc_macro": metrics.macro_auc(scores, labels, names).value,
                    }
                )
    return matrix
