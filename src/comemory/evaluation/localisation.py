"""Localisation: score maps compared with the pixel masks of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.types import JSON, LabelledSource

NAMES = ("pixel_auc", "rbdc", "tbdc")
THRESHOLDS = np.arange(-9, 81) / 10
"""Thresholds at which score maps are cut into regions: 0.1 log10 unit apart, from where every normal frame has a region to
where none has."""
NO_SCORE_MAP = "The model gives one number a frame and no map of it, so pixel AUC, RBDC and TBDC cannot be measured."
MIN_AREA = 20
"""Connected mask areas of fewer pixels are labelling noise, not anomalies."""


@dataclass(frozen=True, slots=True, eq=False)
class Localisation:
    """How the score maps of one video compare with its masks.

    Shapes:
        pixel_score: float64 (n_scored,), the highest threshold at which the pixel-level criterion is met.
        abnormal: bool (n_scored,), whether the frame's mask has any pixel.

    Attributes:
        sweep: regions of the maps at each of `THRESHOLDS`, matched with the tracks that the masks link to.
    """

    pixel_score: NDArray[np.float64]
    abnormal: NDArray[np.bool_]
    sweep: metrics.RegionSweep


def localise(video: LabelledSource, n_frames: int, score_maps: Mapping[int, NDArray[np.float16]]) -> Localisation:
    """Compare the score maps of a video with its masks.

    Masks are read one at a time, so a long video needs little memory.

    Shapes:
        score_maps: float16 (h, w), by frame in rising order, for every frame that has a score.

    Raises:
        DatasetError: a mask cannot be read.
        EvaluationError: the masks differ in size.
    """
    pixel_score: list[float] = []
    abnormal: list[bool] = []
    size = (0, 0)

    def masks() -> Iterator[NDArray[np.bool_]]:
        # A generator, because link_tracks needs every mask and the pixel score needs it too: each is read once.
        nonlocal size
        for frame in range(n_frames):
            mask = video.mask(frame) if video.mask else np.zeros((1, 1), np.bool_)
            size = (mask.shape[0], mask.shape[1])
            if frame in score_maps:
                pixel_score.append(metrics.pixel_score(_enlarged(score_maps[frame], size), mask))
                abnormal.append(bool(mask.any()))
            yield mask

    tracks = metrics.link_tracks(masks(), MIN_AREA)
    swept = metrics.sweep(score_maps.items(), tracks, THRESHOLDS, size)
    return Localisation(np.array(pixel_score, np.float64), np.array(abnormal, np.bool_), swept)


def localisation_metrics(videos: Sequence[Localisation]) -> JSON:
    """Return pixel-level AUC, RBDC and TBDC over the videos that have masks; None where the masks do not allow one."""
    if not videos:
        return dict.fromkeys(NAMES)
    sweeps = [video.sweep for video in videos]
    return {
        "pixel_auc": metrics.micro_auc([video.pixel_score for video in videos], [video.abnormal for video in videos]),
        "rbdc": metrics.swept_rbdc(sweeps),
        "tbdc": metrics.swept_tbdc(sweeps),
    }


def missing_reasons(n_masked: int, *, has_score_map: bool = True) -> dict[str, str]:
    """Return why a localisation metric may be None, by its dotted name.

    Args:
        n_masked: number of videos whose score maps were compared with masks.
        has_score_map: whether the model gives a map; not where its score is one number a frame.
    """
    reasons = {f"paper.{name}": "Computed from causal scores only." for name in NAMES}
    if not has_score_map:
        return {**reasons, **dict.fromkeys((f"causal.{name}" for name in NAMES), NO_SCORE_MAP)}
    if not n_masked:
        return {**reasons, **{f"causal.{name}": "The data set has no pixel masks." for name in NAMES}}
    return {
        **reasons,
        "causal.pixel_auc": "Needs scored frames with and without abnormal pixels.",
        **{f"causal.{name}": "No mask of a scored frame has an abnormal region." for name in ("rbdc", "tbdc")},
    }


def _enlarged(score_map: NDArray[np.float16], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize a map of cells to the size of the mask, linear between the centres of the cells."""
    enlarged = cv2.resize(score_map.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)
