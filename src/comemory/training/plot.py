"""The plot of a training: loss curves, and how the queries are shared among the items of each memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DEAD = 1e-4
"""An item is dead if it is nearest to a smaller share of the queries than this."""


def plot_history(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw each term of the loss over the epochs, and each memory's share of queries for each item.

    Args:
        history: one record for each epoch, as in `checkpoint.TrainingState.history`.
        path: of the PNG file to write.
    """
    memories = list(history[-1]["item_usage"])
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4.2 * (1 + len(memories)), 3.4), layout="constrained")
        axes = figure.subplots(1, 1 + len(memories), squeeze=False)[0]
        epochs = [record["epoch"] + 1 for record in history]
        for term in history[0]["loss"]:
            axes[0].plot(epochs, [record["loss"][term] for record in history], marker=".", label=term.replace("_", " "))
        # A model without a loss has zeros only, which have no logarithm.
        has_loss = any(value > 0 for record in history for value in record["loss"].values())
        scale = "log" if has_loss else "linear"
        axes[0].set(xlabel="epoch", ylabel="mean of the term", yscale=scale, title="Losses")
        # Below the axis, because curves fill every corner of it sooner or later.
        axes[0].legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        for axis, name in zip(axes[1:], memories, strict=True):
            _plot_usage(axis, epochs, np.array([record["item_usage"][name] for record in history]), name)
        for axis in axes:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))  # There is no epoch 1.5.
        figure.savefig(path, dpi=120)


def _plot_usage(axis: Any, epochs: Sequence[int], share_en: np.ndarray[Any, Any], name: str) -> None:
    order = np.argsort(-share_en[-1])
    axis.stackplot(epochs, share_en[:, order].T, edgecolor="white", linewidth=0.4)
    dead = int((share_en[-1] < DEAD).sum())
    axis.set(
        xlabel="epoch",
        ylabel="share of queries",
        ylim=(0, 1),
        title=f"{name.capitalize()} memory: {share_en.shape[1] - dead} of {share_en.shape[1]} items used",
    )
