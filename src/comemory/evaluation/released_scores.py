"""Scores of any program: as `evaluate --scores` writes them, or as the authors of other networks release them.

Released files rarely say which frames their scores belong to. A network that needs past frames drops the first ones of every
video, one that looks ahead drops the last ones too. What is assumed here is returned in words, to be read before the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.listing import last_number, list_entries
from comemory.datasets.npy import open_npy
from comemory.errors import DatasetError, EvaluationError, short_repr, suggest
from comemory.evaluation.results import PROTOCOLS, frame_results
from comemory.evaluation.video_scores import FrameScores
from comemory.types import JSON, LabelledSource

SUFFIXES = (".npy", ".npz")
NPY_START, ZIP_STARTS = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")
"""How a `.npy`, and a `.npz` with arrays and without, begin, whatever their names."""
WHOLE = ""
"""The name of an array that stands alone in its file."""
BESIDE = ("own", "motion_baseline")
"""Further scores of the same frames that a file may hold, see `scores_file.write_scores`."""
FORMAT = (
    "expected an array NAME, one score for each frame (nan: no score), or NAME/score with NAME/frames, "
    "the numbers of the frames that have one"
)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Given:
    """What a file holds of one video: its scores, of which frames where it says so, and further scores of these."""

    scores: NDArray[np.float64]
    frames: NDArray[Any] | None = None
    beside: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def read_released_scores(
    path: Path, videos: Sequence[LabelledSource], *, n_first: int | None = None, higher_is_normal: bool = False
) -> tuple[list[FrameScores], list[str]]:
    """Read the scores of every labelled video, and say which frames have none.

    A file of a folder belongs to the video of its name, else to the one whose number is the last number in its name. A
    single array is cut into the test videos in their order; where it has too few scores, each video dropped the same
    number. In a `.npz`, `NAME` holds the scores of a video, or `NAME/score` with `NAME/frames`, the frames that have one.
    A score that is not-a-number is none. Labels are those of the data set, never of the file.

    Args:
        path: a `.npz` with the arrays of each video; a folder with a `.npy` or `.npz` for each video, one array in each; or
            a file with one array of all videos.
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
    known = [video for video in videos if video.labels is not None]
    if not known:
        raise EvaluationError(f"no test video has labels: there is nothing to compare {path} with")
    given, notes = _read_all(path, videos, known)
    scored = [_frame_scores(path, video, given[video.name], n_first, higher_is_normal) for video in known]
    if not any(len(video.frames) for video in scored):
        raise EvaluationError(
            f"{path} has no score of any labelled frame, only nan: expected one number for each frame"
        )
    dropped = dropped_frames(scored) or ["Every frame has a score."]
    return scored, [*notes, *dropped, *_scaled(given), *_unlabelled(videos)]


def evaluate_released_scores(
    path: Path,
    dataset: str,
    videos: Sequence[LabelledSource],
    *,
    n_first: int | None = None,
    higher_is_normal: bool = False,
    protocols: Sequence[str] = PROTOCOLS,
) -> tuple[JSON, list[str]]:
    """Evaluate scores that any method wrote, without a bundle.

    Args:
        path: see `read_released_scores`, as for the others.
        dataset: its name, for the results.
        videos: its test videos.
        n_first: see `read_released_scores`.
        higher_is_normal: see `read_released_scores`.
        protocols: `causal`, `paper` or both.

    Returns:
        The results, with the keys of `evaluate --json` that scores alone allow, and a sentence for each assumption.
    """
    scored, notes = read_released_scores(path, videos, n_first=n_first, higher_is_normal=higher_is_normal)
    return frame_results(scored, dataset, protocols), notes


def dropped_frames(scored: Sequence[FrameScores]) -> list[str]:
    """Say which frames have no score: those before the first score of their video, after its last, and between."""
    total = sum(video.n_frames for video in scored)
    n_dropped = total - sum(len(video.frames) for video in scored)
    if not n_dropped:
        return []
    by_what: dict[str, list[str]] = {}
    for video in scored:
        if len(video.frames) < video.n_frames:
            by_what.setdefault(_dropped_of(video), []).append(video.name)
    parts = []
    for what, names in by_what.items():
        some = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        parts.append(f"{what} of {'every video' if len(names) == len(scored) else some}")
    return [f"{n_dropped} of {total} frames have no score and are left out: {'; '.join(parts)}."]


def _dropped_of(video: FrameScores) -> str:
    if not len(video.frames):
        return "all"
    first, last = int(video.frames[0]), video.n_frames - 1 - int(video.frames[-1])
    between = video.n_frames - first - last - len(video.frames)
    parts = [f"the first {first}"] if first else []
    parts += [f"the last {last}"] if last else []
    parts += [f"{between} between"] if between else []
    return " and ".join(parts)


def _unlabelled(videos: Sequence[LabelledSource]) -> list[str]:
    unlabelled = sum(video.labels is None for video in videos)
    return [f"{unlabelled} of {len(videos)} videos have no labels and are left out."] if unlabelled else []


def _read_all(
    path: Path, videos: Sequence[LabelledSource], known: Sequence[LabelledSource]
) -> tuple[Mapping[str, _Given], Sequence[str]]:
    """What the files hold of each labelled video, and notes."""
    if path.is_dir():
        files = _files(path)
        if len(files) > 1 or len(videos) == 1:
            found, notes = _match(path, files, known)
            return {name: _Given(_only_array(file)) for name, file in found.items()}, notes
        path = files[0]
    arrays = _arrays(path)
    names = {key.partition("/")[0] for key in arrays} - {"videos", "channels"}
    missing = [video.name for video in known if not {video.name, f"{video.name}/score"} & arrays.keys()]
    if len(missing) == len(known) and len(arrays) == 1:
        return _cut(path, _numbers(next(iter(arrays.values())), str(path)), videos)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise EvaluationError(
            f"{path} has no scores of video {missing[0]!r}{more}: {FORMAT}; {suggest(missing[0], sorted(names))}"
        )
    return {video.name: _named(path, arrays, video.name) for video in known}, []


def _files(folder: Path) -> list[Path]:
    try:
        files = [file for file in list_entries(folder) if file.suffix.lower() in SUFFIXES]
    except DatasetError as error:
        raise EvaluationError(str(error)) from None
    if not files:
        raise EvaluationError(f"{folder} has no .npy or .npz file: expected one with the scores of each test video")
    return files


def _arrays(path: Path) -> Arrays:
    """The arrays of a file by name; nothing is unpickled. That of a `.npy` has the name `WHOLE`.

    Raises:
        EvaluationError: the file cannot be read, or holds something else. One line.
        DatasetError: the same of a `.npy`.
    """
    try:
        with path.open("rb") as file:  # Opened here, because NumPy leaves a damaged file open.
            start = file.read(len(NPY_START))
            file.seek(0)
            if start.startswith(ZIP_STARTS):
                loaded = np.load(file, allow_pickle=False)
                return {key: loaded[key] for key in loaded.files}
    except OSError as error:
        raise EvaluationError(f"cannot read the scores {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, BadZipFile, MemoryError) as error:
        raise EvaluationError(f"{path} is not a .npz of plain arrays ({short_repr(str(error))}): {FORMAT}") from None
    if start != NPY_START and path.suffix.lower() != ".npy":
        raise EvaluationError(
            f"{path} is neither a .npy nor a .npz file: save it with numpy.savez(FILE, NAME=scores); {FORMAT}"
        )
    return {WHOLE: open_npy(path)}


def _only_array(file: Path) -> NDArray[np.float64]:
    """The numbers of the file of one video."""
    arrays = _arrays(file)
    if len(arrays) != 1:
        raise EvaluationError(
            f"{file} has {len(arrays)} arrays ({', '.join(sorted(arrays)[:5])}): expected one, the scores of a video"
        )
    return _numbers(next(iter(arrays.values())), str(file))


def _numbers(values: NDArray[Any], what: str) -> NDArray[np.float64]:
    """Real numbers as one row."""
    if values.dtype.kind not in "biuf" or sum(side != 1 for side in values.shape) > 1:
        raise EvaluationError(
            f"{what} has {values.dtype} of shape {values.shape}: expected one real number for each frame"
        )
    return np.asarray(values, np.float64).reshape(-1)


def _named(path: Path, arrays: Arrays, name: str) -> _Given:
    """What a `.npz` with the arrays of each video holds of one."""
    key = f"{name}/score" if f"{name}/score" in arrays else name
    scores = _numbers(arrays[key], f"{path}: video {name!r}")
    frames = arrays.get(f"{name}/frames")
    if frames is not None and frames.dtype.kind not in "iu":
        raise EvaluationError(f"{path}: {name}/frames holds {frames.dtype}: expected whole numbers, such as int64")
    if frames is not None and frames.shape != scores.shape:
        raise EvaluationError(
            f"{path}: video {name!r} has {len(scores)} scores and frames of shape {frames.shape}: expected one for each"
        )
    beside = {}
    for what in BESIDE:
        if (values := arrays.get(f"{name}/{what}")) is not None:
            beside[what] = _numbers(values, f"{path}: {name}/{what}")
            if len(beside[what]) != len(scores):
                raise EvaluationError(
                    f"{path}: {name}/{what} has {len(beside[what])} numbers for {len(scores)} scores: expected one for each"
                )
    return _Given(scores, frames, beside)


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
    file: Path, values: NDArray[np.float64], videos: Sequence[LabelledSource]
) -> tuple[Mapping[str, _Given], Sequence[str]]:
    """The scores of each labelled video, from one array of all."""
    lengths = {video.name: n_frames for video in videos if (n_frames := _n_frames(video)) is not None}
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
    parts = zip(videos, np.split(values, ends[:-1]), strict=True)
    given = {video.name: _Given(part) for video, part in parts if video.labels is not None}
    if len(videos) == 1:
        return given, []
    order = f"{videos[0].name} to {videos[-1].name}"
    note = f"{file.name} holds all videos: it was cut into {len(videos)} parts in the order of the data set, {order}."
    return given, [note]


def _frame_scores(
    path: Path, video: LabelledSource, given: _Given, n_first: int | None, higher_is_normal: bool
) -> FrameScores:
    assert video.labels is not None
    what, n_frames = f"{path}: the video {video.name!r}", len(video.labels)
    frames = _dropped(given, n_frames, n_first, what) if given.frames is None else _stated(given.frames, n_frames, what)
    has_score = ~np.isnan(given.scores)
    scores = given.scores[has_score]
    beside = {name: values[has_score] for name, values in given.beside.items()}
    for place, values in {"": scores, **{f" in {name}": values for name, values in beside.items()}}.items():
        if not np.isfinite(values).all():
            raise EvaluationError(f"{what} has a score that is not finite{place}: expected finite numbers")
    return FrameScores(
        name=video.name,
        n_frames=n_frames,
        frames=frames[has_score],
        score=-scores if higher_is_normal else scores,
        labels=video.labels,
        **beside,
    )


def _dropped(given: _Given, n_frames: int, n_first: int | None, what: str) -> NDArray[np.int64]:
    """The frames of scores that are fewer than the frames of their video."""
    missing = n_frames - len(given.scores)
    if missing < 0 or not len(given.scores):
        raise EvaluationError(f"{what} has {len(given.scores)} scores for {n_frames} frames")
    if n_first is not None and not 0 <= n_first <= missing:
        raise EvaluationError(
            f"{what} lacks the scores of {missing} frames, so its first {n_first} cannot be the ones that were dropped"
        )
    return np.arange(len(given.scores)) + (missing if n_first is None else n_first)


def _stated(frames: NDArray[Any], n_frames: int, what: str) -> NDArray[np.int64]:
    """The frames that a file states."""
    if len(frames) and (frames[0] < 0 or frames[-1] >= n_frames or (np.diff(frames.astype(np.int64)) <= 0).any()):
        raise EvaluationError(f"{what} has frames beyond 0 to {n_frames - 1}, or out of order: expected rising numbers")
    return frames.astype(np.int64)


def _scaled(given: Mapping[str, _Given]) -> list[str]:
    """A note where every video's scores run from 0 to 1."""
    scores = [one.scores for one in given.values() if not np.isnan(one.scores).all()]
    ends = [(np.nanmin(values), np.nanmax(values)) for values in scores]
    if len(ends) > 1 and np.allclose(ends, (0, 1), atol=1e-6):
        return [
            "The scores of every video run from 0 to 1: they were scaled within the whole video, which no live system can "
            "do. Compare them with results of the paper protocol."
        ]
    return []


def _n_frames(video: LabelledSource) -> int | None:
    return video.n_frames if video.labels is None else len(video.labels)
