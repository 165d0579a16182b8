"""One video of a data set with the files of its labels and masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import LabelFile
from comemory.datasets.listing import count_frames
from comemory.datasets.masks import Masks
from comemory.datasets.video_scan import scan_recording
from comemory.errors import DatasetError, SourceError
from comemory.types import LabelledSource
from comemory.video.source import open_source


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A video file or folder of images, with the files that hold its labels and masks.

    Attributes:
        name: unique in its split.
        path: the video file or the folder of images.
        labels: the file of its frame labels; None takes the labels from the masks.
        masks: its pixel masks.
    """

    name: str
    path: Path
    labels: LabelFile | None = None
    masks: Masks | None = None


def open_recording(recording: Recording) -> LabelledSource:
    """Read the labels of a recording and check that they and the masks fit its frames.

    Raises:
        DatasetError: labels or masks cannot be read, are more or fewer than the frames, or the masks have another size.
    """
    path, masks = recording.path, recording.masks
    n_frames = count_frames(path)
    labels = read_labels(recording, n_frames)
    counts = [(count_labels(labels), "labels"), (None if masks is None else len(masks), "masks")]
    if any(count not in (None, n_frames) for count, _ in counts):
        n_frames = scan_recording(path).n_frames  # the header does not say, or is wrong
    for count, what in counts:
        if problem := count_mismatch(recording, n_frames, count, what):
            raise DatasetError(problem)
    if masks is None:
        return LabelledSource(recording.name, str(path), n_frames, labels)
    _check_mask_size(masks, path)
    return LabelledSource(recording.name, str(path), n_frames, labels, masks.__getitem__)


def _check_mask_size(masks: Masks, path: Path) -> None:
    """Refuse masks whose size is not that of the upright frames, by the first mask and the first frame."""
    try:
        frame_size = open_source(path).size
    except SourceError:
        return  # scoring the recording will name what is wrong with it
    if frame_size is None or not len(masks):
        return
    if (size := masks[0].shape) != frame_size:
        raise DatasetError(
            f"{masks.path}: the masks are {size[1]}x{size[0]}, but the frames {frame_size[1]}x{frame_size[0]}"
        )


def read_labels(recording: Recording, n_frames: int | None) -> NDArray[np.bool_] | None:
    """The frame labels of a recording, from its label file, else from its masks; None if it has neither."""
    if recording.labels:
        return recording.labels.read(n_frames)
    masks = recording.masks
    if masks is None:
        return None
    return np.fromiter((masks[index].any() for index in range(len(masks))), np.bool_, len(masks))


def count_labels(labels: NDArray[np.bool_] | None) -> int | None:
    """Number of labels; None if the recording has none."""
    return None if labels is None else len(labels)


def count_mismatch(recording: Recording, n_frames: int | None, count: int | None, what: str) -> str | None:
    """A problem if a recording has more or fewer labels or masks than frames, else None."""
    if n_frames is None or count is None or n_frames == count:
        return None
    place = recording.masks if what == "masks" or recording.labels is None else recording.labels
    where = "" if place is None else f" in {place.path}"
    return (
        f"{recording.path}: has {n_frames} frames, but there are {count} {what}{where}; get both from the same release"
    )
