"""From a trained model to its calibration, on ordinary video that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comemory.decision import Calibration, fit_calibration
from comemory.pseudo.holdout import hold_out
from comemory.train.cache import PreparedVideo
from comemory.train.recipe import Recipe
from comemory.video.still import fit_threshold

MOST_USUAL = 800
"""Frames that say what is usual at each place."""


def split(
    videos: Sequence[PreparedVideo], share: float, n_past: int
) -> tuple[list[PreparedVideo], list[PreparedVideo]]:
    """Keep part of the ordinary video back for the calibration.

    See `pseudo.holdout.hold_out` for the rule.

    Returns:
        Videos to train on and videos held out; no frame is in both.
    """
    counts = [len(video.indices) for video in videos]
    clips = [len(video.newest(n_past)) for video in videos]
    trained, held = ([_part(videos[i], part) for i, part in parts] for parts in hold_out(counts, share, n_past, clips))
    return trained, held


def _part(video: PreparedVideo, part: slice) -> PreparedVideo:
    return replace(video, pictures=video.pictures[part], flows=video.flows[part], indices=video.indices[part])


@torch.inference_mode()
def observe(
    model: Any,
    video: PreparedVideo,
    recipe: Recipe,
    on_frame: Callable[[], None] = lambda: None,
    newest: Sequence[int] | None = None,
) -> list[Mapping[str, NDArray[np.float32]]]:
    """The evidence maps of every clip of a video, in fp32 and one clip at a time, as a detector sees them.

    Args:
        newest: the clips that end at these frames alone.
    """
    items = [memory.items for memory in model.memories().values()]
    answers: list[Mapping[str, NDArray[np.float32]]] = []
    for last in video.newest(recipe.clips.n_past) if newest is None else newest:
        frames, flow = (torch.from_numpy(array[None]) for array in video.clip(last, recipe.clips))
        answered = model.observe(frames, flow, *items)
        answers.append({name: tensor.numpy() for name, tensor in answered.items() if not name.startswith("updated_")})
        on_frame()
    return answers


def calibrate(
    model: Any,
    videos: Sequence[PreparedVideo],
    recipe: Recipe,
    rate_hz: float,
    on_frame: Callable[[], None] = lambda: None,
    trained: Sequence[PreparedVideo] = (),
) -> Calibration:
    """Fit the calibration on held-out ordinary videos.

    Args:
        trained: the videos that were trained on; `MOST_USUAL` frames spread over them say what is usual at each place.
    """
    held = [observe(model, video, recipe, on_frame) for video in videos]
    fitted = fit_calibration(held, recipe.decision, rate_hz, trained=_spread(model, trained, recipe))
    return fitted.model_copy(update={"still": fit_threshold([video.pictures for video in videos])})


def _spread(model: Any, videos: Sequence[PreparedVideo], recipe: Recipe) -> list[Mapping[str, NDArray[np.float32]]]:
    """The memory distances of frames spread evenly over the videos."""
    places = [(video, newest) for video in videos for newest in video.newest(recipe.clips.n_past)]
    step = max(1, -(-len(places) // MOST_USUAL))
    chosen: dict[int, list[int]] = {}
    for video, newest in places[::step]:
        chosen.setdefault(id(video), []).append(newest)
    found = (maps for video in videos for maps in observe(model, video, recipe, newest=chosen.get(id(video), [])))
    return [{name: cells for name, cells in maps.items() if name.endswith("_distance")} for maps in found]
