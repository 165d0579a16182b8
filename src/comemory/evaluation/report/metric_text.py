"""Metrics in words: names, meanings, number formats, and why one may be missing."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comemory.errors import EvaluationError
from comemory.types import JSON

# No page may hold these characters; a file name may.
_NOT_PRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def replace_unprintable(text: str) -> str:
    r"""Replace the characters that no page may hold.

    >>> replace_unprintable("clip\x00")
    'clip\ufffd'
    """
    return _NOT_PRINTABLE.sub("\ufffd", text)


def as_rate(value: float) -> str:
    """Format with three decimals; a value that is not quite 0 or 1 is not written as 0 or 1.

    >>> as_rate(0.97149), as_rate(1.0), as_rate(0.9999)
    ('0.971', '1.000', '> 0.999')
    """
    if 0.9995 <= value < 1:
        return "> 0.999"
    return "< 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def as_number(value: float) -> str:
    """Format with two or three significant digits, and thousands separated.

    >>> as_number(0.4217), as_number(31.72), as_number(1234.5)
    ('0.42', '31.7', '1,234')
    """
    if 0 < abs(value) < 0.01 or abs(value) >= 1e9:
        return f"{value:.2g}"
    return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def as_seconds(value: float) -> str:
    """Format a duration.

    >>> as_seconds(0.4217)
    '0.42 s'
    """
    return f"{as_number(value)} s"


def as_count(value: float) -> str:
    """Format a count.

    >>> as_count(5.0)
    '5'
    """
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class MetricText:
    """How one metric is presented.

    Attributes:
        name: in the table.
        meaning: one sentence.
        better: `higher` or `lower`; None where neither is better.
        missing: why it may be None.
        write: formats its value.
    """

    name: str
    meaning: str
    better: str | None
    missing: str
    write: Callable[[float], str] = as_rate


METRICS: Mapping[str, MetricText] = {
    "auc_micro": MetricText(
        "AUC, micro",
        "The chance that an abnormal frame scores above a normal one, over all frames of all clips on one scale.",
        "higher",
        "Needs labels of both normal and abnormal frames.",
    ),
    "auc_macro": MetricText(
        "AUC, macro",
        "The mean of each clip's own AUC; clips whose frames are all normal or all abnormal are skipped.",
        "higher",
        "Needs a clip with both normal and abnormal frames.",
    ),
    "ap": MetricText(
        "Average precision",
        "Precision averaged over all recall levels: how many of the highest-ranked frames are truly abnormal.",
        "higher",
        "Needs labels of both normal and abnormal frames.",
    ),
    "eer": MetricText(
        "Equal error rate",
        "The error at the threshold where false positives and misses are equally frequent.",
        "lower",
        "Needs labels of both normal and abnormal frames.",
    ),
    "fpr95": MetricText(
        "FPR at 95 % TPR",
        "Normal frames above the threshold at which 95 % of the abnormal frames are found.",
        "lower",
        "Needs labels of both normal and abnormal frames.",
    ),
    "pixel_auc": MetricText(
        "AUC, pixel level",
        "As micro AUC, but an abnormal frame counts only when at least 40 % of its abnormal pixels are found.",
        "higher",
        "Needs pixel masks from the data set and a score map from the model.",
    ),
    "rbdc": MetricText(
        "RBDC",
        "Region-based detection: abnormal regions found, averaged over 0 to 1 false regions a frame.",
        "higher",
        "Needs pixel masks from the data set and a score map from the model.",
    ),
    "tbdc": MetricText(
        "TBDC",
        "Track-based detection: abnormal tracks of which a tenth is found, averaged over 0 to 1 false regions a frame.",
        "higher",
        "Needs pixel masks from the data set and a score map from the model.",
    ),
    "false_alarms_per_hour": MetricText(
        "False alarms per hour",
        "Alarms that overlap no abnormal frame, per hour of normal video.",
        "lower",
        "Needs a threshold, and normal frames.",
        as_number,
    ),
    "detection_delay_s": MetricText(
        "Detection delay",
        "Median time from the start of an anomaly to the first alarm inside it, over the anomalies that were detected.",
        "lower",
        "Needs a threshold, and a labelled anomaly that was detected.",
        as_seconds,
    ),
    "detection_delay_in_view_s": MetricText(
        "Detection delay, anomaly began in view",
        "The same over the anomalies that begin after the first score. An anomaly that is under way when its video starts has "
        "no true delay.",
        "lower",
        "Needs a detected anomaly that begins after the first score.",
        as_seconds,
    ),
    "anomalies_in_view": MetricText(
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
    """Reasons for missing metrics, each numbered once.

    Attributes:
        reasons: given by the evaluation, by dotted name or by the last part of it.
        texts: those used so far, in the order of their numbers.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def number(self, path: str) -> int:
        """Return the number of the reason why the metric at this dotted name is not known."""
        key = path.rpartition(".")[2]
        metric = METRICS.get(key)
        general = metric.missing if metric else OTHER_MISSING.get(key, "Not computed in this evaluation.")
        text = self.reasons.get(path) or self.reasons.get(key) or general
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def number_at(results: JSON, path: str) -> float | None:
    """Return the number at a dotted name; None when it or a group above it is absent or None.

    Raises:
        EvaluationError: there is something other than a finite number.
    """
    value: Any = results
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise EvaluationError(f"metric {path} is {value!r}: expected a finite number or None")
    return float(value)


def records_at(results: JSON, key: str) -> Sequence[Mapping[str, Any]]:
    """Return the records of this name; none when they are absent or None.

    Raises:
        EvaluationError: there is something other than a list of records.
    """
    records = results.get(key) or []
    if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
        raise EvaluationError(f"metric {key} is {records!r}: expected a list of records")
    return records


def interval_at(results: JSON, path: str) -> tuple[float, float] | None:
    """Return the (low, high) at a dotted name; None when it or a group above it is absent or None.

    Raises:
        EvaluationError: there is something other than two finite numbers in order.
    """
    value: Any = results
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise EvaluationError(f"metric {path} is {value!r}: expected two numbers or None")
    low, high = (number_at({"end": end}, "end") for end in value)
    if low is None or high is None or low > high:
        raise EvaluationError(f"metric {path} is {value!r}: expected a low and a high end")
    return low, high
