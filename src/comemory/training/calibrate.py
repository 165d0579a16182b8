"""From a trained model to its calibration, on ordinary video that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comemory.clips.static_gate import fit_threshold
from comemory.scoring import Calibration, fit_calibration, needed_evidence
from comemory.training.cache import PreparedVideo
from comemory.training.config import Recipe
from comemory.training.split import hold_out, spread

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
    trained, held = ([videos[i].part(part) for i, part in parts] for parts in hold_out(counts, share, n_past, clips))
    return trained, held


def observe(
    model: Any,
    video: PreparedVideo,
    recipe: Recipe,
    on_frame: Callable[[], None] = lambda: None,
    newest: Sequence[int] | None = None,
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    """The evidence maps of every clip of a video, in fp32 and one clip at a time, as a detector sees them.

    Args:
        newest: the clips that end at these frames alone.
    """
    items = [memory.items for memory in model.memories().values()]
    for last in video.newest(recipe.clips.n_past) if newest is None else newest:
        frames, flow = (torch.from_numpy(array[None]) for array in video.clip(last, recipe.clips))
        with torch.inference_mode():
            answered = model.observe(frames, flow, *items)
        maps = {name: tensor.numpy() for name, tensor in answered.items() if not name.startswith("updated_")}
        yield {**maps, **video.evidence(last)}
        on_frame()


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
        trained: the videos that were trained on; `MOST_USUAL` frames spread over them say what is usual at each place, and
            alarms are counted on the frames of some too, see `counted_on`.
    """
    held = [list(observe(model, video, recipe, on_frame)) for video in videos]
    seen = (observe(model, video, recipe, on_frame) for video in counted_on(trained))
    fitted = fit_calibration(held, recipe.decision, rate_hz, trained=_spread(model, trained, recipe), seen=seen)
    return fitted.model_copy(update={"still": fit_threshold([video.pictures for video in videos])})


def counted_on(trained: Sequence[PreparedVideo]) -> Sequence[PreparedVideo]:
    """The videos trained on that alarms are counted on; see `pseudo.holdout.spread`."""
    return trained[spread([len(video.indices) for video in trained])]


def n_observed(held: Sequence[PreparedVideo], trained: Sequence[PreparedVideo], n_past: int) -> int:
    """The frames of which `calibrate` tells."""
    return sum(len(video.newest(n_past)) for video in (*held, *counted_on(trained)))


def _spread(model: Any, videos: Sequence[PreparedVideo], recipe: Recipe) -> list[Mapping[str, NDArray[np.float32]]]:
    """The evidence of frames spread evenly over the videos, as far as what is usual is taken from it."""
    needed = needed_evidence(recipe.decision)
    if not needed:
        return []
    places = [(video, newest) for video in videos for newest in video.newest(recipe.clips.n_past)]
    step = max(1, -(-len(places) // MOST_USUAL))
    chosen: dict[int, list[int]] = {}
    for video, newest in places[::step]:
        chosen.setdefault(id(video), []).append(newest)
    found = (maps for video in videos for maps in observe(model, video, recipe, newest=chosen.get(id(video), [])))
    return [{name: maps[name] for name in needed & set(maps)} for maps in found]
