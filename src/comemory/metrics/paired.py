"""Scores and labels checked against each other; an error names the video and the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from comemory.errors import EvaluationError

Scores = NDArray[Any]
"""Finite real numbers in the dtype they were given in, so that large integers are compared exactly."""

Labels = NDArray[np.bool_]
"""True where abnormal."""


def video_name(names: Sequence[str] | None, video: int) -> str:
    """Return how an error refers to a video.

    >>> video_name(["01", "02"], 1), video_name(None, 1)
    ("video '02'", 'video number 1')
    """
    return f"video number {video}" if names is None else f"video {names[video]!r}"


def as_scores(scores: ArrayLike, what: str) -> Scores:
    """Read the scores of one video.

    Raises:
        EvaluationError: not a flat array of real, finite numbers.
    """
    array = _flat(scores, f"the scores of {what}")
    if array.dtype.kind not in "biuf":
        raise EvaluationError(f"the scores of {what} have dtype {array.dtype}: expected real numbers")
    if array.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            more = f" (and {bad.size - 1} more)" if bad.size > 1 else ""
            raise EvaluationError(
                f"score {array[bad[0]]} of {what} at position {bad[0]}{more}: expected a finite number; "
                "leave out frames without a score, and their labels"
            )
    return array


def as_labels(labels: ArrayLike, what: str) -> Labels:
    """Read the labels of one video; numbers 0 and 1 count as False and True.

    Raises:
        EvaluationError: not a flat array, or a value other than 0 and 1.
    """
    array = _flat(labels, f"the labels of {what}")
    if array.dtype.kind not in "biuf":
        raise EvaluationError(f"the labels of {what} have dtype {array.dtype}: expected bool, or numbers 0 and 1")
    flags = array.astype(np.bool_)
    bad = np.flatnonzero(flags != array)
    if bad.size:
        raise EvaluationError(
            f"label {array[bad[0]]} of {what} at position {bad[0]}: expected 0 (normal) or 1 (abnormal)"
        )
    return flags


def pair_scores(scores: ArrayLike, labels: ArrayLike, what: str = "all frames") -> tuple[Scores, Labels]:
    """Read scores and labels of the same frames.

    Raises:
        EvaluationError: either is not valid, or their lengths differ.
    """
    score_array, label_array = as_scores(scores, what), as_labels(labels, what)
    if len(score_array) != len(label_array):
        raise EvaluationError(
            f"{len(score_array)} scores and {len(label_array)} labels for {what}: expected one label for each score"
        )
    return score_array, label_array


def pair_videos(
    scores: Sequence[ArrayLike], labels: Sequence[ArrayLike], names: Sequence[str] | None = None
) -> list[tuple[Scores, Labels]]:
    """Read scores and labels of several videos.

    Raises:
        EvaluationError: a video is not valid, or the sequences have different lengths.
    """
    same_length(names, scores=scores, labels=labels)
    return [pair_scores(scores[i], labels[i], video_name(names, i)) for i in range(len(scores))]


def concatenate_videos(
    scores: Sequence[ArrayLike], labels: Sequence[ArrayLike], names: Sequence[str] | None = None
) -> tuple[Scores, Labels]:
    """Concatenate videos into flat scores and labels.

    Shapes:
        scores, labels: one (n_frames,) array a video.
        returns: (sum of n_frames,) each; labels are bool.

    Raises:
        EvaluationError: scores and labels do not fit together; the text names the video.

    >>> concatenate_videos([[0.1, 0.2], [0.9]], [[0, 0], [1]])[1].tolist()
    [False, False, True]
    """
    pairs = pair_videos(scores, labels, names)
    if not pairs:
        return np.zeros(0), np.zeros(0, np.bool_)
    return np.concatenate([s for s, _ in pairs]), np.concatenate([y for _, y in pairs])


def same_length(names: Sequence[str] | None, **sequences: Sequence[Any]) -> None:
    """Refuse sequences that do not have one entry for each video.

    Raises:
        EvaluationError: lengths differ.
    """
    if names is not None:
        sequences["names"] = names
    if len({len(s) for s in sequences.values()}) > 1:
        listed = ", ".join(f"{len(s)} {name}" for name, s in sequences.items())
        raise EvaluationError(f"{listed}: expected one of each for every video")


def _flat(values: ArrayLike, what: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise EvaluationError(f"{what} are not an array: {error}") from None
    if array.ndim != 1:
        raise EvaluationError(f"{what} have shape {array.shape}: expected (n_frames,)")
    return array
