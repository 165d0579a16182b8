"""What can be said of training video before it is decoded: whether it is enough, and whether it is of one camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from comemory.datasets.video_scan import scan_recording
from comemory.errors import SourceError
from comemory.training.config import TrainingConfig
from comemory.training.split import MIN_CALIBRATION_CLIPS, split_frames
from comemory.types import LabelledSource
from comemory.video.source import open_source

SHAPE_TOLERANCE = 0.02
"""Relative difference up to which two shapes count as one: sizes are rounded to whole blocks."""


def clip_shortage(n_trained: int, n_held: int, batch: int) -> str | None:
    """One line where there is too little video for a training and its calibration, else None.

    Args:
        n_trained: clips to train on.
        n_held: clips that are held out for the calibration.
        batch: clips of a step.
    """
    if n_held >= MIN_CALIBRATION_CLIPS and n_trained >= batch:
        return None
    return (
        f"too little normal video: {n_trained} clips to train on and {n_held} held out for the calibration, at least "
        f"{batch} and {MIN_CALIBRATION_CLIPS} are needed: give more video, or change train.calibration_share"
    )


def footage_shortage(n_frames: Sequence[int], config: TrainingConfig) -> str | None:
    """`clip_shortage` of videos of so many frames, without gaps and at the rate of the training.

    >>> footage_shortage([120], TrainingConfig()), str(footage_shortage([60], TrainingConfig()))[:64]
    (None, 'too little normal video: 44 clips to train on and 8 held out for')
    """
    n_past = config.clips.n_past
    usable = [n for n in n_frames if n > n_past]
    parts = split_frames(usable, config.train.calibration_share, n_past) if usable else ([], [])
    n_trained, n_held = (sum(max(0, part.stop - part.start - n_past) for _, part in found) for found in parts)
    return clip_shortage(n_trained, n_held, config.train.batch)


def count_frames_exactly(video: LabelledSource) -> int:
    """Frames of a video, decoded where nothing states them and `data check` has not done so; 0 where it cannot be read."""
    if video.n_frames is not None:
        return video.n_frames
    if isinstance(video.source, str):
        return scan_recording(Path(video.source)).n_frames
    return sum(1 for _ in video.source)


def shape_note(videos: Sequence[LabelledSource]) -> str | None:
    """One line if the aspect ratios of the videos differ, as those of two cameras may; else None."""
    sizes = {video.name: size for video in videos if (size := _size(video)) is not None}
    shapes = [width / height for height, width in sizes.values()]
    if not shapes or max(shapes) <= min(shapes) * (1 + SHAPE_TOLERANCE):
        return None
    return f"the videos have different shapes: {_listed(sizes)}; a model is for one camera, train one for each"


def _size(video: LabelledSource) -> tuple[int, int] | None:
    with suppress(SourceError):
        return open_source(video.source).size
    return None


def _listed(sizes: Mapping[str, tuple[int, int]]) -> str:
    """The sizes, the most frequent first, each with its number of videos and the first of them."""
    first = {size: name for name, size in reversed(list(sizes.items()))}
    return ", ".join(
        f"{size[1]}x{size[0]} ({first[size]}{f' and {n - 1} more' if n > 1 else ''})"
        for size, n in Counter(sizes.values()).most_common()
    )
