"""The plots of the page: inline SVG by matplotlib, coloured by the page's style sheet."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from comemory.evaluation.report.document import ClipCurve
from comemory.evaluation.report.metric_text import replace_unprintable
from comemory.metrics import RocCurve, intervals

MAX_POINTS = 1200
"""Points of a curve: more than a plot has pixels, and few enough for a page with hundreds of clips."""
ALARM_LANE = 0.07
"""Part of a clip's plot, at the bottom, in which its alarms are drawn."""

# The colours of the light theme. In the SVG each becomes the variable of page.css, so that a dark page has dark plots.
_COLOURS = {
    "model": "#1d5fc4",
    "baseline": "#9a7b1f",
    "truth": "#f2c9b3",
    "right": "#0f7b6c",
    "wrong": "#b3194f",
    "ink": "#1b1e23",
    "soft": "#5c636e",
    "grid": "#ebebe6",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 8,
    "text.color": _COLOURS["soft"],
    "axes.edgecolor": _COLOURS["grid"],
    "axes.labelcolor": _COLOURS["soft"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _COLOURS["grid"],
    "xtick.color": _COLOURS["soft"],
    "ytick.color": _COLOURS["soft"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}
Floats = NDArray[np.floating[Any]]


class AxisRange(NamedTuple):
    """The values that an axis shows; never empty."""

    low: float
    high: float

    @classmethod
    def with_margin(cls, low: float, high: float, margin: float = 0.06) -> AxisRange:
        """Return the range from low to high with a margin at both ends, as a part of the difference."""
        room = (high - low) * margin if high > low else max(abs(low) * 0.1, 1e-6)
        return cls(low - room, high + room)


def clip_chart(clip: ClipCurve, scores: AxisRange, baseline: AxisRange | None) -> Markup:
    """Plot the score of one clip over time, with labels, threshold, alarms and the motion baseline.

    Args:
        clip: with at least one scored frame.
        scores: of the score axis.
        baseline: values of the motion baseline that fill the plot, because its scale is another one; None leaves it out.
    """
    time = AxisRange.with_margin(float(clip.time_s[0]), float(clip.time_s[-1]), 0.0)
    # Alarms lie in a lane of their own below the lowest score.
    bottom = scores.low - (scores.high - scores.low) * ALARM_LANE / (1 - ALARM_LANE)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 1.55))
        axis = figure.add_axes((0.075, 0.14, 0.915, 0.83), xlim=time, ylim=(bottom, scores.high))
        for start, end in _abnormal_times(clip):
            axis.axvspan(start, end, color=_COLOURS["truth"], linewidth=0, zorder=0.5)
        if baseline is not None and clip.motion_baseline is not None:
            points = thin_curve(clip.motion_baseline)
            share = (clip.motion_baseline[points] - baseline.low) / (baseline.high - baseline.low)
            drawn = bottom + share * (scores.high - bottom)
            axis.plot(clip.time_s[points], drawn, color=_COLOURS["baseline"], linewidth=0.9, gid="baseline")
        points = thin_curve(clip.score)
        axis.plot(clip.time_s[points], clip.score[points], color=_COLOURS["model"], linewidth=1.2, gid="model")
        if clip.threshold is not None:
            axis.axhline(clip.threshold, color=_COLOURS["ink"], linewidth=0.7, linestyle=(0, (5, 4)), gid="threshold")
        for start, end, is_right in _alarms(clip):
            colour, name = (_COLOURS["right"], "alarm right") if is_right else (_COLOURS["wrong"], "alarm wrong")
            lane = axis.get_xaxis_transform()
            bars = axis.broken_barh([(start, end - start)], (0, ALARM_LANE * 0.7), color=colour, transform=lane)
            bars.set_gid(name)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.yaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
        axis.grid(axis="y")
        axis.set_xlim(time)
        shown = {"x": time, "model": AxisRange(bottom, scores.high), "baseline": baseline}
        return _inline_svg(figure, axis, _clip_description(clip), shown)


def roc_chart(model: RocCurve | None, baseline: RocCurve | None) -> Markup:
    """Plot both ROC curves in one square; the diagonal is chance."""
    unit = AxisRange(0.0, 1.0)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.4, 3.4))
        axis = figure.add_axes((0.13, 0.12, 0.85, 0.85), xlim=(-0.005, 1.005), ylim=(-0.005, 1.005))
        axis.plot([0, 1], [0, 1], color=_COLOURS["soft"], linewidth=0.8, linestyle=(0, (2, 4)))
        for curve, name in ((baseline, "baseline"), (model, "model")):
            if curve is not None:
                axis.plot(*_roc_corners(curve), color=_COLOURS[name], linewidth=1.4, gid=name)
        axis.set(xlabel="false positive rate", ylabel="true positive rate")
        axis.set_xticks(np.linspace(0, 1, 5))
        axis.set_yticks(np.linspace(0, 1, 5))
        axis.grid()
        names = [name for name, curve in (("model", model), ("motion baseline", baseline)) if curve is not None]
        description = f"ROC curve of the {' and '.join(names)}: true positive rate over false positive rate"
        edges = AxisRange(-0.005, 1.005)
        shown = {"x": edges, "model": edges, "baseline": edges} if names else {"x": unit}
        return _inline_svg(figure, axis, description, shown)


def comparison_chart(model: float, interval: tuple[float, float] | None, baseline: float | None) -> Markup:
    """Plot two rows on one AUC axis: the model with its 95 % interval, and the motion baseline."""
    known = [model, *(interval or ()), *([] if baseline is None else [baseline])]
    low = min(0.5, np.floor(min(known) * 20) / 20)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 0.95))
        axis = figure.add_axes((0.18, 0.28, 0.79, 0.7), xlim=(low - 0.005, 1.005), ylim=(-0.6, 1.6))
        if interval is not None:
            axis.plot(interval, [1, 1], color=_COLOURS["model"], alpha=0.3, linewidth=7, solid_capstyle="round")
        axis.plot(model, 1, "o", color=_COLOURS["model"], markersize=7)
        if baseline is not None:
            axis.plot(baseline, 0, "D", color=_COLOURS["baseline"], markersize=5.5)
        axis.set_yticks([1, 0] if baseline is not None else [1], ["Model", "Baseline"][: 1 + (baseline is not None)])
        axis.grid(axis="y")
        axis.xaxis.set_major_locator(MaxNLocator(6))
        description = f"Micro AUC of the model {model:.3f}"
        description += "" if interval is None else f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
        description += "" if baseline is None else f"; motion baseline {baseline:.3f}"
        return _inline_svg(figure, axis, description, {})


def thin_curve(values: Floats) -> NDArray[np.intp]:
    """Return indices that preserve the shape of a long curve: the lowest and the highest value of each short interval."""
    n = len(values)
    if n <= MAX_POINTS:
        return np.arange(n)
    edges = np.linspace(0, n, MAX_POINTS // 2 + 1).astype(np.intp)
    pairs = [(a + np.argmin(values[a:b]), a + np.argmax(values[a:b])) for a, b in pairwise(edges)]
    return np.unique(np.concatenate([[0, n - 1], np.ravel(pairs)]))


def _inline_svg(figure: Figure, axis: Axes, description: str, shown: Mapping[str, AxisRange | None]) -> Markup:
    """The figure as an SVG element of a page.

    The SVG of matplotlib is a document of its own. Inside a page its identifiers would clash with those of other plots, and
    its fonts and colours with those of the page: so they are replaced.

    Args:
        figure: drawn.
        axis: its only one.
        description: of the plot in words, for readers who do not see it.
        shown: the range of each curve by its name, and of the x axis; page.js reads values under the pointer with them.
    """
    text, description = StringIO(), replace_unprintable(description)
    with mpl.rc_context({"svg.hashsalt": description}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->|<defs>\s*</defs>", "", svg, flags=re.DOTALL
    )
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r' id="((?:model|baseline|threshold|alarm)[ \w]*)"', r' class="\1"', svg)
    referenced = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referenced else "", svg)
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    view_box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert view_box is not None
    width, height = float(view_box[1]), float(view_box[2])
    box = axis.get_position()
    edges = (box.x0 * width, (1 - box.y1) * height, box.x1 * width, (1 - box.y0) * height)
    data = {"box": edges, **{name: span for name, span in shown.items() if span is not None}}
    attributes = "".join(
        f' data-{name}="{" ".join(f"{value:.9g}" for value in values)}"' for name, values in data.items()
    )
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(description)}"{attributes}>'
    cursor = f'<line class="cursor" x1="0" x2="0" y1="{edges[1]:.6g}" y2="{edges[3]:.6g}"></line>'
    body = re.sub(r"\n\s*", "\n", svg[svg.index(">") + 1 : svg.rindex("</svg>")]).strip()
    return Markup(f"{head}{body}{cursor}</svg>")


def _frame_s(clip: ClipCurve) -> float:
    return float(np.median(np.diff(clip.time_s))) if len(clip.time_s) > 1 else 0.0


def _abnormal_times(clip: ClipCurve) -> list[tuple[float, float]]:
    """Start and end of each labelled anomaly; a frame lasts until the next one."""
    if clip.labels is None:
        return []
    return [
        (float(clip.time_s[first]), float(clip.time_s[last]) + _frame_s(clip)) for first, last in intervals(clip.labels)
    ]


def _alarms(clip: ClipCurve) -> Sequence[tuple[float, float, bool]]:
    """Start, end and whether each event overlaps an abnormal frame (True as well where nothing is labelled)."""
    alarms = []
    for event in clip.events:
        inside = (clip.time_s >= event.start_s) & (clip.time_s <= event.end_s)
        is_right = clip.labels is None or bool(clip.labels[inside].any())
        end_s = min(event.end_s + _frame_s(clip), float(clip.time_s[-1]))
        alarms.append((event.start_s, end_s, is_right))
    return alarms


def _clip_description(clip: ClipCurve) -> str:
    text = f"Score of clip {clip.name} over time, from {clip.score.min():.3g} to {clip.score.max():.3g}"
    if clip.labels is not None:
        text += f"; {clip.labels.mean():.0%} of the frames are abnormal"
    if clip.threshold is not None:
        text += f"; threshold {clip.threshold:.3g}, alarms: {len(clip.events)}"
    return text


def _roc_corners(curve: RocCurve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of the curve on a grid of 1/1000: points within a straight run are left out."""
    points = np.stack([curve.false_positive_rate, curve.true_positive_rate], axis=1)
    points = np.unique(np.round(points, 3), axis=0)
    step = np.round(np.diff(points, axis=0) * 1000)
    turns = step[:-1, 0] * step[1:, 1] != step[:-1, 1] * step[1:, 0]
    corners = points[np.concatenate([[True], turns, [True]])]
    return corners[:, 0], corners[:, 1]
