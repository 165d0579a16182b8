"""From a trained model to its calibration, on normal video that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comemory.clips.static_gate import fit_threshold
from comemory.scoring import Calibration, evidence_to_normalise, fit_calibration
from comemory.training.cache import PreparedVideo
from comemory.training.config import TrainingConfig
from comemory.training.split import evenly_spaced, split_frames

MAX_BASELINE_FRAMES = 800
"""About so many training frames are enough for the spatial baselines, which are quantiles at each place."""


def split_videos(
    videos: Sequence[PreparedVideo], share: float, n_past: int
) -> tuple[list[PreparedVideo], list[PreparedVideo]]:
    """Split prepared videos into training and calibration, see `split.split_frames`.

    Returns:
        Videos to train on and videos held out for the calibration; no frame is in both.
    """
    n_frames = [len(video.indices) for video in videos]
    n_clips = [len(video.clip_ends(n_past)) for video in videos]
    trained, held_out = (
        [videos[i].part(frames) for i, frames in parts] for parts in split_frames(n_frames, share, n_past, n_clips)
    )
    return trained, held_out


def infer_evidence(
    model: Any,
    video: PreparedVideo,
    config: TrainingConfig,
    on_frame: Callable[[], None] = lambda: None,
    clip_ends: Sequence[int] | None = None,
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    """The evidence of the clips of a video, in fp32 and one clip at a time, as a detector computes it.

    Args:
        clip_ends: the clips that end at these frames; None takes all of them.
    """
    items = [memory.items for memory in model.memories().values()]
    for end in video.clip_ends(config.clips.n_past) if clip_ends is None else clip_ends:
        frames, flow = (torch.from_numpy(array[None]) for array in video.clip(end, config.clips))
        with torch.inference_mode():
            outputs = model.infer(frames, flow, *items)
        evidence = {name: tensor.numpy() for name, tensor in outputs.items() if not name.startswith("updated_")}
        yield {**evidence, **video.evidence(end)}
        on_frame()


def calibrate(
    model: Any,
    held_out: Sequence[PreparedVideo],
    config: TrainingConfig,
    rate_hz: float,
    on_frame: Callable[[], None] = lambda: None,
    trained: Sequence[PreparedVideo] = (),
) -> Calibration:
    """Fit the calibration on held-out normal video.

    Args:
        held_out: videos that were not trained on.
        rate_hz: frames per second of the videos.
        on_frame: called for each of `n_calibration_frames`.
        trained: videos that were trained on. `MAX_BASELINE_FRAMES` frames spread over them give the spatial baselines,
            and alarms are counted on some of them too, see `alarm_count_videos`.

    Raises:
        ConfigError: fewer than 20 held-out frames, or a channel whose evidence the model does not give.
    """
    evidence = [list(infer_evidence(model, video, config, on_frame)) for video in held_out]
    counted = (infer_evidence(model, video, config, on_frame) for video in alarm_count_videos(trained))
    fitted = fit_calibration(
        evidence,
        config.scoring,
        rate_hz,
        baseline_frames=_baseline_evidence(model, trained, config),
        training_videos=counted,
    )
    return fitted.model_copy(update={"static_threshold": fit_threshold([video.images for video in held_out])})


def alarm_count_videos(trained: Sequence[PreparedVideo]) -> Sequence[PreparedVideo]:
    """The training videos on which alarms are counted, see `split.evenly_spaced`."""
    return trained[evenly_spaced([len(video.indices) for video in trained])]


def n_calibration_frames(held_out: Sequence[PreparedVideo], trained: Sequence[PreparedVideo], n_past: int) -> int:
    """How often `calibrate` calls `on_frame`."""
    return sum(len(video.clip_ends(n_past)) for video in (*held_out, *alarm_count_videos(trained)))


def _baseline_evidence(
    model: Any, videos: Sequence[PreparedVideo], config: TrainingConfig
) -> list[Mapping[str, NDArray[np.float32]]]:
    """The evidence that spatial baselines are fitted on, of frames spread evenly over the videos."""
    needed = evidence_to_normalise(config.scoring)
    if not needed:
        return []
    clips = [(number, end) for number, video in enumerate(videos) for end in video.clip_ends(config.clips.n_past)]
    step = max(1, -(-len(clips) // MAX_BASELINE_FRAMES))
    chosen: dict[int, list[int]] = {}
    for number, end in clips[::step]:
        chosen.setdefault(number, []).append(end)
    found = (
        evidence
        for number, ends in chosen.items()
        for evidence in infer_evidence(model, videos[number], config, clip_ends=ends)
    )
    return [{name: evidence[name] for name in needed & set(evidence)} for evidence in found]
