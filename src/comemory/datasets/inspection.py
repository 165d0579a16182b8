"""Look at every frame, label and mask of a recording and say everything that is wrong, one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import LabelError
from comemory.datasets.listing import count_packets, format_numbers, format_ranges, is_folder, last_number, list_images
from comemory.datasets.masks import read_image
from comemory.datasets.recording import Recording, count_labels, count_mismatch, read_labels
from comemory.errors import DatasetError
from comemory.video.formats import MAX_PIXELS, open_file

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(slots=True)
class Findings:
    """What has been found so far, see `comemory.types.DataCheck`."""

    found: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_error(self, error: DatasetError) -> None:
        """Keep an error as problems, one line each."""
        self.problems.extend(error.lines if isinstance(error, LabelError) else [str(error)])


def inspect_recording(recording: Recording, split: str, findings: Findings, *, numbered: bool) -> None:
    """Decode a recording frame by frame and hold its labels and masks against it.

    Args:
        recording: what to look at.
        split: `training` or `testing`.
        findings: what is found is added here.
        numbered: whether the names of pictures must count without a gap; otherwise gaps are notes.
    """
    with _quiet_opencv():
        sizes = _Sizes(recording.path)
        if is_folder(recording.path):
            n_frames = _inspect_pictures(recording.path, sizes, findings, numbered)
        else:
            n_frames = _inspect_video(recording.path, sizes, findings)
        findings.problems.extend(sizes.problems())
        findings.found[f"{split} videos"] += 1
        findings.found[f"{split} frames"] += n_frames
        labels = _inspect_labels(recording, n_frames, findings)
        if labels is not None:
            findings.found["abnormal frames"] += int(labels.sum())
        _inspect_masks(recording, n_frames, sizes.first, labels, findings)


class _Sizes:
    """The size of the first frame, and which frames had another."""

    def __init__(self, path: Path) -> None:
        self.first: Size | None = None
        self._path = path
        self._others: dict[Size, list[str]] = {}

    def add(self, size: Size, frame: str) -> None:
        if self.first is None:
            self.first = size
        elif size != self.first:
            self._others.setdefault(size, []).append(frame)

    def problems(self) -> Iterator[str]:
        width, height = self.first or (0, 0)
        for (other_width, other_height), frames in self._others.items():
            yield (
                f"{self._path}: {len(frames)} frames are {other_width}x{other_height}, first {frames[0]}, "
                f"but the clip began with {width}x{height}"
            )


def _inspect_pictures(folder: Path, sizes: _Sizes, findings: Findings, numbered: bool) -> int:
    try:
        files = list_images(folder)
    except DatasetError as error:
        findings.add_error(error)
        return 0
    if not files:
        findings.problems.append(f"{folder}: holds no pictures")
    (findings.problems if numbered else findings.notes).extend(_numbering(folder, files, strict=numbered))
    for file in files:
        try:
            height, width = read_image(file).shape[:2]
        except DatasetError as error:
            findings.add_error(error)
        else:
            sizes.add((width, height), file.name)
    return len(files)


def _numbering(folder: Path, files: list[Path], *, strict: bool) -> Iterator[str]:
    numbers = Counter(value for file in files if (value := last_number(file.stem)) is not None)
    if not numbers:
        return
    rising = sorted(numbers)
    if strict and rising[0] > 1:
        yield f"{folder}: the numbering of its pictures starts at {rising[0]}, expected 0 or 1"
    gaps = [(a + 1, b - 1) for a, b in pairwise(rising) if b > a + 1]
    if gaps:
        yield f"{folder}: the numbering of its pictures lacks {format_ranges(gaps)}"
    twice = [value for value in rising if numbers[value] > 1]
    if twice:
        yield f"{folder}: several pictures have the number {format_numbers(twice)}"


def _inspect_video(path: Path, sizes: _Sizes, findings: Findings) -> int:
    decoded, damaged = 0, []
    stated = None
    try:
        with open_file(str(path.absolute())) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError("there is no decoder for it")
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            stated = stream.frames or None
            for frame in container.decode(stream):
                sizes.add((frame.width, frame.height), f"frame {decoded}")
                if frame.is_corrupt:
                    damaged.append(decoded)
                decoded += 1
    except IndexError:
        findings.problems.append(f"{path}: holds no video")
        return 0
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, av.ArgumentError) and not decoded:
            findings.problems.append(f"{path}: holds no video")
            return 0
        where = f"cannot be decoded after frame {decoded - 1}" if decoded else "cannot be opened as a video"
        findings.problems.append(f"{path}: {where}: {getattr(error, 'strerror', None) or error}")
    stated = stated or count_packets(path)
    if stated is not None and stated != decoded:
        findings.problems.append(f"{path}: {decoded} frames can be decoded, but the file states {stated}")
    if damaged:
        findings.problems.append(f"{path}: {len(damaged)} frames are damaged: {format_numbers(damaged)}")
    return decoded


def _inspect_labels(recording: Recording, n_frames: int, findings: Findings) -> NDArray[np.bool_] | None:
    """The labels where they can be read and are as many as the frames."""
    if recording.labels is None and recording.masks is not None:
        return None
    try:
        labels = read_labels(recording, n_frames)
    except DatasetError as error:
        findings.add_error(error)
        return None
    if problem := count_mismatch(recording, n_frames, count_labels(labels), "labels"):
        findings.problems.append(problem)
        return None
    return labels


def _inspect_masks(
    recording: Recording, n_frames: int, size: Size | None, labels: NDArray[np.bool_] | None, findings: Findings
) -> None:
    masks = recording.masks
    if masks is None:
        return
    try:
        count = len(masks)
    except DatasetError as error:
        findings.add_error(error)
        return
    if problem := count_mismatch(recording, n_frames, count, "masks"):
        findings.problems.append(problem)
    differ, other_sizes, abnormal = [], Counter[Size](), 0
    for index in range(count):
        try:
            mask = masks[index]
        except DatasetError as error:
            findings.add_error(error)
            continue
        abnormal += int(mask.any())
        other_sizes[(mask.shape[1], mask.shape[0])] += 1
        if labels is not None and index < len(labels) and bool(mask.any()) != labels[index]:
            differ.append(index)
    for (width, height), times in other_sizes.items():
        if size is not None and (width, height) != size:
            findings.problems.append(
                f"{masks.path}: {times} masks are {width}x{height}, but the frames {size[0]}x{size[1]}"
            )
    if differ and recording.labels:
        findings.problems.append(
            f"{masks.path}: the masks and {recording.labels.path} disagree on {len(differ)} of {n_frames} frames, "
            f"counted from 0: {format_numbers(differ)}"
        )
    if recording.labels is None:
        findings.found["abnormal frames"] += abnormal


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from printing its own lines about pictures that are named as problems anyway."""
    logging = getattr(cv2.utils, "logging", cv2)
    before = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(before)
