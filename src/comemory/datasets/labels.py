"""Reads frame labels from the files of data sets: UCSD's `.m` and `.mat`, intervals in `.csv`, `.npy`."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.mat5 import read_cells
from comemory.datasets.npy import as_bool, open_npy
from comemory.errors import DatasetError, short_repr

MAX_LABEL_BYTES = 1 << 22
MAX_LINE = 4096
_UCSD_START = re.compile(r"TestVideoFile\s{0,8}=\s{0,8}\{\s{0,8}\}\s{0,8};?")
_UCSD_ENTRY = re.compile(r"TestVideoFile\{end\+1\}\.gt_frame\s{0,8}=\s{0,8}\[([0-9:,\s]*)\]\s{0,8};?")
_UCSD_RANGE = re.compile(r"([0-9]{1,7})(?::([0-9]{1,7}))?")
_FRAMES, _SECONDS = ["start_frame", "end_frame"], ["start_s", "end_s"]

TIME_TOLERANCE_S = 1e-3
"""Containers round the times of frames; Matroska and FLV to a millisecond."""

Interval = tuple[int, int]
"""The first and the last abnormal frame, counted from 0, both included."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelFile:
    """The file with the labels of one video, and how to read it.

    Attributes:
        path: the file, for messages.
        read: returns the bool labels of a video, given its number of frames or None. Raises DatasetError.
    """

    path: Path
    read: Callable[[int | None], NDArray[np.bool_]]


class LabelError(DatasetError):
    """A label file has several errors; `lines` has all of them, the text the first."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        super().__init__(f"{lines[0]}{more}")


def labels_from_intervals(intervals: Iterable[Interval], n_frames: int) -> NDArray[np.bool_]:
    """Frame labels from abnormal intervals.

    >>> labels_from_intervals([(1, 2)], 4).astype(int).tolist()
    [0, 1, 1, 0]
    """
    labels = np.zeros(n_frames, np.bool_)
    for start, end in intervals:
        labels[start : end + 1] = True
    return labels


def read_npy_labels(path: Path) -> NDArray[np.bool_]:
    """Read the labels of a `.npy` file of shape (frames,), (1, frames) or (frames, 1).

    Raises:
        DatasetError: not such a file, or a label that is not 0 or 1.
    """
    array = open_npy(path)
    if array.ndim not in (1, 2) or (array.ndim == 2 and 1 not in array.shape):
        raise DatasetError(f"{path}: holds an array of shape {array.shape}, expected one label for each frame")
    return as_bool(path, array.reshape(-1), "labels")


def read_ucsd_m(path: Path) -> list[list[Interval]]:
    """Read the abnormal intervals of every test clip from `UCSDped1.m` or `UCSDped2.m`.

    The file is MATLAB code. Only assignments of the one form that it uses are accepted; nothing is evaluated. Its frames
    are counted from 1, those returned from 0.

    Raises:
        DatasetError: a line of another form, or a range that ends before it starts.
    """
    clips: list[list[Interval]] = []
    problems: list[str] = []
    for place, line in enumerate(_read_text(path).splitlines(), start=1):
        code = line.split("%", 1)[0].strip()
        if not code or (_UCSD_START.fullmatch(code) and not clips):
            continue
        entry = _UCSD_ENTRY.fullmatch(code) if len(code) <= MAX_LINE else None
        intervals = _ucsd_intervals(entry[1]) if entry else None
        if intervals is None:
            wanted = "TestVideoFile{end+1}.gt_frame = [first:last];"
            problems.append(f"{path}: line {place} is {code[:60]!r}, expected {wanted}")
        clips.append(intervals or [])
    if problems:
        raise LabelError(problems)
    return clips


def _ucsd_intervals(text: str) -> list[Interval] | None:
    intervals = []
    for part in re.sub(r"\s?:\s?", ":", text).replace(",", " ").split():
        span = _UCSD_RANGE.fullmatch(part)
        if not span:
            return None
        first, last = int(span[1]), int(span[2] or span[1])
        if not 1 <= first <= last:
            return None
        intervals.append((first - 1, last - 1))
    return intervals


def read_ucsd_mat(path: Path) -> list[list[Interval]]:
    """Read the abnormal intervals of every test clip from the `ped1.mat` or `ped2.mat` that circulates with repositories.

    Its variable `gt` is a cell array with a matrix for each clip: first frames in the first row, last frames in the
    second, counted from 1. The intervals returned count from 0.

    Raises:
        DatasetError: another layout, or a range that ends before it starts.
    """
    return [_ucsd_ranges(path, number, cell) for number, cell in enumerate(read_cells(path, "gt"), start=1)]


def _ucsd_ranges(path: Path, number: int, cell: NDArray[Any]) -> list[Interval]:
    if cell.size == 0:
        return []
    if cell.shape == (1, 2):
        cell = cell.T  # a single range may lie on its side
    if cell.ndim != 2 or cell.shape[0] != 2:
        raise DatasetError(f"{path}: cell {number} of gt has the shape {cell.shape}, expected (2, ranges)")
    ranges = cell.astype(np.float64)
    first, last = ranges
    if not (
        np.isfinite(ranges).all() and (ranges == np.floor(ranges)).all() and ((first >= 1) & (first <= last)).all()
    ):
        raise DatasetError(f"{path}: cell {number} of gt is no list of frame ranges: {short_repr(cell.tolist())}")
    return [(int(start) - 1, int(end) - 1) for start, end in zip(first, last, strict=True)]


def read_intervals(path: Path, n_frames: int, times_s: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """Read labels from a CSV file of abnormal intervals, `start_frame,end_frame` or `start_s,end_s`.

    Frames are counted from 0 and both ends are abnormal. Seconds count from the first frame; every frame shown between
    the two is abnormal.

    Args:
        path: the file; a header without rows means that the whole video is normal.
        n_frames: frames of the video.
        times_s: when each frame is shown, in seconds from the first, rising; needed only for intervals in seconds.

    Raises:
        DatasetError: another header, or rows that are not two numbers, are NaN or negative, end before they start, or reach
            beyond the video. Each such row is named.
    """
    lines = _read_text(path).splitlines()
    try:
        rows = [(place, [cell.strip() for cell in row]) for place, row in enumerate(csv.reader(lines), start=1)]
    except csv.Error as error:
        raise DatasetError(f"{path}: is not a CSV file: {error}") from None
    rows = [(place, row) for place, row in rows if any(row)]
    header = rows[0][1] if rows else []
    if header not in (_FRAMES, _SECONDS):
        raise DatasetError(
            f"{path}: starts with {','.join(header)[:60]!r}, expected start_frame,end_frame or start_s,end_s"
        )
    if header == _SECONDS and times_s is None:
        raise DatasetError(f"{path}: gives seconds, but a folder of images has no times; use start_frame,end_frame")
    times = times_s if header == _SECONDS else None
    intervals: list[Interval] = []
    problems: list[str] = []
    for place, row in rows[1:]:
        interval = _interval(row, n_frames, times)
        if interval is None:
            continue  # between two frames
        if isinstance(interval, str):
            problems.append(f"{path}: line {place} is {','.join(row)[:60]!r}: {interval}")
        else:
            intervals.append(interval)
    if problems:
        raise LabelError(problems)
    return labels_from_intervals(intervals, n_frames)


def _interval(row: list[str], n_frames: int, times_s: NDArray[np.float64] | None) -> Interval | str | None:
    """The interval in a row, what is wrong with it, or None if it lies between two frames."""
    if len(row) != 2:
        return "expected two values, the start and the end"
    try:
        start, end = float(row[0]), float(row[1])
    except ValueError:
        return "expected two numbers"
    if not (math.isfinite(start) and math.isfinite(end)):
        return "expected two finite numbers"
    if start < 0:
        return "the start is negative"
    if end < start:
        return "the end is before the start"
    if times_s is None:
        if not (start.is_integer() and end.is_integer()):
            return "expected whole frame numbers"
        return (int(start), int(end)) if end < n_frames else f"the video has {n_frames} frames, 0 to {n_frames - 1}"
    gaps_s = np.diff(times_s)
    last_s = float(np.median(gaps_s)) if len(gaps_s) else 0.0
    if end > (ends_s := float(times_s[-1]) + last_s) + TIME_TOLERANCE_S:
        return f"the video ends at {ends_s:.3f} s"
    first, past = (
        np.searchsorted(times_s, start - TIME_TOLERANCE_S),
        np.searchsorted(times_s, end + TIME_TOLERANCE_S, "right"),
    )
    return (int(first), int(past) - 1) if first < past else None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LABEL_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: is not a text file in UTF-8") from None
    if len(data) > MAX_LABEL_BYTES:
        raise DatasetError(f"{path}: is over {MAX_LABEL_BYTES >> 20} MiB, too large for a label file")
    return text
