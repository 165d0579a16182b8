"""One video of a dataset as it lies on disk, before its labels are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import LabelFile
from comemory.datasets.listing import count_frames, count_packets
from comemory.datasets.masks import Masks
from comemory.errors import DatasetError
from comemory.types import LabelledSource


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A video file or folder of pictures, with the files that its labels and masks are in.

    Attributes:
        name: unique in its split.
        path: of the video file or the folder of pictures.
        labels: the file of its frame labels; without one the masks give them.
        masks: its pixel masks.
    """

    name: str
    path: Path
    labels: LabelFile | None = None
    masks: Masks | None = None


def open_recording(recording: Recording) -> LabelledSource:
    """Read the labels of a recording.

    Raises:
        DatasetError: the labels or masks cannot be read, or there are more or fewer of them than frames.
    """
    path, masks = recording.path, recording.masks
    n_frames = count_frames(path)
    if recording.labels is None and masks is None:
        return LabelledSource(recording.name, str(path), n_frames)
    if n_frames is None:
        n_frames = count_packets(path)
    labels = read_labels(recording, n_frames)
    for count, what in ((count_labels(labels), "labels"), (None if masks is None else len(masks), "masks")):
        if problem := count_mismatch(recording, n_frames, count, what):
            raise DatasetError(problem)
    return LabelledSource(recording.name, str(path), n_frames, labels, None if masks is None else masks.__getitem__)


def read_labels(recording: Recording, n_frames: int | None) -> NDArray[np.bool_] | None:
    """The frame labels of a recording, from its label file, else from its masks; None when it has neither."""
    if recording.labels:
        return recording.labels.read(n_frames)
    masks = recording.masks
    if masks is None:
        return None
    return np.fromiter((masks[index].any() for index in range(len(masks))), np.bool_, len(masks))


def count_labels(labels: NDArray[np.bool_] | None) -> int | None:
    """How many labels there are; None when there are none at all."""
    return None if labels is None else len(labels)


def count_mismatch(recording: Recording, n_frames: int | None, count: int | None, what: str) -> str | None:
    """What to say when a recording has more or fewer labels or masks than frames; None when there is nothing to say."""
    if n_frames is None or count is None or n_frames == count:
        return None
    place = recording.masks if what == "masks" or recording.labels is None else recording.labels
    where = "" if place is None else f" in {place.path}"
    return (
        f"{recording.path}: has {n_frames} frames, but there are {count} {what}{where}; get both from the same release"
    )
