"""From prepared normal video to the memory of its scene: background, heights, and the objects that are normal in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from comemory.clips.config import ClipSettings
from comemory.scoring import NormalScene, ObjectEvidence, cell_flow
from comemory.scoring.directional import fit_directional_levels
from comemory.scoring.normal_objects import N_FEATURES, N_FOLDS, NormalObjects, fit_normal_objects
from comemory.scoring.object_evidence import to_grey
from comemory.scoring.objects import N_BACKGROUND_FRAMES, EmptyScene, MovingObject, fit_background, fit_heights
from comemory.training.cache import PreparedVideo

ObjectMaps = Mapping[str, NDArray[np.float32]]


N_PASSES = 3
"""How often `fit_normal_scene` reads the video."""


def fit_normal_scene(
    videos: Sequence[PreparedVideo],
    clips: ClipSettings,
    rate_hz: float,
    on_frame: Callable[[], None] = lambda: None,
) -> NormalScene:
    """Learn the scene and its normal objects.

    The heights are fitted on the objects of a first pass over the video, the memory of objects on those of a second one.

    Args:
        videos: normal training video.
        clips: how clips are made.
        rate_hz: frames per second.
        on_frame: called for each clip in each of `N_PASSES`.
    """
    levels = fit_directional_levels(cell_flow(flow) for video in videos for flow in _flows(video, clips, on_frame))
    background, noise = fit_background(_spread_images(videos))
    height, width = background.shape
    start = NormalScene(EmptyScene(background, noise, 0.2 * height, 0.0), np.array(levels, np.float32))
    offset, slope = fit_heights(_objects(videos, clips, start, rate_hz, on_frame), (height, width))
    memory = NormalScene(EmptyScene(background, noise, offset, slope), start.levels)
    features = np.concatenate([_features(video, clips, memory, rate_hz, on_frame) for video in videos])
    return NormalScene(memory.scene, memory.levels, _density(features))


def object_maps(
    video: PreparedVideo, clips: ClipSettings, memory: NormalScene | None, rate_hz: float
) -> Iterator[ObjectMaps]:
    """The evidence of moving objects of each clip of a video, in the order of `PreparedVideo.clip_ends`; none without a scene."""
    if memory is None:
        return repeat({})
    return (maps for _, _, maps in _follow(video, clips, memory, rate_hz))


def leave_one_out_scenes(
    videos: Sequence[PreparedVideo],
    clips: ClipSettings,
    memory: NormalScene,
    rate_hz: float,
    on_frame: Callable[[], None] = lambda: None,
) -> Iterator[NormalScene]:
    """For each training video, a memory without the objects of its fold: its own objects are then as far as new ones.

    Ours: an object is at distance 0 from itself, so a tail fitted with the whole memory would call every new object rare.
    `on_frame` is called for each clip.
    """
    features = [_features(video, clips, memory, rate_hz, on_frame) for video in videos]
    n_folds = min(N_FOLDS, len(videos))
    folds = [number * n_folds // max(1, len(videos)) for number in range(len(videos))]
    known: dict[int, NormalObjects] = {}
    for fold in folds:
        if fold not in known:
            others = [found for found, other in zip(features, folds, strict=True) if other != fold]
            known[fold] = _density(np.concatenate(others or features))
        yield NormalScene(memory.scene, memory.levels, known[fold])


def _density(features: NDArray[np.float32]) -> NormalObjects:
    """The memory of the objects; of one at rest in the middle where nothing ever moved, so that all that moves is new."""
    return fit_normal_objects(features if len(features) else np.zeros((1, N_FEATURES), np.float32))


def _follow(
    video: PreparedVideo, clips: ClipSettings, memory: NormalScene, rate_hz: float
) -> Iterator[tuple[int, ObjectEvidence, ObjectMaps]]:
    """The objects at the end of each clip, in order. After a gap the tracks start again, as in a detector."""
    evidence = ObjectEvidence(memory, rate_hz)
    previous = None
    for end in video.clip_ends(clips.n_past):
        if previous is not None and end != previous + 1:
            evidence.reset()
        previous = end
        found = evidence.update(np.asarray(video.images[end]), video.flow(end, clips), video.evidence(end))
        yield end, evidence, found


def _objects(
    videos: Sequence[PreparedVideo],
    clips: ClipSettings,
    memory: NormalScene,
    rate_hz: float,
    on_frame: Callable[[], None],
) -> Iterator[MovingObject]:
    for video in videos:
        for _, evidence, _ in _follow(video, clips, memory, rate_hz):
            on_frame()
            yield from evidence.objects


def _features(
    video: PreparedVideo, clips: ClipSettings, memory: NormalScene, rate_hz: float, on_frame: Callable[[], None]
) -> NDArray[np.float32]:
    """The features of all objects of a video. Shapes: float32 (K, F)."""
    found = [np.zeros((0, N_FEATURES), np.float32)]
    for _, evidence, _ in _follow(video, clips, memory, rate_hz):
        on_frame()
        if evidence.objects:
            found.append(evidence.features())
    return np.concatenate(found)


def _flows(video: PreparedVideo, clips: ClipSettings, on_frame: Callable[[], None]) -> Iterator[NDArray[np.float32]]:
    for end in video.clip_ends(clips.n_past):
        on_frame()
        yield video.flow(end, clips)


def _spread_images(videos: Sequence[PreparedVideo]) -> NDArray[np.uint8]:
    """About `N_BACKGROUND_FRAMES` grey images, spread over the videos. Shapes: uint8 (n, H, W)."""
    places = [(video, position) for video in videos for position in range(len(video.indices))]
    step = max(1, len(places) // N_BACKGROUND_FRAMES)
    return np.stack([to_grey(np.asarray(video.images[position])) for video, position in places[::step]])
