"""Plots of the page of results, as SVG: the same rows give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from comemory.reproduce.summary import TEST, Summary, by_data, look_up

MODEL, CONTROL, CLAIMED, SELECTION = "#0b5394", "#7f7f7f", "#b45f06", "#38761d"
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
        size = (3.0 + 3.4 * len(grouped), 1.3 + 0.3 * len(titles))
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        axes = figure.subplots(1, len(grouped), sharey=True, squeeze=False)[0]
        for axis, group in zip(axes, grouped, strict=True):
            _draw_variants(axis, group, titles)
        axes[0].set_yticks(range(len(titles)), [title.replace("`", "") for title in titles])
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
        size = (4.0 * len(grouped), 3.4 + 0.17 * len(titles))
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        for axis, pairs in zip(figure.subplots(1, len(grouped), squeeze=False)[0], grouped, strict=True):
            for summary, own, test in pairs:
                number, place = str(titles.index(summary.title) + 1), (own.mean, test.mean)
                axis.errorbar(*place, test.sd or 0, own.sd or 0, fmt="o", color=SELECTION, markersize=5, elinewidth=0.7)
                axis.annotate(number, place, xytext=(4, 3), textcoords="offset points", fontsize=8)
            axis.set(title=pairs[0][0].data_title, xlabel="selection score, no test labels", ylabel="micro AUC, causal")
            axis.grid(alpha=0.3)
        key = "\n".join(f"{number}  {title}" for number, title in enumerate(titles, 1))
        figure.supxlabel(key, fontsize=8, ha="left", x=0.05)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+$", "", text.getvalue(), flags=re.MULTILINE)
