"""Checks every frame, label and mask of a recording; each problem is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import LabelError
from comemory.datasets.listing import format_numbers, format_ranges, is_folder, last_number, list_images
from comemory.datasets.recording import Recording, count_labels, count_mismatch, read_labels
from comemory.datasets.video_scan import Size, VideoScan, scan_recording
from comemory.errors import DatasetError


@dataclass(slots=True)
class InspectionResult:
    """What has been found so far; see `comemory.types.DataCheck`."""

    found: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_error(self, error: DatasetError) -> None:
        """Add an error as problems, one line each."""
        self.problems.extend(error.lines if isinstance(error, LabelError) else [str(error)])


def inspect_recording(
    recording: Recording, split: str, findings: InspectionResult, *, numbered: bool, rate_hz: float | None = None
) -> None:
    """Decode a recording frame by frame and compare its labels and masks with it.

    Args:
        recording: what to inspect.
        split: `training` or `testing`.
        findings: receives what is found.
        numbered: whether a gap in the numbers of image files is a problem; otherwise it is a note.
        rate_hz: frames per second of a folder of images; None if not known.
    """
    with _quiet_opencv():
        path = recording.path
        scan = scan_recording(path)
        findings.problems.extend([*scan.problems, *scan.size_problems(path)])
        if is_folder(path):
            (findings.problems if numbered else findings.notes).extend(_numbering(path, strict=numbered))
        findings.found[f"{split} videos"] += 1
        findings.found[f"{split} frames"] += scan.n_frames
        footage = f"{split} footage"
        findings.seconds[footage] = findings.seconds.get(footage, 0.0) + _duration_s(scan, rate_hz)
        labels = _inspect_labels(recording, scan.n_frames, findings)
        if labels is not None:
            findings.found["abnormal frames"] += int(labels.sum())
        _inspect_masks(recording, scan, labels, findings)


def _duration_s(scan: VideoScan, rate_hz: float | None) -> float:
    """How long a recording is, in seconds; 0 for a folder of images of unknown rate."""
    if scan.times_s is None:
        return scan.n_frames / rate_hz if rate_hz else 0.0
    gaps_s = np.diff(scan.times_s)
    return float(scan.times_s[-1] + np.median(gaps_s)) if len(gaps_s) else 0.0


def _numbering(folder: Path, *, strict: bool) -> Iterator[str]:
    """A line for each irregularity in the numbers of a folder's image files."""
    try:
        files = list_images(folder)
    except DatasetError:
        return  # named already
    numbers = Counter(value for file in files if (value := last_number(file.stem)) is not None)
    if not numbers:
        return
    rising = sorted(numbers)
    if strict and rising[0] > 1:
        yield f"{folder}: the numbering of its images starts at {rising[0]}, expected 0 or 1"
    gaps = [(a + 1, b - 1) for a, b in pairwise(rising) if b > a + 1]
    if gaps:
        yield f"{folder}: the numbering of its images lacks {format_ranges(gaps)}"
    twice = [value for value in rising if numbers[value] > 1]
    if twice:
        yield f"{folder}: several images have the number {format_numbers(twice)}"


def _inspect_labels(recording: Recording, n_frames: int, findings: InspectionResult) -> NDArray[np.bool_] | None:
    """The labels, if they can be read and are as many as the frames."""
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
    recording: Recording, scan: VideoScan, labels: NDArray[np.bool_] | None, findings: InspectionResult
) -> None:
    masks, n_frames, size = recording.masks, scan.n_frames, scan.size
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
    """Silence OpenCV's own messages: each image that cannot be read is reported as a problem."""
    logging = getattr(cv2.utils, "logging", cv2)
    before = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(before)
