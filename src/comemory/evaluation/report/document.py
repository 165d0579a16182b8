"""What a report is made of; the evaluation fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics import RocCurve
from comemory.types import JSON, Event

MAX_VALUE = 1e100
"""Limit of a score or time in a curve: beyond it, the range of an axis overflows."""

FindingKind = Literal["false alarm", "miss"]
"""`false alarm`: a normal frame with a high score. `miss`: an abnormal frame with a low one."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipCurve:
    """The scores of one clip over time.

    Attributes:
        name: of the clip.
        time_s: (n_scored,) of the scored frames, rising.
        score: (n_scored,), finite.
        labels: bool (n_scored,), True where abnormal; None when not known.
        motion_baseline: (n_scored,) score of the motion baseline, on any scale; None without one.
        threshold: above it there is an alarm; None without one.
        events: what was detected at this threshold.

    Raises:
        EvaluationError: lengths differ, a number is not finite, or time decreases.
    """

    name: str
    time_s: NDArray[np.floating[Any]]
    score: NDArray[np.floating[Any]]
    labels: NDArray[np.bool_] | None = None
    motion_baseline: NDArray[np.floating[Any]] | None = None
    threshold: float | None = None
    events: Sequence[Event] = ()

    def __post_init__(self) -> None:
        arrays = {
            "time_s": self.time_s,
            "score": self.score,
            "labels": self.labels,
            "motion_baseline": self.motion_baseline,
        }
        for what, values in arrays.items():
            if values is None:
                continue
            if values.shape != (len(self.score),):
                raise EvaluationError(
                    f"{what} of clip {self.name!r} has shape {values.shape}: expected ({len(self.score)},), as its score"
                )
            if not np.all(np.abs(np.asarray(values, np.float64)) < MAX_VALUE):
                raise EvaluationError(
                    f"{what} of clip {self.name!r} holds a number that is not finite or beyond {MAX_VALUE:g}: "
                    "expected numbers that can be plotted"
                )
        if self.threshold is not None and not abs(float(self.threshold)) < MAX_VALUE:
            raise EvaluationError(f"threshold {self.threshold} of clip {self.name!r}: expected a finite number or None")
        if np.any(np.diff(self.time_s) < 0):
            raise EvaluationError(f"time_s of clip {self.name!r} runs backwards: expected the frames in order")


@dataclass(frozen=True, slots=True, eq=False)
class WorstFrame:
    """One frame that the model got most wrong.

    Attributes:
        kind: see `FindingKind`.
        video: name of its video.
        frame: number of the frame, from 0.
        time_s: its time in the video.
        score: its score.
        image: uint8 (H, W, 3), RGB.
        heat_map: float (h, w) in [0, 1], of any size; None without one.
        mask: bool (h, w), True on the abnormal pixels, of any size; None when not known.

    Raises:
        EvaluationError: the image is not RGB uint8, or the heat map is not finite (h, w).
    """

    kind: FindingKind
    video: str
    frame: int
    time_s: float
    score: float
    image: NDArray[np.uint8]
    heat_map: NDArray[np.floating[Any]] | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        what = f"frame {self.frame} of {self.video!r}"
        if self.kind not in ("false alarm", "miss"):
            raise EvaluationError(f"finding {self.kind!r} in {what}: expected 'false alarm' or 'miss'")
        if not np.isfinite([self.time_s, self.score]).all():
            raise EvaluationError(f"time {self.time_s} s and score {self.score} of {what}: expected finite numbers")
        image, heat_map = self.image, self.heat_map
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise EvaluationError(f"image of {what} is {image.dtype} {image.shape}: expected uint8 (H, W, 3), RGB")
        if heat_map is not None and (heat_map.ndim != 2 or not heat_map.size or not np.isfinite(heat_map).all()):
            raise EvaluationError(
                f"heat map of {what} has shape {heat_map.shape}: expected finite numbers (h, w) in [0, 1]"
            )


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationReport:
    """The content of one page.

    Attributes:
        title: of the page.
        dataset: name of the data set.
        model: what identifies the model, in the order to be shown: name, preset, seed, date, bundle hash, runtime, …
        results: what `comemory evaluate --json` writes; a metric that is None is shown as n/a with its reason.
        clips: one score curve each.
        findings: the normal frames that scored highest and the abnormal frames that scored lowest, worst first.
        model_roc: of the causal scores of the model over all frames.
        baseline_roc: the same of the motion baseline.
        reasons: why a metric is None, by its dotted name such as `causal.rbdc` (or `rbdc` for every column).
        notes: sentences on the evaluation itself: the label set, the frames without a score, the part of the data.
        baseline_description: one sentence on what the motion baseline is.
    """

    title: str
    dataset: str
    model: Mapping[str, object]
    results: JSON
    clips: Sequence[ClipCurve] = ()
    findings: Sequence[WorstFrame] = ()
    model_roc: RocCurve | None = None
    baseline_roc: RocCurve | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    baseline_description: str = "The motion baseline only measures how fast things move."
