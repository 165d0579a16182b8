"""Per-frame scores as a file: written by `evaluate --scores`, and read from any method by `evaluate --scores-file`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError, short, suggest
from comemory.evaluation.results import frame_results
from comemory.evaluation.video_scores import FrameScores, VideoScores
from comemory.files import write_bytes
from comemory.types import JSON, LabelledSource

FORMAT = (
    "expected an array NAME, one score for each frame (nan: no score), or NAME/score with NAME/frames, "
    "the numbers of the frames that have one"
)


def write_scores(target: Path, videos: Sequence[VideoScores]) -> None:
    """Write the scores of all videos as `.npz`; nothing in it needs pickle.

    Holds `videos`, their names; `channels`, the names of the channels; and for each video `NAME/frames`, `NAME/time_s`,
    `NAME/score`, `NAME/thesis`, `NAME/motion_baseline`, `NAME/raw` (n_scored, n_channels) and, where they are known,
    `NAME/labels`. All but the first two have one row for each scored frame.

    Raises:
        SourceError: the file cannot be written, such as on a full disk.
    """
    arrays: dict[str, NDArray[Any]] = {
        "videos": np.array([video.name for video in videos], np.str_),
        "channels": np.array(videos[0].channels if videos else (), np.str_),
    }
    for video in videos:
        per_frame = {
            "frames": video.frames,
            "time_s": video.time_s,
            "score": video.score,
            "thesis": video.thesis,
            "motion_baseline": video.motion_baseline,
            "raw": video.raw,
            "labels": video.scored_labels,
        }
        arrays |= {f"{video.name}/{what}": values for what, values in per_frame.items() if values is not None}
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(target, buffer.getvalue())


def read_scores(path: Path, videos: Sequence[LabelledSource]) -> list[FrameScores]:
    """Read the scores of every labelled video out of a `.npz`, as `write_scores` writes them or one array a video.

    A video's scores are `NAME`, one number for each frame of the video, not-a-number where a frame has no score; or
    `NAME/score` with `NAME/frames`, the frames that have one. Labels are those of the data set, never of the file.

    Args:
        path: of the file.
        videos: of the data set. Those without labels are left out.

    Raises:
        EvaluationError: the file is no `.npz`, or lacks a labelled video, or an array does not fit its video. One line.
    """
    arrays = load_arrays(path)
    known = [video for video in videos if video.labels is not None]
    missing = [video.name for video in known if not {video.name, f"{video.name}/score"} & arrays.keys()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        names = {key.partition("/")[0] for key in arrays} - {"videos", "channels"}
        raise EvaluationError(
            f"{path} has no scores of video {missing[0]!r}{more}: {FORMAT}; {suggest(missing[0], sorted(names))}"
        )
    return [_read_video(path, arrays, video) for video in known]


def evaluate_scores_file(path: Path, dataset: str, videos: Sequence[LabelledSource]) -> tuple[JSON, list[str]]:
    """Evaluate per-frame scores that any method wrote, without a bundle.

    Args:
        path: see `read_scores`.
        dataset: its name, for the results.
        videos: its test videos.

    Returns:
        The results, with the keys of `evaluate --json` that scores alone allow, and notes on what was left out.

    Raises:
        EvaluationError: see `read_scores`; or the data set has no labels.
    """
    scored = read_scores(path, videos)
    if not scored:
        raise EvaluationError(f"no test video of {dataset} has labels: there is nothing to compare {path} with")
    results = frame_results(scored, dataset)
    return results, [*dropped_frames(scored), *_unlabelled(videos)]


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
    notes = []
    if unlabelled := [video.name for video in videos if video.labels is None]:
        notes.append(f"{len(unlabelled)} of {len(videos)} videos have no labels and are left out.")
    return notes


def load_arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of a `.npz` by name; nothing is unpickled.

    Raises:
        EvaluationError: it is another file, or is damaged, or would have to be unpickled. One line.
    """
    try:
        with path.open("rb") as file:  # Opened here, because NumPy leaves a damaged file open.
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise EvaluationError(f"{path} is a single array: expected a .npz; {FORMAT}")
            return {key: loaded[key] for key in loaded.files}
    except OSError as error:
        raise EvaluationError(f"cannot read the scores {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, BadZipFile, MemoryError) as error:
        raise EvaluationError(f"{path} is not a .npz of plain arrays ({short(str(error))}): {FORMAT}") from None


def _read_video(path: Path, arrays: Mapping[str, NDArray[Any]], video: LabelledSource) -> FrameScores:
    assert video.labels is not None
    name, n_frames = video.name, len(video.labels)
    what = f"{path}: video {name!r}"
    scores = _numbers(arrays.get(f"{name}/score", arrays.get(name)), what)
    given = arrays.get(f"{name}/frames")
    if given is None:
        if len(scores) != n_frames:
            raise EvaluationError(
                f"{what} has {len(scores)} scores for {n_frames} frames: give nan where a frame has no score, "
                f"or {name}/frames"
            )
        frames = np.flatnonzero(~np.isnan(scores))
        scores = scores[frames]
    else:
        frames = _frame_numbers(given, len(scores), n_frames, what)
    if not np.isfinite(scores).all():
        raise EvaluationError(f"{what} has a score that is not finite: expected finite numbers")
    baseline = arrays.get(f"{name}/motion_baseline")
    return FrameScores(
        name=name,
        n_frames=n_frames,
        frames=frames.astype(np.int64),
        score=scores,
        labels=video.labels,
        motion_baseline=None if baseline is None or baseline.shape != scores.shape else baseline.astype(np.float64),
    )


def _numbers(values: NDArray[Any] | None, what: str) -> NDArray[np.float64]:
    if values is None or values.ndim != 1 or values.dtype.kind not in "biuf":
        shape = "no array" if values is None else f"{values.dtype} of shape {values.shape}"
        raise EvaluationError(f"{what} has {shape}: expected one real number for each frame")
    return values.astype(np.float64)


def _frame_numbers(given: NDArray[Any], n_scores: int, n_frames: int, what: str) -> NDArray[Any]:
    if given.shape != (n_scores,) or given.dtype.kind not in "iu":
        raise EvaluationError(f"{what} has {n_scores} scores and frames of shape {given.shape}: expected one for each")
    if len(given) and (given[0] < 0 or given[-1] >= n_frames or (np.diff(given.astype(np.int64)) <= 0).any()):
        raise EvaluationError(f"{what} has frames beyond 0 to {n_frames - 1}, or out of order: expected rising numbers")
    return given
