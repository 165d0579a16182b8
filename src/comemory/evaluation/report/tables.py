"""The figures in words: their names, what they mean, how they are written, and why one may be missing."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comemory.errors import EvaluationError
from comemory.evaluation.report.markup import Markup, joined, tag
from comemory.types import JSON


def as_rate(value: float) -> str:
    """Three decimals; what is not quite 0 or 1 is not written as such.

    >>> as_rate(0.97149), as_rate(1.0), as_rate(0.9999)
    ('0.971', '1.000', '> 0.999')
    """
    if 0.9995 <= value < 1:
        return "> 0.999"
    return "< 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def as_number(value: float) -> str:
    """Two or three telling digits, thousands apart.

    >>> as_number(0.4217), as_number(31.72), as_number(1234.5)
    ('0.42', '31.7', '1,234')
    """
    if 0 < abs(value) < 0.01 or abs(value) >= 1e9:
        return f"{value:.2g}"
    return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def as_seconds(value: float) -> str:
    """
    >>> as_seconds(0.4217)
    '0.42 s'
    """
    return f"{as_number(value)} s"


def as_count(value: float) -> str:
    """
    >>> as_count(5.0)
    '5'
    """
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class FigureWords:
    """How one figure is presented; `better` is None where neither higher nor lower is."""

    name: str
    meaning: str
    better: str | None
    missing: str
    write: Callable[[float], str] = as_rate


FIGURES: Mapping[str, FigureWords] = {
    "auc_micro": FigureWords(
        "AUC, micro",
        "The chance that an abnormal frame scores above a normal one, over all frames of all clips on one scale.",
        "higher",
        "Needs labels of both normal and abnormal frames.",
    ),
    "auc_macro": FigureWords(
        "AUC, macro",
        "The mean of each clip's own AUC; clips whose frames are all normal or all abnormal are skipped.",
        "higher",
        "Needs a clip with both normal and abnormal frames.",
    ),
    "ap": FigureWords(
        "Average precision",
        "How many of the frames ranked highest are truly abnormal, averaged over all depths of the ranking.",
        "higher",
        "Needs labels of both normal and abnormal frames.",
    ),
    "eer": FigureWords(
        "Equal error rate",
        "The error at the threshold where false positives and misses are equally frequent.",
        "lower",
        "Needs labels of both normal and abnormal frames.",
    ),
    "fpr95": FigureWords(
        "FPR at 95 % TPR",
        "Normal frames called abnormal once 95 % of the abnormal frames are found.",
        "lower",
        "Needs labels of both normal and abnormal frames.",
    ),
    "pixel_auc": FigureWords(
        "AUC, pixel level",
        "As micro AUC, but an abnormal frame counts only when at least 40 % of its abnormal pixels are found.",
        "higher",
        "Needs pixel masks from the data set and a score map from the model.",
    ),
    "rbdc": FigureWords(
        "RBDC",
        "Abnormal regions found, averaged over 0 to 1 false regions a frame.",
        "higher",
        "Needs pixel masks from the data set and a score map from the model.",
    ),
    "tbdc": FigureWords(
        "TBDC",
        "Abnormal tracks found, at least a tenth of each, averaged over 0 to 1 false regions a frame.",
        "higher",
        "Needs pixel masks from the data set and a score map from the model.",
    ),
    "false_alarms_per_hour": FigureWords(
        "False alarms per hour",
        "Alarms that touch no abnormal frame, for each hour of normal video.",
        "lower",
        "Needs a threshold, and normal frames to be wrong about.",
        as_number,
    ),
    "detection_delay_s": FigureWords(
        "Detection delay",
        "Median time from the start of an anomaly to the first alarm inside it, over the anomalies that were detected.",
        "lower",
        "Needs a threshold, and a labelled anomaly that was detected.",
        as_seconds,
    ),
    "detection_delay_in_view_s": FigureWords(
        "Detection delay of what began in view",
        "The same over the anomalies whose beginning had a score: where a video begins in the middle of one, the delay is "
        "the time to the first score.",
        "lower",
        "Needs a detected anomaly that begins after the first score.",
        as_seconds,
    ),
    "anomalies_in_view": FigureWords(
        "Anomalies that began in view",
        "How many of the labelled anomalies begin after the first score.",
        None,
        "Needs labelled anomalies.",
        as_count,
    ),
}

OTHER_MISSING: Mapping[str, str] = {
    "auc_micro_ci95": "Needs at least two labelled clips.",
    "frames_per_second": "Needs a timed run.",
}


@dataclass(slots=True)
class Footnotes:
    """Reasons for what is missing, each numbered once.

    Attributes:
        reasons: given by the evaluation, by dotted name or by the last part of it.
        texts: those used so far, in the order of their numbers.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def missing(self, path: str) -> Markup:
        """`n/a` with the number of the reason why the figure at this dotted name is not known."""
        key = path.rpartition(".")[2]
        words = FIGURES.get(key)
        general = words.missing if words else OTHER_MISSING.get(key, "Not computed in this evaluation.")
        text = self.reasons.get(path) or self.reasons.get(key) or general
        if text not in self.texts:
            self.texts.append(text)
        number = self.texts.index(text) + 1
        link = tag("a", number, href=f"#note-{number}", aria_label=f"reason {number}")
        return joined(tag("span", "n/a", class_="missing"), tag("sup", link))


def number_at(figures: JSON, path: str) -> float | None:
    """The number at a dotted name, None when it or a group above it is absent or None.

    Raises:
        EvaluationError: there is something else than a finite number.
    """
    value: Any = figures
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise EvaluationError(f"figure {path} is {value!r}: expected a finite number or None")
    return float(value)


def records_at(figures: JSON, key: str) -> Sequence[Mapping[str, Any]]:
    """The records of this name; none when they are absent or None.

    Raises:
        EvaluationError: there is something else than a list of records.
    """
    records = figures.get(key) or []
    if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
        raise EvaluationError(f"figure {key} is {records!r}: expected a list of records")
    return records


def interval_at(figures: JSON, path: str) -> tuple[float, float] | None:
    """The (low, high) at a dotted name, None when it or a group above it is absent or None.

    Raises:
        EvaluationError: there is something else than two finite numbers in order.
    """
    value: Any = figures
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise EvaluationError(f"figure {path} is {value!r}: expected two numbers or None")
    low, high = (number_at({"end": end}, "end") for end in value)
    if low is None or high is None or low > high:
        raise EvaluationError(f"figure {path} is {value!r}: expected a low and a high end")
    return low, high
