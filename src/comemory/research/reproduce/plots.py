"""Plots of the page of results, as SVG: the same rows give the same bytes."""

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

from comemory.research.reproduce.summary import TEST, Summary, by_data, look_up

MODEL, CONTROL, CLAIMED, SELECTION = "#0b5394", "#7f7f7f", "#b45f06", "#38761d"
WIDEST = 44
"""Characters of a label's line."""
NEAR = 25
"""Points nearer than this part of the axis share a label."""
Place = tuple[float, float]
_STYLE: Any = {
    "svg.hashsalt": "comemory",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot_variants(listed: Sequence[Summary]) -> str | None:
    """Each variant's AUC: every seed, their mean, the control, and what is claimed; one panel for each data set."""
    grouped = [group for group in by_data(listed).values() if any(summary.of(TEST) for summary in group)]
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
        place, value = titles.index(summary.title), summary.of(TEST)
        if value is not None:
            seeds = [figure for row in summary.rows if (figure := look_up(row["figures"], TEST)) is not None]
            axis.plot(seeds, [place] * len(seeds), "o", color=MODEL, alpha=0.35, markersize=4)
            bar = {"fmt": "o", "color": MODEL, "markersize": 6, "capsize": 3, "label": "mean ± sd, and each seed"}
            axis.errorbar(value.mean, place, xerr=value.sd or 0, **bar)
        if claim := summary.newest["claimed"]:
            axis.plot(claim["auc_micro"], place, "D", color=CLAIMED, mfc="none", label="claimed")
    controls = [control.mean for summary in group if (control := summary.of("control.auc_micro"))]
    if controls:
        axis.axvline(max(controls), color=CONTROL, linestyle="--", linewidth=1, label="control, no training")
    axis.set(title=group[0].data_title, xlabel="micro AUC, causal")
    axis.grid(axis="x", alpha=0.3)


def plot_ranks(listed: Sequence[Summary]) -> str | None:
    """The selection score of each variant against its test score, with the spread over seeds; None without such scores."""
    grouped = []
    for group in by_data(listed).values():
        pairs = [(s, own, test) for s in group if (own := s.selection) and (test := s.of(TEST))]
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
            for place, near in _together([(own.mean, test.mean) for _, own, test in pairs], numbers):
                beside, side = ((4, 3), "left") if len(near) == 1 else ((0, 8), "center")
                axis.annotate(_listed(near), place, xytext=beside, textcoords="offset points", ha=side, fontsize=8)
            axis.set(title=pairs[0][0].data_title, xlabel="selection score, no test labels", ylabel="micro AUC, causal")
            axis.grid(alpha=0.3)
        figure.supxlabel("\n".join(key), fontsize=8, ha="left", x=0.05)
        return _svg(figure)


def _together(places: Sequence[Place], numbers: Sequence[int]) -> list[tuple[Place, list[int]]]:
    """The numbers by place, those whose labels would lie over each other at the place of the first of them."""
    width, height = (max(np.ptp([place[axis] for place in places]), 1e-9) / NEAR for axis in (0, 1))
    found: list[tuple[Place, list[int]]] = []
    for (x, y), number in zip(places, numbers, strict=True):
        near = next((those for (u, v), those in found if abs(u - x) <= width and abs(v - y) <= height), None)
        if near is None:
            found.append(((x, y), [number]))
        else:
            near.append(number)
    return found


def _listed(numbers: Sequence[int]) -> str:
    """
    >>> _listed([1, 4, 5, 6, 9, 10])
    '1, 4-6, 9, 10'
    """
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _svg(figure: Figure) -> str:
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+$", "", text.getvalue(), flags=re.MULTILINE)
