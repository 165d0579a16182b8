"""The video that a bundle was trained on, once more: told by its hash, cut where the training cut it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle
from comemory.datasets import open_dataset
from comemory.errors import BundleError, DatasetError, short
from comemory.training.cache import PreparedVideo, content_hash, prepare_videos
from comemory.training.split import spread
from comemory.types import Clip, LabelledSource

N_RANGE_CLIPS = 300
"""Clips that the ranges of int8 are taken from."""

Inputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Footage:
    """Prepared video of a data set.

    Attributes:
        trained: parts that the network was trained on: those that the calibration counts alarms on.
        held: parts that were kept back for the calibration; no frame is in both.
        problems: one line for each frame or video that could not be used.
    """

    trained: Sequence[PreparedVideo]
    held: Sequence[PreparedVideo]
    problems: Sequence[str]


def training_footage(
    bundle: Bundle, data: str, cache: Path, flow_weights: str | None, on_frame: Callable[[], None]
) -> Footage:
    """Find the training's video again and prepare what an export needs of it.

    Raises:
        DatasetError: it is not the video that the bundle was trained on. BundleError: the bundle does not say which it was.
    """
    trained, held = _counts(bundle, "trained_on"), _counts(bundle, "held_out")
    videos = [video for video in open_dataset(data).training() if video.name in {**trained, **held}]
    content = hashlib.sha256("".join(content_hash(video, data) for video in videos).encode()).hexdigest()
    if content != bundle.provenance.get("data_sha256"):
        raise DatasetError(
            f"{data} is not the video that {bundle.path} was trained on (its content differs): give the data set that "
            f"comemory info names, {short(bundle.provenance.get('dataset'))}"
        )
    counted = list(trained)[spread(list(trained.values()))]
    wanted = {*held, *counted}
    prepared, problems = _prepare(
        [one for one in videos if one.name in wanted], bundle, data, cache, flow_weights, on_frame
    )
    parts: dict[bool, list[PreparedVideo]] = {True: [], False: []}
    for video in prepared:
        n_trained, n_held = trained.get(video.name, 0), held.get(video.name, 0)
        if len(video.indices) != n_trained + n_held:
            raise DatasetError(
                f"{video.name} of {data} has {len(video.indices)} frames, {n_trained + n_held} when {bundle.path} was "
                "trained: train it anew"
            )
        if video.name in counted:
            parts[False].append(video.part(slice(0, n_trained)))
        parts[True].append(video.part(slice(n_trained, None)))
    whole = {kind: [part for part in found if part.newest(bundle.clips.n_past)] for kind, found in parts.items()}
    return Footage(whole[False], whole[True], problems)


def checking_footage(
    bundle: Bundle, data: str, cache: Path, flow_weights: str | None, on_frame: Callable[[], None]
) -> tuple[list[tuple[PreparedVideo, NDArray[np.bool_]]], list[str]]:
    """The labelled test videos of a data set, prepared, each with the labels of its frames.

    Raises:
        DatasetError: none of them has labels.
    """
    videos = {video.name: video for video in open_dataset(data).testing() if video.labels is not None}
    if not videos:
        raise DatasetError(f"{data} has no labelled test video to check the export on")
    prepared, problems = _prepare(list(videos.values()), bundle, data, cache, flow_weights, on_frame)
    found = []
    for video in prepared:
        labels = videos[video.name].labels
        if labels is None or len(labels) <= int(video.indices[-1]):
            problems.append(f"{video.name}: more frames than labels")
            continue
        found.append((video, np.asarray(labels, np.bool_)[video.indices]))
    return found, problems


def clips_of(video: PreparedVideo, bundle: Bundle, step: int = 1) -> Iterator[Inputs]:
    """The network's inputs for the clips of a video, every `step`-th of them."""
    for newest in video.newest(bundle.clips.n_past)[::step]:
        clip = Clip.of(*video.clip(newest, bundle.clips))
        yield {**bundle.network.squares.inputs(clip), **bundle.items}


def range_clips(footage: Footage, bundle: Bundle) -> list[Inputs]:
    """Clips spread evenly over what was trained on, to take the ranges of int8 from."""
    n_clips = sum(len(video.newest(bundle.clips.n_past)) for video in footage.trained)
    step = max(1, -(-n_clips // N_RANGE_CLIPS))
    return [inputs for video in footage.trained for inputs in clips_of(video, bundle, step)]


def _prepare(
    videos: Sequence[LabelledSource],
    bundle: Bundle,
    data: str,
    cache: Path,
    flow_weights: str | None,
    on_frame: Callable[[], None],
) -> tuple[list[PreparedVideo], list[str]]:
    flow = bundle.flow.model_copy(update={"weights": flow_weights})
    return prepare_videos(
        videos,
        cache,
        bundle.clips,
        flow,
        dataset=data,
        rate_hz=bundle.calibration.rate_hz,
        on_frame=lambda name: on_frame(),
    )


def _counts(bundle: Bundle, key: str) -> Mapping[str, int]:
    counts = bundle.provenance.get(key)
    if not isinstance(counts, dict) or not counts or not all(type(n) is int and n >= 0 for n in counts.values()):
        raise BundleError(f"{bundle.path}/provenance.json does not say which video was {key}: train it anew")
    return counts
