"""Charts as inline SVG. Lines stretch with the page; the words around them are HTML and keep their size on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.evaluation.report.document import ClipCurve
from comemory.evaluation.report.markup import Markup, joined, tag
from comemory.metrics import RocCurve, intervals

WIDTH = 1000.0
HEIGHT = 100.0
LANE = 9.0
"""Height of the strip under a clip's curve in which its alarms are drawn."""

MOST_POINTS = 1200
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Span:
    """A range of values that an axis shows; never empty."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float, margin: float = 0.0) -> Span:
        """From low to high with a margin, as a part of the difference, at both ends."""
        room = (high - low) * margin if high > low else max(abs(low) * 0.1, 1e-6)
        return cls(low - room, high + room)

    def share(self, values: Any) -> Any:
        """Where values lie: 0 at the low end, 1 at the high end."""
        return (values - self.low) / (self.high - self.low)


def ticks(span: Span, n_most: int = 5) -> list[float]:
    """Round numbers in a span, at most so many, in steps of 1, 2 or 5.

    >>> ticks(Span(0.0, 1.0))
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(Span(-3.0, 42.0), 3)
    [0.0, 20.0, 40.0]
    """
    rough = (span.high - span.low) / n_most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(span.low / step - 1e-9), math.floor(span.high / step + 1e-9)
    return [float(f"{i * step:.12g}") + 0.0 for i in range(first, last + 1)]


def tick_text(value: float) -> str:
    """
    >>> tick_text(0.2), tick_text(40.0), tick_text(-1500.0)
    ('0.2', '40', '−1500')
    """
    return f"{value:.6g}".replace("-", "−")


def thinned(values: Floats) -> NDArray[np.intp]:
    """Indices that keep the look of a long curve: the lowest and the highest of each short stretch, in order."""
    n = len(values)
    if n <= MOST_POINTS:
        return np.arange(n)
    edges = np.linspace(0, n, MOST_POINTS // 2 + 1).astype(np.intp)
    pairs = [(a + np.argmin(values[a:b]), a + np.argmax(values[a:b])) for a, b in pairwise(edges)]
    return np.unique(np.concatenate([[0, n - 1], np.ravel(pairs)]))


def polyline(x: Floats, y: Floats, css: str) -> Markup:
    """A line through points of the viewBox; a point that falls on the one before it is left out."""
    points = np.round(np.stack([x, y], axis=1), 2)
    moved = np.any(np.diff(points, axis=0) != 0, axis=1)
    text = " ".join(f"{a:.7g},{b:.7g}" for a, b in points[np.concatenate([[True], moved])])
    return tag("polyline", points=text, class_=css, vector_effect="non-scaling-stroke")


def clip_chart(clip: ClipCurve, values: Span, control: Span | None) -> Markup:
    """The score of one clip over time, with truth, threshold, alarms and the control on its own scale.

    Args:
        clip: with at least one scored frame.
        values: the range of the score axis.
        control: the range that the control is drawn in; None leaves it out.
    """
    time = _time_span(clip)

    def x(t: Any) -> Any:
        return np.clip(time.share(t), 0, 1) * WIDTH

    def y(v: Any) -> Any:
        return (1 - values.share(v)) * HEIGHT

    marks = [_band(x(a), x(b), 0, HEIGHT, "truth") for a, b in _abnormal_times(clip)]
    marks += [_line(0, y(v), WIDTH, y(v), "grid") for v in ticks(values, 4)]
    if control is not None and clip.control is not None:
        kept = thinned(clip.control)
        marks.append(polyline(x(clip.time_s[kept]), (1 - control.share(clip.control[kept])) * HEIGHT, "control"))
    kept = thinned(clip.score)
    marks.append(polyline(x(clip.time_s[kept]), y(clip.score[kept]), "model"))
    if clip.threshold is not None:
        marks.append(_line(0, y(clip.threshold), WIDTH, y(clip.threshold), "threshold"))
    for start, end, right in _alarms(clip):
        marks.append(_band(x(start), x(end), HEIGHT + 3, LANE - 3, "alarm right" if right else "alarm wrong"))
    return _framed(
        marks,
        described=_clip_words(clip),
        height=HEIGHT + LANE,
        x_labels=[(time.share(t), f"{tick_text(t)} s") for t in ticks(time, 5)],
        y_labels=[(values.share(v) * HEIGHT / (HEIGHT + LANE) + LANE / (HEIGHT + LANE), v) for v in ticks(values, 4)],
        data={"x": time, "model": values, "control": control},
        css="clip",
    )


def roc_chart(model: RocCurve | None, control: RocCurve | None) -> Markup:
    """Both ROC curves in one square; the diagonal is chance."""
    unit = Span(0.0, 1.0)
    steps = [0.0, 0.25, 0.5, 0.75, 1.0]
    marks = [_line(0, v * WIDTH, WIDTH, v * WIDTH, "grid") for v in steps]
    marks += [_line(v * WIDTH, 0, v * WIDTH, WIDTH, "grid") for v in steps]
    marks.append(_line(0, WIDTH, WIDTH, 0, "chance"))
    for curve, css in ((control, "control"), (model, "model")):
        if curve is not None:
            x, y = _roc_points(curve)
            marks.append(polyline(x, WIDTH - y, css))
    shown = " and ".join(name for name, curve in (("model", model), ("control", control)) if curve is not None)
    return _framed(
        marks,
        described=f"ROC curve of the {shown}: true positive rate over false positive rate",
        height=WIDTH,
        x_labels=[(v, tick_text(v)) for v in steps],
        y_labels=[(v, v) for v in steps],
        data={"x": unit, "model": unit, "control": unit},
        css="roc",
    )


def against_chart(model: float, interval: tuple[float, float] | None, control: float | None) -> Markup:
    """Two rows on one AUC axis: the model with its interval, the control as a mark."""
    known = [model, *(interval or ()), *([] if control is None else [control])]
    span = Span(min(0.5, math.floor(min(known) * 20) / 20), 1.0)

    def row(name: str, value: float, ends: tuple[float, float] | None) -> Markup:
        whisker = None
        if ends is not None:
            left, right = span.share(ends[0]), span.share(ends[1])
            whisker = tag("span", class_="whisker", style=f"left:{left:.2%};width:{right - left:.2%}")
        dot = tag("span", class_="dot", style=f"left:{span.share(value):.2%}")
        track = tag("span", whisker, dot, class_="track")
        return tag("div", tag("span", name, class_="who"), track, class_=f"row {name.lower()}")

    words = f"Micro AUC of the model {model:.3f}"
    words += "" if interval is None else f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
    words += "" if control is None else f"; control {control:.3f}"
    labels = [tag("span", tick_text(v), style=f"left:{span.share(v):.2%}") for v in ticks(span, 5)]
    return tag(
        "div",
        row("Model", model, interval),
        None if control is None else row("Control", control, None),
        tag("div", tag("span", class_="who"), tag("span", *labels, class_="track axis"), class_="row"),
        class_="against",
        role="img",
        aria_label=words,
    )


def _framed(
    marks: Sequence[Markup],
    *,
    described: str,
    height: float,
    x_labels: Sequence[tuple[float, str]],
    y_labels: Sequence[tuple[float, float]],
    data: dict[str, Span | None],
    css: str,
) -> Markup:
    drawing = tag(
        "svg",
        *marks,
        _line(0, 0, 0, height, "cursor"),
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=described,
    )
    ends = {f"data_{name}": f"{s.low:.9g} {s.high:.9g}" for name, s in data.items() if s is not None}
    return tag(
        "div",
        tag("div", *[tag("span", tick_text(v), style=f"bottom:{at:.2%}") for at, v in y_labels], class_="y-axis"),
        tag("div", drawing, class_="plot", **ends),
        tag("div", *[tag("span", text, style=f"left:{at:.2%}") for at, text in x_labels], class_="x-axis"),
        class_=f"chart {css}",
    )


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    ends = {name: f"{v:.6g}" for name, v in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2))}
    return tag("line", class_=css, vector_effect="non-scaling-stroke", **ends)


def _band(left: float, right: float, top: float, height: float, css: str) -> Markup:
    width = max(right - left, 2.0)
    return tag("rect", x=f"{left:.6g}", y=f"{top:g}", width=f"{width:.6g}", height=f"{height:g}", class_=css)


def _time_span(clip: ClipCurve) -> Span:
    return Span.around(float(clip.time_s[0]), float(clip.time_s[-1]))


def _frame_s(clip: ClipCurve) -> float:
    return float(np.median(np.diff(clip.time_s))) if len(clip.time_s) > 1 else 0.0


def _abnormal_times(clip: ClipCurve) -> list[tuple[float, float]]:
    """Start and end of each labelled anomaly; a frame lasts until the next."""
    if clip.labels is None:
        return []
    return [
        (float(clip.time_s[first]), float(clip.time_s[last]) + _frame_s(clip)) for first, last in intervals(clip.labels)
    ]


def _alarms(clip: ClipCurve) -> list[tuple[float, float, bool]]:
    """Start, end and whether each event touches an abnormal frame (True too where nothing is labelled)."""
    alarms = []
    for event in clip.events:
        inside = (clip.time_s >= event.start_s) & (clip.time_s <= event.end_s)
        right = clip.labels is None or bool(clip.labels[inside].any())
        alarms.append((event.start_s, event.end_s + _frame_s(clip), right))
    return alarms


def _clip_words(clip: ClipCurve) -> str:
    words = f"Score of clip {clip.name} over time, from {clip.score.min():.3g} to {clip.score.max():.3g}"
    if clip.labels is not None:
        words += f"; {clip.labels.mean():.0%} of the frames are abnormal"
    if clip.threshold is not None:
        words += f"; threshold {clip.threshold:.3g}, alarms: {len(clip.events)}"
    return words


def _roc_points(curve: RocCurve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of the curve on the grid of the drawing: what lies within a straight run is left out."""
    points = np.unique(np.round(np.stack([curve.false_positive_rate, curve.true_positive_rate], 1) * WIDTH), axis=0)
    step = np.diff(points, axis=0)
    turns = step[:-1, 0] * step[1:, 1] != step[:-1, 1] * step[1:, 0]
    corners = points[np.concatenate([[True], turns, [True]])]
    return corners[:, 0], corners[:, 1]


def legend(*entries: tuple[str, str]) -> Markup:
    """Keys of a chart: (css class, words)."""
    return tag(
        "ul", *[tag("li", tag("span", class_=f"key {css}"), joined(words)) for css, words in entries], class_="legend"
    )
