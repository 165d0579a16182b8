"""The page itself: a Jinja template filled in and written as one file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from comemory.errors import EvaluationError, SourceError
from comemory.evaluation.comparison import compare_with_baseline
from comemory.evaluation.report import charts
from comemory.evaluation.report.charts import AxisRange
from comemory.evaluation.report.document import ClipCurve, EvaluationReport, FindingKind, WorstFrame
from comemory.evaluation.report.images import data_uri, with_heat_map, with_outline
from comemory.evaluation.report.metric_text import (
    METRICS,
    Footnotes,
    as_count,
    as_number,
    as_rate,
    as_seconds,
    interval_at,
    number_at,
    records_at,
    replace_unprintable,
)
from comemory.files import write_text
from comemory.metrics import auc
from comemory.types import JSON

COLUMNS = {"causal": "Causal", "paper": "Paper protocol", "motion_baseline": "Motion baseline"}
PROTOCOL_NAMES = {
    "model": "Model",
    "thesis": "Score of the thesis, Eq. (16)",
    "motion_baseline": "Motion baseline",
    "raw": "not normalised",
    "offline_max": "each clip divided by its maximum",
    "offline_min_max": "each clip scaled to 0 to 1",
    "none": "No smoothing",
    "causal": "Causal smoothing",
    "offline_gaussian": "Offline smoothing",
}
"""Names of the records of the protocol matrix; a name that is not here is shown as it is."""
BUDGET_COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "threshold": ("Threshold", as_number),
    "false_alarms_per_hour": ("False alarms per hour", as_number),
    "detection_delay_s": ("Delay", as_seconds),
    "detection_delay_in_view_s": ("Delay, anomaly began in view", as_seconds),
    "missed_anomalies": ("Anomalies missed", as_count),
}
CARDS: Sequence[tuple[str, str, Callable[[float], str], str]] = (
    ("AUC, micro", "causal.auc_micro", as_rate, ""),
    ("Motion baseline", "motion_baseline.auc_micro", as_rate, ""),
    ("AUC, macro", "causal.auc_macro", as_rate, "mean over clips"),
    ("False alarms", "causal.false_alarms_per_hour", as_number, "per hour of normal video"),
    ("Detection delay", "causal.detection_delay_s", as_seconds, "median, when detected"),
    ("Speed", "frames_per_second", as_number, "frames per second"),
)


class TableCell(NamedTuple):
    """One cell of a table, or one card.

    Attributes:
        text: the value; None where it is not part of the column.
        note: number of the reason why it is not known; then the text is `n/a`.
        detail: a second line, such as an interval.
    """

    text: str | None
    note: int | None = None
    detail: str = ""


def write(path: str | os.PathLike[str], report: EvaluationReport) -> None:
    """Write the page; see `comemory.evaluation.report.write_report`."""
    target, page = Path(path), render_report(report)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, page)
    except (OSError, ValueError, SourceError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"cannot write {target}: ")
        raise EvaluationError(
            f"cannot write the report {target}: {reason}; choose a path that can be written"
        ) from None


def render_report(report: EvaluationReport) -> str:
    """Return the whole page as text.

    Raises:
        EvaluationError: a metric is neither a finite number nor None.
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    notes = Footnotes(report.reasons)
    # The order is that of the page, because footnotes are numbered as they occur.
    context = {
        "report": report,
        "header": _header(report),
        "cards": _cards(report, notes),
        "comparison": _comparison(report, notes),
        "metric_rows": _metric_rows(report, notes),
        "columns": COLUMNS,
        "matrix": _protocol_matrix(report.results),
        "budgets": _budget_rows(report.results),
        "budget_columns": [name for name, _ in BUDGET_COLUMNS.values()],
        "clips": _clips(report),
        "galleries": [_gallery(report, "false alarm"), _gallery(report, "miss")],
        "raw": json.dumps(report.results, indent=2, default=str, ensure_ascii=False),
        "footnotes": notes.texts,
        "style": Markup(_asset("page.css")),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }
    return environment.from_string(_asset("page.html.j2")).render(context)


def _printable(value: Any) -> Any:
    """Replace characters that no page may hold, in everything that the template prints."""
    return replace_unprintable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return files("comemory.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _header(report: EvaluationReport) -> JSON:
    counts = [
        f"{value:,.0f} {what}"
        for key, what in (("n_videos", "clips"), ("n_frames", "frames"), ("n_scored", "of them scored"))
        if (value := number_at(report.results, key)) is not None
    ]
    named = [(key, report.model.get(key)) for key in ("name", "preset", "seed", "date")]
    return {
        "counts": counts,
        "model": [f"seed {value}" if key == "seed" else str(value) for key, value in named if value is not None],
    }


def _cell(
    report: EvaluationReport, notes: Footnotes, path: str, write: Callable[[float], str], detail: str = ""
) -> TableCell:
    """The metric at a dotted name, or `n/a` with the number of its reason."""
    value = number_at(report.results, path)
    if value is None:
        return TableCell("n/a", notes.number(path), detail)
    return TableCell(write(value), None, detail)


def _cards(report: EvaluationReport, notes: Footnotes) -> list[tuple[str, TableCell]]:
    model = number_at(report.results, "causal.auc_micro")
    baseline = number_at(report.results, "motion_baseline.auc_micro")
    interval = interval_at(report.results, "causal.auc_micro_ci95")
    details = {
        "causal.auc_micro": f"95 %: {_interval_text(interval)}" if interval else "",
        "motion_baseline.auc_micro": "" if model is None or baseline is None else f"model {_signed(model - baseline)}",
    }
    return [(name, _cell(report, notes, path, write, details.get(path, detail))) for name, path, write, detail in CARDS]


def _comparison(report: EvaluationReport, notes: Footnotes) -> JSON:
    model = number_at(report.results, "causal.auc_micro")
    interval = interval_at(report.results, "causal.auc_micro_ci95")
    verdict = compare_with_baseline(report.results)
    has_roc = report.model_roc is not None or report.baseline_roc is not None
    return {
        "verdict": verdict.verdict,
        "text": verdict.text,
        "chart": None
        if model is None
        else charts.comparison_chart(model, interval, number_at(report.results, "motion_baseline.auc_micro")),
        "roc": charts.roc_chart(report.model_roc, report.baseline_roc) if has_roc else None,
        "no_roc": None if has_roc else notes.number("causal.auc_micro"),
    }


def _metric_rows(report: EvaluationReport, notes: Footnotes) -> list[JSON]:
    """Every metric under the causal and the paper's protocol, and of the motion baseline."""
    rows = []
    for key, metric in METRICS.items():
        cells = []
        for group in COLUMNS:
            has_metric = isinstance(report.results.get(group), dict) and key in report.results[group]
            interval = interval_at(report.results, f"{group}.{key}_ci95")
            detail = _interval_text(interval) if interval else ""
            cells.append(
                _cell(report, notes, f"{group}.{key}", metric.write, detail) if has_metric else TableCell(None)
            )
        rows.append({"name": metric.name, "meaning": metric.meaning, "better": metric.better, "cells": cells})
    return rows


def _protocol_matrix(results: JSON) -> JSON | None:
    """The AUC of every score under every protocol; None when the results hold none."""
    records = records_at(results, "protocols")
    if not records:
        return None
    smoothings = list(dict.fromkeys(str(record.get("smoothing")) for record in records))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for record in records:
        row = rows.setdefault((str(record.get("score")), str(record.get("normalisation"))), {})
        row[str(record.get("smoothing"))] = _both_aucs(record)
    return {
        "smoothings": [_protocol_name(smoothing) for smoothing in smoothings],
        "rows": [
            {
                "score": _protocol_name(score),
                "normalisation": _protocol_name(normalisation),
                "cells": [row.get(smoothing, "–") for smoothing in smoothings],
            }
            for (score, normalisation), row in rows.items()
        ],
    }


def _both_aucs(record: Mapping[str, Any]) -> str:
    both = [number_at(dict(record), key) for key in ("auc_micro", "auc_macro")]
    if all(value is None for value in both):
        return "–"
    return " / ".join("–" if value is None else as_rate(value) for value in both)


def _protocol_name(name: str) -> str:
    return PROTOCOL_NAMES.get(name, name)


def _budget_rows(results: JSON) -> list[tuple[str, list[str]]]:
    """False alarms, delays and misses at each false-alarm budget."""
    rows = []
    for record in records_at(results, "budgets"):
        values = [(number_at(dict(record), key), write) for key, (_, write) in BUDGET_COLUMNS.items()]
        rows.append(
            (str(record.get("false_alarm_budget")), ["–" if value is None else write(value) for value, write in values])
        )
    return rows


def _clips(report: EvaluationReport) -> JSON:
    """The score of each clip over time."""
    scored = [clip for clip in report.clips if len(clip.score)]
    shared, baseline = _shared_range(scored), _baseline_range(scored)
    return {
        "is_shared": shared is not None,
        "has_baseline": baseline is not None,
        "figures": [
            {
                "name": clip.name,
                "auc": _clip_auc(clip),
                "chart": charts.clip_chart(clip, shared or _score_range(clip), baseline) if len(clip.score) else None,
            }
            for clip in report.clips
        ],
    }


def _clip_auc(clip: ClipCurve) -> str:
    if not len(clip.score):
        return ""
    if clip.labels is None:
        return "not labelled"
    own = auc(clip.score, clip.labels)
    baseline = None if clip.motion_baseline is None else auc(clip.motion_baseline, clip.labels)
    if own is not None:
        return f"AUC {as_rate(own)}" + ("" if baseline is None else f" · baseline {as_rate(baseline)}")
    return "all frames abnormal" if clip.labels.any() else "all frames normal"


def _score_range(clip: ClipCurve) -> AxisRange:
    known = [float(clip.score.min()), float(clip.score.max())]
    known += [] if clip.threshold is None else [float(clip.threshold)]
    return AxisRange.with_margin(min(known), max(known))


def _shared_range(clips: Sequence[ClipCurve]) -> AxisRange | None:
    """One range for all clips; None where it would flatten most of them, being more than four times the typical one."""
    ranges = [_score_range(clip) for clip in clips]
    if not ranges:
        return None
    whole = AxisRange(min(one.low for one in ranges), max(one.high for one in ranges))
    typical = float(np.median([one.high - one.low for one in ranges]))
    return whole if whole.high - whole.low <= 4 * typical else None


def _baseline_range(clips: Sequence[ClipCurve]) -> AxisRange | None:
    known = [clip.motion_baseline for clip in clips if clip.motion_baseline is not None]
    if not known:
        return None
    return AxisRange.with_margin(float(min(c.min() for c in known)), float(max(c.max() for c in known)))


def _gallery(report: EvaluationReport, kind: FindingKind) -> JSON:
    """The images of one kind of error, and whether there were errors at the threshold at all."""
    findings = [finding for finding in report.findings if finding.kind == kind]
    threshold = number_at(report.results, "threshold")
    n_above = None if threshold is None else sum(finding.score > threshold for finding in findings)
    if kind == "false alarm":
        title, text = "Normal frames that scored highest", "None is above the threshold, so none raised an alarm."
        has_none = n_above == 0
    else:
        title, text = "Abnormal frames that scored lowest", "None is below the threshold, so none was missed."
        has_none = n_above == len(findings)
    return {
        "title": title,
        "text": text if has_none and findings else "",
        "has_heat": any(finding.heat_map is not None for finding in findings),
        "has_outline": any(finding.mask is not None and finding.mask.any() for finding in findings),
        "figures": [_finding(finding, threshold) for finding in findings],
    }


def _finding(finding: WorstFrame, threshold: float | None) -> JSON:
    label = "normal" if finding.kind == "false alarm" else "abnormal"
    what = f"{label} frame {finding.frame} of video {finding.video}, score {finding.score:.3g}"
    image = finding.image if finding.mask is None else with_outline(finding.image, finding.mask)
    images = [(data_uri(image), f"Image: {what}")]
    if finding.heat_map is not None:
        images.append((data_uri(with_heat_map(finding.image, finding.heat_map)), f"Heat map: {what}"))
    side = "" if threshold is None else "above the threshold" if finding.score > threshold else "below the threshold"
    return {
        "video": finding.video,
        "frame": f"frame {finding.frame:,} · {_clock(finding.time_s)}",
        "side": side,
        "score": f"score {as_number(finding.score)}",
        "images": images,
    }


def _interval_text(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _clock(time_s: float) -> str:
    """Format a time of a video.

    >>> _clock(75.25)
    '1:15.2'
    """
    tenths = int(time_s * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
