"""Where in the picture: score maps held against the pixel masks of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.types import JSON, LabelledSource

NAMES = ("pixel_auc", "rbdc", "tbdc")
LEVELS = np.arange(-9, 81) / 10
"""Where maps are cut into regions: a tenth of a decade apart, from what every ordinary frame passes to what none does."""
MIN_AREA = 20
"""Pixels of a mask under which a place is a speck and no anomaly."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """What the score maps of one video come to.

    Shapes:
        pixel_score: float64 (n_scored,), the highest threshold at which the pixel-level criterion calls the frame.
        abnormal: bool (n_scored,), whether the frame's mask has any pixel.

    Attributes:
        sweep: its regions at each of `LEVELS`, against the tracks that its masks link to.
    """

    pixel_score: NDArray[np.float64]
    abnormal: NDArray[np.bool_]
    sweep: metrics.Sweep


def find_places(video: LabelledSource, n_frames: int, score_maps: Mapping[int, NDArray[np.float16]]) -> Places:
    """Hold the score maps of a video against its masks, which are read one at a time.

    Shapes:
        score_maps: float16 (h, w), by frame in rising order, for every frame that has a score.

    Raises:
        DatasetError: a mask cannot be read. EvaluationError: the masks differ in size.
    """
    pixel_score: list[float] = []
    abnormal: list[bool] = []
    size = (0, 0)

    def masks() -> Iterator[NDArray[np.bool_]]:
        nonlocal size
        for frame in range(n_frames):
            mask = video.mask(frame) if video.mask else np.zeros((1, 1), np.bool_)
            size = (mask.shape[0], mask.shape[1])
            if frame in score_maps:
                pixel_score.append(metrics.pixel_score(_enlarged(score_maps[frame], size), mask))
                abnormal.append(bool(mask.any()))
            yield mask

    tracks = metrics.link_tracks(masks(), MIN_AREA)
    swept = metrics.sweep(score_maps.items(), tracks, LEVELS, size)
    return Places(np.array(pixel_score, np.float64), np.array(abnormal, np.bool_), swept)


def place_figures(places: Sequence[Places]) -> JSON:
    """Pixel-level AUC, RBDC and TBDC over the videos that have masks; None where they do not allow one."""
    if not places:
        return dict.fromkeys(NAMES)
    sweeps = [one.sweep for one in places]
    return {
        "pixel_auc": metrics.micro_auc([one.pixel_score for one in places], [one.abnormal for one in places]),
        "rbdc": metrics.swept_rbdc(sweeps),
        "tbdc": metrics.swept_tbdc(sweeps),
    }


def place_reasons(n_masked: int) -> dict[str, str]:
    """Why a figure of places is None, by its dotted name."""
    reasons = {f"paper.{name}": "Taken with causal scores only." for name in NAMES}
    if not n_masked:
        return {**reasons, **{f"causal.{name}": "The data set has no pixel masks." for name in NAMES}}
    return {
        **reasons,
        "causal.pixel_auc": "Needs scored frames with and without abnormal pixels.",
        **{f"causal.{name}": "No mask of a scored frame has an abnormal place." for name in ("rbdc", "tbdc")},
    }


def _enlarged(score_map: NDArray[np.float16], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map of cells at the size of the mask, linear between the middles of the cells."""
    enlarged = cv2.resize(score_map.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)
