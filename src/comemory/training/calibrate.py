"""From a trained model to its calibration, on normal video that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comemory.clips.static_gate import fit_threshold
from comemory.scoring import Calibration, NormalScene, SpatialBaseline, evidence_to_normalise, fit_calibration
from comemory.scoring.spatial_baseline import DIRECTIONAL
from comemory.training.cache import PreparedVideo
from comemory.training.config import TrainingConfig
from comemory.training.scene import N_PASSES, ObjectMaps, fit_normal_scene, leave_one_out_scenes, object_maps
from comemory.training.split import evenly_spaced, split_frames

MAX_BASELINE_FRAMES = 800
"""Training frames for the spatial baselines. About this many are enough for quantiles at each place."""


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
    objects: Iterable[ObjectMaps] | None = None,
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    """The evidence of the clips of a video, in fp32 and one clip at a time, as a detector computes it.

    Args:
        model: the network.
        video: prepared frames and flow.
        config: of the training.
        on_frame: called for each clip.
        clip_ends: the clips that end at these frames; None takes all of them.
        objects: the evidence of moving objects of each of these clips, see `scene.object_maps`; none without it.
    """
    items = [memory.items for memory in model.memories().values()]
    ends = video.clip_ends(config.clips.n_past) if clip_ends is None else clip_ends
    for end, found in zip(ends, repeat({}) if objects is None else objects, strict=False):
        frames, flow = (torch.from_numpy(array[None]) for array in video.clip(end, config.clips))
        with torch.inference_mode():
            outputs = model.infer(frames, flow, *items)
        evidence = {name: tensor.numpy() for name, tensor in outputs.items() if not name.startswith("updated_")}
        yield {**evidence, **video.evidence(end), **found}
        on_frame()


def calibrate(
    model: Any,
    held_out: Sequence[PreparedVideo],
    config: TrainingConfig,
    rate_hz: float,
    on_frame: Callable[[], None] = lambda: None,
    trained: Sequence[PreparedVideo] = (),
    scene: NormalScene | None = None,
) -> Calibration:
    """Fit the calibration on held-out normal video.

    Args:
        model: the network.
        held_out: videos that were not trained on.
        config: of the training.
        rate_hz: frames per second of the videos.
        on_frame: called for each of `n_calibration_frames`.
        trained: videos that were trained on. `MAX_BASELINE_FRAMES` frames spread over them give the spatial baselines,
            and alarms are counted on some of them too, see `alarm_count_videos`.
        scene: fitted on `held_out` and `trained`, where a channel needs it, see `needed_scene`.

    Raises:
        ConfigError: fewer than 20 held-out frames, or a channel whose evidence the model does not give.
    """
    counted_videos = alarm_count_videos(trained)
    objects, known = _left_out_objects(held_out, trained, counted_videos, config, rate_hz, scene, on_frame)
    # `objects` is of the held-out videos first, and the calibration measures those first.
    evidence, counted = (
        (infer_evidence(model, video, config, on_frame, objects=next(objects)) for video in videos)
        for videos in (held_out, counted_videos)
    )
    fitted = fit_calibration(
        evidence,
        config.scoring,
        rate_hz,
        baseline_frames=_baseline_evidence(model, trained, config),
        known_baselines=known,
        training_videos=counted,
    )
    return fitted.model_copy(update={"static_threshold": fit_threshold([video.images for video in held_out])})


def needed_scene(
    videos: Sequence[PreparedVideo],
    config: TrainingConfig,
    rate_hz: float,
    on_frame: Callable[[], None] = lambda: None,
) -> NormalScene | None:
    """The scene of normal video, if a channel measures moving objects.

    Args:
        videos: all of it, the held-out part too: no network is fitted to it, and tails are fitted on objects that were
            left out in turn.
        config: of the training.
        rate_hz: frames per second.
        on_frame: called for each of `n_scene_frames`.
    """
    return fit_normal_scene(videos, config.clips, rate_hz, on_frame) if config.scoring.needs_scene else None


def n_scene_frames(videos: Sequence[PreparedVideo], config: TrainingConfig) -> int:
    """How often `needed_scene` calls `on_frame`."""
    return N_PASSES * _n_clips(videos, config.clips.n_past) if config.scoring.needs_scene else 0


def _n_clips(videos: Sequence[PreparedVideo], n_past: int) -> int:
    return sum(len(video.clip_ends(n_past)) for video in videos)


def _left_out_objects(
    held_out: Sequence[PreparedVideo],
    trained: Sequence[PreparedVideo],
    counted: Sequence[PreparedVideo],
    config: TrainingConfig,
    rate_hz: float,
    scene: NormalScene | None,
    on_frame: Callable[[], None],
) -> tuple[Iterator[Iterator[ObjectMaps]], dict[str, SpatialBaseline]]:
    """The object maps of the held-out videos and then of the counted ones, each as if its objects were new.

    Returns:
        The maps of each video, clip by clip, and the baselines of the scene. Without a scene the maps are empty.
    """
    asked = [*held_out, *counted]
    if scene is None:
        return (object_maps(video, config.clips, None, rate_hz) for video in asked), {}
    videos = [*held_out, *trained]
    memories = list(leave_one_out_scenes(videos, config.clips, scene, rate_hz, on_frame))
    of_video = {id(video): memory for video, memory in zip(videos, memories, strict=True)}
    maps = (object_maps(video, config.clips, of_video[id(video)], rate_hz) for video in asked)
    levels = tuple(tuple(row) for row in scene.levels.astype(float).tolist())
    return maps, {DIRECTIONAL: SpatialBaseline(levels=levels)}


def alarm_count_videos(trained: Sequence[PreparedVideo]) -> Sequence[PreparedVideo]:
    """The training videos on which alarms are counted, see `split.evenly_spaced`."""
    return trained[evenly_spaced([len(video.indices) for video in trained])]


def n_calibration_frames(
    held_out: Sequence[PreparedVideo], trained: Sequence[PreparedVideo], config: TrainingConfig
) -> int:
    """How often `calibrate` calls `on_frame`."""
    followed = [*held_out, *trained] if config.scoring.needs_scene else []
    return _n_clips([*followed, *held_out, *alarm_count_videos(trained)], config.clips.n_past)


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
