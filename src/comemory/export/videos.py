"""The video that a bundle was trained on, found by its hash and split as the training split it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle
from comemory.datasets import open_dataset
from comemory.errors import BundleError, DatasetError, short_repr
from comemory.training.cache import PreparedVideo, content_sha256, prepare_videos
from comemory.training.footage_sampling import FootageSampling, trained_sampling
from comemory.training.split import evenly_spaced
from comemory.types import Clip, LabelledSource

N_QUANTISATION_CLIPS = 300
"""Clips from which the ranges of int8 are taken: NNCF's default number."""

Inputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ExportVideos:
    """Prepared video of a data set.

    Attributes:
        counted: parts that the network was trained on, as far as the calibration counts alarms on them.
        trained: all parts that it was trained on, where the objects in them take part in the fit; else as `counted`.
        held_out: parts that were held out for the calibration; no frame is in both.
        problems: one line for each frame or video that could not be used.
    """

    counted: Sequence[PreparedVideo]
    trained: Sequence[PreparedVideo]
    held_out: Sequence[PreparedVideo]
    problems: Sequence[str]


def prepare_training_videos(
    bundle: Bundle, data: str, cache: Path, flow_weights: str | None, on_frame: Callable[[], None]
) -> ExportVideos:
    """Find the video of the training and prepare what an export needs of it.

    Raises:
        DatasetError: it is not the video that the bundle was trained on.
        BundleError: the provenance does not say which video that was.
    """
    trained, held = _counts(bundle, "trained_on"), _counts(bundle, "held_out")
    every = open_dataset(data).training()
    sampling = trained_sampling(bundle, every)
    videos = [video for video in every if video.name in {**trained, **held}]
    content = hashlib.sha256("".join(content_sha256(video, data) for video in videos).encode()).hexdigest()
    if content != bundle.provenance.get("data_sha256"):
        raise DatasetError(
            f"{data} is not the video that {bundle.path} was trained on (its content differs): give the data set that "
            f"comemory info names, {short_repr(bundle.provenance.get('dataset'))}"
        )
    counted = list(trained)[evenly_spaced(list(trained.values()))]
    settings = bundle.calibration.settings
    needed = list(trained) if settings.needs_scene and settings.needs_network else counted
    wanted = {*held, *needed}
    prepared, problems = _prepare(
        [one for one in videos if one.name in wanted], bundle, data, cache, flow_weights, on_frame, sampling
    )
    parts: dict[bool, list[PreparedVideo]] = {True: [], False: []}
    for video in prepared:
        n_trained, n_held = trained.get(video.name, 0), held.get(video.name, 0)
        if len(video.indices) != n_trained + n_held:
            raise DatasetError(
                f"{video.name} of {data} has {len(video.indices)} frames, {n_trained + n_held} when {bundle.path} was "
                "trained: train it again"
            )
        if video.name in needed:
            parts[False].append(video.part(slice(0, n_trained)))
        parts[True].append(video.part(slice(n_trained, None)))
    whole = {kind: [part for part in found if part.clip_ends(bundle.clips.n_past)] for kind, found in parts.items()}
    of_counted = [part for part in whole[False] if part.name in counted]
    return ExportVideos(of_counted, whole[False], whole[True], problems)


def prepare_labelled_videos(
    bundle: Bundle, data: str, cache: Path, flow_weights: str | None, on_frame: Callable[[], None]
) -> tuple[list[tuple[PreparedVideo, NDArray[np.bool_]]], list[str]]:
    """The prepared test videos of a data set, each with the labels of its frames, and one line for each problem met.

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


def network_inputs(video: PreparedVideo, bundle: Bundle, step: int = 1) -> Iterator[Inputs]:
    """The inputs of the network for every `step`-th clip of a video."""
    for end in video.clip_ends(bundle.clips.n_past)[::step]:
        clip = Clip.from_arrays(*video.clip(end, bundle.clips))
        yield {**bundle.network.layout.build_inputs(clip), **bundle.items}


def quantisation_inputs(videos: ExportVideos, bundle: Bundle) -> list[Inputs]:
    """Inputs spread evenly over the training video, from which the ranges of int8 are taken."""
    n_clips = sum(len(video.clip_ends(bundle.clips.n_past)) for video in videos.counted)
    step = max(1, -(-n_clips // N_QUANTISATION_CLIPS))
    return [inputs for video in videos.counted for inputs in network_inputs(video, bundle, step)]


def _prepare(
    videos: Sequence[LabelledSource],
    bundle: Bundle,
    data: str,
    cache: Path,
    flow_weights: str | None,
    on_frame: Callable[[], None],
    sampling: Mapping[str, FootageSampling] | None = None,
) -> tuple[list[PreparedVideo], list[str]]:
    flow = bundle.flow.model_copy(update={"weights": flow_weights})
    return prepare_videos(
        videos,
        cache,
        bundle.clips,
        flow,
        dataset=data,
        rate_hz=bundle.calibration.rate_hz,
        sampling=sampling,
        on_frame=lambda name: on_frame(),
    )


def _counts(bundle: Bundle, key: str) -> Mapping[str, int]:
    counts = bundle.provenance.get(key)
    if not isinstance(counts, dict) or not counts or not all(type(n) is int and n >= 0 for n in counts.values()):
        raise BundleError(f"{bundle.path}/provenance.json does not say which video was {key}: train it again")
    return counts
