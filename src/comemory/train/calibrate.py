"""From a trained model to its calibration, on ordinary video that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comemory.decision import Calibration, fit_calibration
from comemory.train.cache import PreparedVideo
from comemory.train.recipe import Recipe

LEAST = 20
"""Held-out clips that a calibration takes at the least."""


def split(
    videos: Sequence[PreparedVideo], share: float, n_past: int
) -> tuple[list[PreparedVideo], list[PreparedVideo]]:
    """Keep part of the ordinary video back for the calibration.

    Whole videos, spread evenly, where there are enough of them; else the last part of every video that is long enough
    to be cut; else the last video. Never frames that were trained on, because a threshold fitted on them is too low.

    Returns:
        Videos to train on and videos held out; no frame is in both.
    """
    n_held = min(round(len(videos) * share), len(videos) - 1)
    if n_held >= 2:
        held = {round((i + 1) * len(videos) / n_held) - 1 for i in range(n_held)}
        whole = [video for i, video in enumerate(videos) if i in held]
        if sum(len(video.newest(n_past)) for video in whole) >= LEAST:
            return [video for i, video in enumerate(videos) if i not in held], whole
    trained, kept = [], []
    for video in videos:
        n_frames = len(video.indices)
        cut = min(n_frames - n_past - 1, round(n_frames * (1 - share)))
        if cut <= n_past:
            trained.append(video)
            continue
        trained.append(_part(video, slice(0, cut)))
        kept.append(_part(video, slice(cut, n_frames)))
    return (trained, kept) if kept else (trained[:-1], trained[-1:])


def _part(video: PreparedVideo, part: slice) -> PreparedVideo:
    return replace(video, pictures=video.pictures[part], flows=video.flows[part], indices=video.indices[part])


@torch.inference_mode()
def observe(
    model: Any, video: PreparedVideo, recipe: Recipe, on_frame: Callable[[], None] = lambda: None
) -> list[Mapping[str, NDArray[np.float32]]]:
    """The evidence maps of every clip of a video, in fp32 and one clip at a time, as a detector sees them."""
    items = [memory.items for memory in model.memories().values()]
    answers: list[Mapping[str, NDArray[np.float32]]] = []
    for newest in video.newest(recipe.clips.n_past):
        frames, flow = (torch.from_numpy(array[None]) for array in video.clip(newest, recipe.clips))
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
) -> Calibration:
    """Fit the calibration on held-out ordinary videos."""
    return fit_calibration([observe(model, video, recipe, on_frame) for video in videos], recipe.decision, rate_hz)
