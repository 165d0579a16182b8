"""Plots of the page of results, as SVG. The same rows give the same bytes, so that a test can compare them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from itertools import groupby
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from comemory.research.reproduce.summary import HEADLINE, Summary, by_data, nested_number

MODEL, BASELINE, REPORTED, SELECTION = "#0b5394", "#7f7f7f", "#b45f06", "#38761d"
WIDEST = 44
"""Characters in a line of a label."""
NEAR = 25
"""Points nearer than 1 / NEAR of the axis share a label, because two would overlap."""
Point = tuple[float, float]
_STYLE: Any = {
    "svg.hashsalt": "comemory",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot_variants(listed: Sequence[Summary]) -> str | None:
    """Plot the AUC of each variant: every seed, the mean, the motion baseline and the reported value; a panel for each data set.

    Returns:
        SVG; None without results.
    """
    grouped = [group for group in by_data(listed).values() if any(summary.spread_of(HEADLINE) for summary in group)]
    if not grouped:
        return None
    titles = list(dict.fromkeys(summary.title for group in grouped for summary in group))
    with mpl.rc_context(_STYLE):
        labels = [fill(title.replace("`", ""), WIDEST) for title in titles]
        size = (
            3.6 + 3.8 * len(grouped),
            1.3 + 0.2 * len(labels) + 0.12 * sum(len(label.split("\n")) for label in labels),
        )
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        axes = figure.subplots(1, len(grouped), sharey=True, squeeze=False)[0]
        for axis, group in zip(axes, grouped, strict=True):
            _draw_variants(axis, group, titles)
        axes[0].set_yticks(range(len(titles)), labels, linespacing=0.95)
        axes[0].set_ylim(len(titles) - 0.4, -0.6)
        known = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
        figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        return _svg(figure)


def _draw_variants(axis: Any, group: Sequence[Summary], titles: Sequence[str]) -> None:
    for summary in group:
        height, value = titles.index(summary.title), summary.spread_of(HEADLINE)
        if value is not None:
            seeds = [auc for row in summary.rows if (auc := nested_number(row["results"], HEADLINE)) is not None]
            axis.plot(seeds, [height] * len(seeds), "o", color=MODEL, alpha=0.35, markersize=4)
            bar = {"fmt": "o", "color": MODEL, "markersize": 6, "capsize": 3, "label": "mean ± sd, and each seed"}
            axis.errorbar(value.mean, height, xerr=value.sd or 0, **bar)
        if reported := summary.newest["reported"]:
            axis.plot(reported["auc_micro"], height, "D", color=REPORTED, mfc="none", label="reported")
    baselines = [mean.mean for summary in group if (mean := summary.spread_of("motion_baseline.auc_micro"))]
    if baselines:
        axis.axvline(max(baselines), color=BASELINE, linestyle="--", linewidth=1, label="motion baseline")
    axis.set(title=group[0].data_title, xlabel="micro AUC, causal")
    axis.grid(axis="x", alpha=0.3)


def plot_ranks(listed: Sequence[Summary]) -> str | None:
    """Plot the selection score of each variant against its test score, with the spread over seeds.

    Returns:
        SVG; None without selection scores.
    """
    grouped = []
    for group in by_data(listed).values():
        pairs = [(s, own, test) for s in group if (own := s.selection) and (test := s.spread_of(HEADLINE))]
        if len(pairs) > 1:
            grouped.append(pairs)
    if not grouped:
        return None
    titles = list(dict.fromkeys(summary.title for pairs in grouped for summary, *_ in pairs))
    with mpl.rc_context(_STYLE):
        key = [fill(f"{number}  {title}", 100, subsequent_indent="      ") for number, title in enumerate(titles, 1)]
        size = (3.0 + 4.0 * len(grouped), 3.6 + 0.17 * len(titles))
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        for axis, pairs in zip(figure.subplots(1, len(grouped), squeeze=False)[0], grouped, strict=True):
            for _, own, test in pairs:
                spreads = (test.sd or 0, own.sd or 0)
                axis.errorbar(own.mean, test.mean, *spreads, fmt="o", color=SELECTION, markersize=5, elinewidth=0.7)
            numbers = [titles.index(summary.title) + 1 for summary, *_ in pairs]
            for point, near in _merge_labels([(own.mean, test.mean) for _, own, test in pairs], numbers):
                beside, side = ((4, 3), "left") if len(near) == 1 else ((0, 8), "center")
                axis.annotate(_listed(near), point, xytext=beside, textcoords="offset points", ha=side, fontsize=8)
            axis.set(title=pairs[0][0].data_title, xlabel="selection score, no test labels", ylabel="micro AUC, causal")
            axis.grid(alpha=0.3)
        figure.supxlabel("\n".join(key), fontsize=8, ha="left", x=0.05)
        return _svg(figure)


def _merge_labels(points: Sequence[Point], numbers: Sequence[int]) -> list[tuple[Point, list[int]]]:
    """The numbers by place; those whose labels would overlap are at the place of the first of them."""
    width, height = (max(np.ptp([point[axis] for point in points]), 1e-9) / NEAR for axis in (0, 1))
    found: list[tuple[Point, list[int]]] = []
    for (x, y), number in zip(points, numbers, strict=True):
        near = next((those for (u, v), those in found if abs(u - x) <= width and abs(v - y) <= height), None)
        if near is None:
            found.append(((x, y), [number]))
        else:
            near.append(number)
    return found


def _listed(numbers: Sequence[int]) -> str:
    """Numbers as text, with runs of three and more shortened.

    >>> _listed([1, 4, 5, 6, 9, 10])
    '1, 4-6, 9, 10'
    """
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _svg(figure: Figure) -> str:
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+$", "", text.getvalue(), flags=re.MULTILINE)
