"""What a report is made from; the evaluation fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics import RocCurve
from comemory.types import JSON, Event

LARGEST = 1e100
"""No score or time in a curve may be beyond this."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipCurve:
    """The scores of one clip over time.

    Attributes:
        name: of the clip.
        time_s: (n_scored,) of the scored frames, rising.
        score: (n_scored,), finite.
        labels: bool (n_scored,), True where abnormal; None when not known.
        control: (n_scored,) score of the control, on any scale; None without one.
        threshold: above it there is an alarm; None without one.
        events: what was raised.

    Raises:
        EvaluationError: lengths differ, a number is not finite, or time runs backwards.
    """

    name: str
    time_s: NDArray[np.floating[Any]]
    score: NDArray[np.floating[Any]]
    labels: NDArray[np.bool_] | None = None
    control: NDArray[np.floating[Any]] | None = None
    threshold: float | None = None
    events: Sequence[Event] = ()

    def __post_init__(self) -> None:
        known = {"time_s": self.time_s, "score": self.score, "labels": self.labels, "control": self.control}
        for what, values in known.items():
            if values is None:
                continue
            if values.shape != (len(self.score),):
                raise EvaluationError(
                    f"{what} of clip {self.name!r} has shape {values.shape}: expected ({len(self.score)},), as score"
                )
            if not (np.abs(values.astype(np.float64)) < LARGEST).all():
                raise EvaluationError(
                    f"{what} of clip {self.name!r} holds a value that is not finite or beyond {LARGEST:g}: "
                    "expected numbers that can be drawn"
                )
        if self.threshold is not None and not abs(float(self.threshold)) < LARGEST:
            raise EvaluationError(f"threshold {self.threshold} of clip {self.name!r}: expected a finite number or None")
        if np.any(np.diff(self.time_s) < 0):
            raise EvaluationError(f"time_s of clip {self.name!r} runs backwards: expected the frames in order")


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One frame that the model got wrong.

    Attributes:
        kind: a normal frame with a high score, or an abnormal frame with a low one.
        video, frame, time_s, score: which, when, and how abnormal it was taken to be.
        picture: uint8 (H, W, 3), RGB.
        heat_map: float (h, w) in [0, 1], of any size; None without one.

    Raises:
        EvaluationError: the picture is not RGB uint8, or the heat map is not finite (h, w).
    """

    kind: Literal["false alarm", "miss"]
    video: str
    frame: int
    time_s: float
    score: float
    picture: NDArray[np.uint8]
    heat_map: NDArray[np.floating[Any]] | None = None

    def __post_init__(self) -> None:
        what = f"frame {self.frame} of {self.video!r}"
        if self.kind not in ("false alarm", "miss"):
            raise EvaluationError(f"finding {self.kind!r} in {what}: expected 'false alarm' or 'miss'")
        if not np.isfinite([self.time_s, self.score]).all():
            raise EvaluationError(f"time {self.time_s} s and score {self.score} of {what}: expected finite numbers")
        picture, heat = self.picture, self.heat_map
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise EvaluationError(
                f"picture of {what} is {picture.dtype} {picture.shape}: expected uint8 (H, W, 3), RGB"
            )
        if heat is not None and (heat.ndim != 2 or not heat.size or not np.isfinite(heat).all()):
            raise EvaluationError(
                f"heat map of {what} has shape {heat.shape}: expected finite numbers (h, w) in [0, 1]"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything one page says.

    Attributes:
        title: of the page.
        dataset: name of the data set.
        model: what identifies the model, in the order to be shown: name, preset, seed, date, bundle hash, runtime, …
        figures: what `comemory evaluate --json` prints; a figure that is None is shown as n/a with its reason.
        clips: one score curve each.
        findings: the worst false alarms and misses, worst first.
        model_roc, control_roc: of the causal scores over all frames.
        reasons: why a figure is None, by its dotted name such as `causal.rbdc` (or `rbdc` for every column).
        notes: sentences on the evaluation itself: the label set, the frames that have no score, the part of the data.
        control: one sentence on what the control is.
    """

    title: str
    dataset: str
    model: Mapping[str, object]
    figures: JSON
    clips: Sequence[ClipCurve] = ()
    findings: Sequence[Finding] = ()
    model_roc: RocCurve | None = None
    control_roc: RocCurve | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    control: str = "The control only measures how fast things move."
