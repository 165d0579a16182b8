"""The sections of the page, each from a report to markup."""

from __future__ import annotations

import json

import numpy as np

from comemory.evaluation.report.charts import Span, against_chart, clip_chart, legend, roc_chart
from comemory.evaluation.report.document import ClipCurve, Finding, Report
from comemory.evaluation.report.markup import Markup, joined, tag, video_text
from comemory.evaluation.report.pictures import data_uri, with_heat
from comemory.evaluation.report.tables import FIGURES, Footnotes, as_number, as_rate, as_seconds, interval_at, number_at
from comemory.metrics import auc


def header(report: Report) -> Markup:
    """Title, data set, and which model this is."""
    counts = [
        f" · {value:,.0f} {words}"
        for key, words in (("n_videos", "clips"), ("n_frames", "frames"), ("n_scored", "of them scored"))
        if (value := number_at(report.figures, key)) is not None
    ]
    named = [(key, report.model.get(key)) for key in ("name", "preset", "seed", "date")]
    model = [f"seed {value}" if key == "seed" else str(value) for key, value in named if value is not None]
    return joined(
        tag("p", "Evaluation report", class_="kicker"),
        tag("h1", report.title),
        tag("p", tag("strong", video_text(report.dataset)), *counts, class_="sub"),
        tag("p", " · ".join(model), class_="sub") if model else None,
    )


def cards(report: Report, notes: Footnotes) -> Markup:
    """The key numbers."""
    figures = report.figures
    model, control = number_at(figures, "causal.auc_micro"), number_at(figures, "control.auc_micro")
    interval = interval_at(figures, "causal.auc_micro_ci95")
    difference = None if model is None or control is None else f"model {_signed(model - control)}"
    cards = [
        ("AUC, micro", "causal.auc_micro", as_rate, interval and f"95 %: {_interval_text(interval)}", "lead"),
        ("Control, no training", "control.auc_micro", as_rate, difference, None),
        ("AUC, macro", "causal.auc_macro", as_rate, "mean over clips", None),
        ("False alarms", "causal.false_alarms_per_hour", as_number, "per hour of normal video", None),
        ("Detection delay", "causal.detection_delay_s", as_seconds, "median, when detected", None),
        ("Speed", "frames_per_second", as_number, "frames a second", None),
    ]
    made = []
    for name, key, write, words, css in cards:
        value = number_at(figures, key)
        shown = notes.missing(key) if value is None else write(value)
        below = tag("span", words, class_="below") if words else None
        made.append(
            tag(
                "div", tag("dt", name), tag("dd", tag("span", shown, class_="value"), below), class_=f"card {css or ''}"
            )
        )
    return tag("dl", *made, class_="cards")


def against(report: Report, notes: Footnotes) -> Markup:
    """Model and control side by side, in words, on one axis and as ROC curves."""
    model = number_at(report.figures, "causal.auc_micro")
    control = number_at(report.figures, "control.auc_micro")
    interval = interval_at(report.figures, "causal.auc_micro_ci95")
    mood, words = _verdict(model, interval, control)
    left = tag(
        "div",
        tag("p", words, class_=f"verdict {mood}"),
        None if model is None else against_chart(model, interval, control),
        tag(
            "p",
            f"The control needs no training; a model under it has learned nothing useful. {report.control} "
            "Both are scored on the same frames, causally and without looking at the test labels. "
            "The bar is the interval that 95 % of redrawn sets of clips fall into.",
            class_="small",
        ),
    )
    right = _roc(report) or tag("p", "No ROC curve: ", notes.missing("causal.auc_micro"), class_="small")
    return _section("Model against control", tag("div", left, right, class_="columns"))


def _roc(report: Report) -> Markup | None:
    if report.model_roc is None and report.control_roc is None:
        return None
    return tag(
        "figure",
        legend(("model", "Model"), ("control", "Control"), ("chance", "Chance")),
        tag("output", class_="readout"),
        roc_chart(report.model_roc, report.control_roc),
        tag("figcaption", "True positive rate over false positive rate, all frames of all clips, causal scores."),
    )


def _verdict(model: float | None, interval: tuple[float, float] | None, control: float | None) -> tuple[str, str]:
    if model is None or control is None:
        return "unsure", "Model and control cannot be compared here: one of the two figures is not known."
    difference = f"{abs(model - control):.3f}"
    if model <= control:
        return "bad", f"The model does not beat the control: it lies {difference} under it."
    if interval is None:
        return "unsure", f"The model lies {difference} above the control; how sure that is cannot be said."
    if interval[0] <= control:
        return "unsure", (
            f"The model lies {difference} above the control, but the control is inside the model's 95 % interval: "
            "these clips alone do not settle it."
        )
    return "good", f"The model lies {difference} above the control, and so does its whole 95 % interval."


def protocols(report: Report, notes: Footnotes) -> Markup:
    """Every figure under the causal and the paper's protocol, with what the protocols mean."""
    columns = [("causal", "Causal"), ("paper", "Paper protocol"), ("control", "Control")]
    rows = []
    for key, words in FIGURES.items():
        cells = []
        for group, _ in columns:
            has = isinstance(report.figures.get(group), dict) and key in report.figures[group]
            cells.append(_cell(report, notes, group, key) if has else tag("td", "–", class_="none"))
        mark = None
        if words.better is not None:
            arrow = {"higher": "↑", "lower": "↓"}[words.better]
            mark = joined("\u00a0", tag("abbr", arrow, title=f"{words.better} is better"))
        name = tag("th", words.name, mark, tag("span", words.meaning, class_="meaning"), scope="row")
        rows.append(tag("tr", name, *cells))
    head = tag("tr", tag("th", "Figure", scope="col"), *[tag("th", words, scope="col") for _, words in columns])
    lines = tag(
        "dl",
        tag("dt", "Causal"),
        tag("dd", "What a live system would give: each score is made from past and present frames alone, calibrated on "
            "training video, with one scale for all clips."),
        tag("dt", "Paper protocol"),
        tag("dd", "For comparison with published figures only: scores may be normalised within each clip and smoothed "
            "with a look ahead, which a live system cannot do. Never to be mixed with the causal column."),
        class_="explained",
    )  # fmt: skip
    table = tag(
        "table",
        tag("caption", "Every figure, by protocol. ↑ higher is better, ↓ lower is better, – not part of the column."),
        tag("thead", head),
        tag("tbody", *rows),
    )
    return _section("Two protocols, kept apart", lines, tag("div", table, class_="scroll"))


def _cell(report: Report, notes: Footnotes, group: str, key: str) -> Markup:
    value = number_at(report.figures, f"{group}.{key}")
    shown = notes.missing(f"{group}.{key}") if value is None else FIGURES[key].write(value)
    interval = interval_at(report.figures, f"{group}.{key}_ci95")
    below = None if interval is None else tag("span", _interval_text(interval), class_="interval")
    return tag("td", shown, below)


def curves(report: Report) -> Markup | None:
    """The score of each clip over time; None when there are no clips."""
    drawn = [clip for clip in report.clips if len(clip.score)]
    if not report.clips:
        return None
    shared = _shared_span(drawn)
    control = _control_span(drawn)
    words = (
        "All clips share one score axis."
        if shared
        else "The clips differ too much for one score axis: each has its own."
    )
    entries = [("model", "Model"), ("truth", "Labelled abnormal"), ("threshold", "Threshold")]
    entries += [("alarm right", "Alarm"), ("alarm wrong", "False alarm")]
    if control is not None:
        entries.insert(1, ("control", "Control"))
        words += " The control is drawn on a scale of its own."
    figures = [_clip_figure(clip, shared, control) for clip in report.clips]
    return _section(
        "Scores over time",
        tag("p", words, class_="small"),
        legend(*entries),
        tag("div", *figures, class_="clips"),
    )


def _clip_figure(clip: ClipCurve, shared: Span | None, control: Span | None) -> Markup:
    caption = tag(
        "figcaption",
        tag("strong", "Clip ", video_text(clip.name)),
        tag("span", _clip_auc(clip), class_="small"),
        tag("output", class_="readout"),
    )
    if not len(clip.score):
        return tag("figure", caption, tag("p", "No frame of this clip has a score.", class_="small"))
    return tag("figure", caption, clip_chart(clip, shared or _clip_span(clip), control))


def _clip_auc(clip: ClipCurve) -> str:
    if clip.labels is None:
        return "not labelled"
    own = auc(clip.score, clip.labels)
    control = None if clip.control is None else auc(clip.control, clip.labels)
    if own is not None:
        return f"AUC {as_rate(own)}" + ("" if control is None else f" · control {as_rate(control)}")
    return "all frames abnormal" if clip.labels.any() else "all frames normal"


def _clip_span(clip: ClipCurve) -> Span:
    known = [float(clip.score.min()), float(clip.score.max())]
    known += [] if clip.threshold is None else [clip.threshold]
    return Span.around(min(known), max(known), margin=0.06)


def _shared_span(clips: list[ClipCurve]) -> Span | None:
    """One range for all clips; None where that would press most of them flat."""
    each = [_clip_span(clip) for clip in clips]
    if not each:
        return None
    whole = Span(min(span.low for span in each), max(span.high for span in each))
    typical = float(np.median([span.high - span.low for span in each]))
    return whole if whole.high - whole.low <= 4 * typical else None


def _control_span(clips: list[ClipCurve]) -> Span | None:
    known = [clip.control for clip in clips if clip.control is not None]
    if not known:
        return None
    return Span.around(float(min(c.min() for c in known)), float(max(c.max() for c in known)), margin=0.06)


def gallery(report: Report, kind: str) -> Markup:
    """The pictures of one kind of mistake."""
    title, none = {
        "false alarm": ("Worst false alarms", "Normal frames with the highest scores: none to show."),
        "miss": ("Worst misses", "Abnormal frames with the lowest scores: none to show."),
    }[kind]
    chosen = [finding for finding in report.findings if finding.kind == kind]
    if not chosen:
        return _section(title, tag("p", none, class_="small"))
    words, place = {
        "false alarm": ("Normal frames that scored highest.", " To the right, where the model saw the abnormality."),
        "miss": ("Abnormal frames that scored lowest.", " To the right, where the model looked instead."),
    }[kind]
    if any(finding.heat_map is not None for finding in chosen):
        words += place
    return _section(title, tag("p", words, class_="small"), tag("div", *map(_finding, chosen), class_="gallery"))


def _finding(finding: Finding) -> Markup:
    when = _clock(finding.time_s)
    what = f"{finding.kind} in video {finding.video}, frame {finding.frame}, score {finding.score:.3g}"
    pictures = [tag("img", src=Markup(data_uri(finding.picture)), alt=f"Picture: {what}")]
    if finding.heat_map is not None:
        heat = data_uri(with_heat(finding.picture, finding.heat_map))
        pictures.append(tag("img", src=Markup(heat), alt=f"Heat map: {what}"))
    words = tag(
        "figcaption",
        tag("strong", video_text(finding.video)),
        tag("span", f"frame {finding.frame:,} · {when}"),
        tag("span", f"score {as_number(finding.score)}", class_="score"),
    )
    return tag("figure", tag("div", *pictures, class_="pictures"), words)


def provenance(report: Report) -> Markup:
    """What the model and the evaluation were, and the figures as they came."""
    pairs = [
        tag("div", tag("dt", str(key).replace("_", " ")), tag("dd", "not known" if value is None else str(value)))
        for key, value in report.model.items()
    ]
    raw = json.dumps(report.figures, indent=2, default=str, ensure_ascii=False)
    return _section(
        "Provenance",
        tag("ul", *[tag("li", note) for note in report.notes], class_="notes") if report.notes else None,
        tag("dl", *pairs, class_="provenance") if pairs else None,
        tag("details", tag("summary", "Raw figures (JSON)"), tag("pre", raw)),
    )


def footnotes(notes: Footnotes) -> Markup | None:
    """The reasons behind every n/a, once all sections are made."""
    if not notes.texts:
        return None
    listed = [tag("li", text, id=f"note-{i}") for i, text in enumerate(notes.texts, start=1)]
    return tag("footer", tag("h2", "Why a figure is n/a"), tag("ol", *listed))


def _section(title: str, *children: Markup | None) -> Markup:
    return tag("section", tag("h2", title), *children)


def _interval_text(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _clock(time_s: float) -> str:
    """
    >>> _clock(75.25)
    '1:15.2'
    """
    tenths = int(time_s * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
