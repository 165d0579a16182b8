"""Scores as the authors of other networks release them: a `.npy` or `.npz` for each video, or one array of all videos.

Such files rarely say which frames their scores belong to. A network that needs past frames drops the first ones of every
video, one that looks ahead drops the last ones too. What is assumed here is returned in words, to be read before the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.listing import last_number, list_entries
from comemory.datasets.npy import open_npy
from comemory.errors import DatasetError, EvaluationError
from comemory.evaluation.results import frame_results
from comemory.evaluation.scores_file import dropped_frames, load_arrays
from comemory.evaluation.video_scores import FrameScores
from comemory.types import JSON, LabelledSource

SUFFIXES = (".npy", ".npz")


def read_released_scores(
    path: Path, videos: Sequence[LabelledSource], *, n_first: int | None = None, higher_is_normal: bool = False
) -> tuple[list[FrameScores], list[str]]:
    """Read released scores, and say which frames were dropped.

    A file belongs to the video of its name, else to the one whose number is the last number in its name. A single array
    is cut into the test videos in their order; where it has too few scores, each video dropped the same number.

    Args:
        path: a folder with a `.npy` or `.npz` for each video, one array in each; or one such file for all videos.
        videos: of the data set. Those without labels are left out.
        n_first: of the frames that were dropped in a video, how many were the first ones; the others were its last. None:
            all were the first ones.
        higher_is_normal: the scores are regularity scores or PSNR; they are negated.

    Returns:
        The scores, and a sentence for each assumption.

    Raises:
        EvaluationError: the files do not fit the videos; one line.
        DatasetError: a file is damaged, or would have to be unpickled; one line.
    """
    lengths = {video.name: n_frames for video in videos if (n_frames := _n_frames(video)) is not None}
    known = [video for video in videos if video.labels is not None]
    if not known:
        raise EvaluationError(f"no test video has labels: there is nothing to compare {path} with")
    files = _files(path) if path.is_dir() else [path]
    if len(files) == 1 and len(videos) > 1:
        arrays, notes = _cut(files[0], _read(files[0]), videos, lengths)
    else:
        found, notes = _match(path, files, known)
        arrays = {name: _read(file) for name, file in found.items()}
    scored = [_frame_scores(path, video, arrays[video.name], n_first, higher_is_normal) for video in known]
    return scored, [*notes, *(dropped_frames(scored) or ["Every frame has a score."]), *_scaled(arrays)]


def evaluate_released_scores(
    path: Path,
    dataset: str,
    videos: Sequence[LabelledSource],
    *,
    n_first: int | None = None,
    higher_is_normal: bool = False,
) -> tuple[JSON, list[str]]:
    """Evaluate released scores as `scores_file.evaluate_scores_file` does; see `read_released_scores` for the arguments.

    Returns:
        The results, with the keys of `evaluate --json` that scores alone allow, and a sentence for each assumption.
    """
    scored, notes = read_released_scores(path, videos, n_first=n_first, higher_is_normal=higher_is_normal)
    return frame_results(scored, dataset), notes


def _files(folder: Path) -> list[Path]:
    try:
        files = [file for file in list_entries(folder) if file.suffix.lower() in SUFFIXES]
    except DatasetError as error:
        raise EvaluationError(str(error)) from None
    if not files:
        raise EvaluationError(f"{folder} has no .npy or .npz file: expected one with the scores of each test video")
    return files


def _read(file: Path) -> NDArray[np.float64]:
    """The numbers of a file as one row."""
    if file.suffix.lower() == ".npz":
        arrays = load_arrays(file)
        if len(arrays) != 1:
            raise EvaluationError(
                f"{file} has {len(arrays)} arrays ({', '.join(sorted(arrays)[:5])}): expected one, the scores of a video"
            )
        (values,) = arrays.values()
    else:
        values = open_npy(file)
    if values.dtype.kind not in "biuf" or sum(side != 1 for side in values.shape) > 1:
        raise EvaluationError(
            f"{file} has {values.dtype} of shape {values.shape}: expected one real number for each frame"
        )
    return np.asarray(values, np.float64).reshape(-1)


def _match(
    path: Path, files: Sequence[Path], videos: Sequence[LabelledSource]
) -> tuple[Mapping[str, Path], Sequence[str]]:
    """The file of each video, and a note on files that are of none."""
    by_name = {file.stem: file for file in files}
    found: dict[str, Path] = {}
    for video in videos:
        number = last_number(video.name)
        numbered = [file for file in files if number is not None and last_number(file.stem) == number]
        if video.name in by_name:
            found[video.name] = by_name[video.name]
        elif len(numbered) == 1:
            found[video.name] = numbered[0]
        elif numbered:
            names = ", ".join(file.name for file in numbered[:3])
            raise EvaluationError(f"{path}: {names} all fit the video {video.name!r}: name one {video.name}.npy")
        else:
            raise EvaluationError(
                f"{path} has no file of the video {video.name!r}: expected {video.name}.npy, or a name that ends in its "
                f"number; found {', '.join(file.name for file in files[:3])}{', …' if len(files) > 3 else ''}"
            )
    unused = [file.name for file in files if file not in found.values()]
    return found, [f"No labelled video belongs to {', '.join(unused[:5])}: left out."] if unused else []


def _cut(
    file: Path, values: NDArray[np.float64], videos: Sequence[LabelledSource], lengths: Mapping[str, int]
) -> tuple[Mapping[str, NDArray[np.float64]], Sequence[str]]:
    """The scores of each video, from one array of all."""
    if unknown := [video.name for video in videos if video.name not in lengths]:
        raise EvaluationError(f"{file} cannot be cut into videos: the length of {unknown[0]!r} is not known")
    total = sum(lengths[video.name] for video in videos)
    dropped, rest = divmod(total - len(values), len(videos))
    if rest or not 0 <= dropped < min(lengths.values()):
        raise EvaluationError(
            f"{file} has {len(values)} scores for {total} frames of {len(videos)} videos: expected as many, or the same "
            "number fewer for each video"
        )
    ends = np.cumsum([lengths[video.name] - dropped for video in videos])
    parts = np.split(values, ends[:-1])
    order = f"{videos[0].name} to {videos[-1].name}"
    note = f"{file.name} holds all videos: it was cut into {len(videos)} parts in the order of the data set, {order}."
    return {video.name: part for video, part in zip(videos, parts, strict=True)}, [note]


def _frame_scores(
    path: Path, video: LabelledSource, values: NDArray[np.float64], n_first: int | None, higher_is_normal: bool
) -> FrameScores:
    assert video.labels is not None
    n_frames = len(video.labels)
    missing = n_frames - len(values)
    if missing < 0 or not len(values):
        raise EvaluationError(f"{path}: the video {video.name!r} has {len(values)} scores for {n_frames} frames")
    if n_first is not None and not 0 <= n_first <= missing:
        raise EvaluationError(
            f"{path}: the video {video.name!r} lacks the scores of {missing} frames, so its first {n_first} cannot be "
            "the ones that were dropped"
        )
    start = missing if n_first is None else n_first
    scored = np.flatnonzero(~np.isnan(values))
    scores = values[scored]
    if not np.isfinite(scores).all():
        raise EvaluationError(f"{path}: the video {video.name!r} has a score that is not finite")
    return FrameScores(
        name=video.name,
        n_frames=n_frames,
        frames=scored.astype(np.int64) + start,
        score=-scores if higher_is_normal else scores,
        labels=video.labels,
    )


def _scaled(arrays: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """A note where every video's scores run from 0 to 1."""
    ends = [(np.nanmin(values), np.nanmax(values)) for values in arrays.values() if not np.isnan(values).all()]
    if len(ends) > 1 and np.allclose(ends, (0, 1), atol=1e-6):
        return [
            "The scores of every video run from 0 to 1: they were scaled within the whole video, which no live system can "
            "do. Compare them with results of the paper protocol."
        ]
    return []


def _n_frames(video: LabelledSource) -> int | None:
    return video.n_frames if video.labels is None else len(video.labels)
