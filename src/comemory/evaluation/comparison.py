"""The model compared with the motion baseline, in one plain sentence for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from comemory.types import JSON


class BaselineComparison(NamedTuple):
    """The result of the comparison, and a sentence that states it.

    Attributes:
        verdict: `better` when the whole 95 % interval of the model lies above the baseline, `worse` when the model is
            at or below it, `unsure` otherwise.
        text: one sentence.
    """

    verdict: Literal["better", "worse", "unsure"]
    text: str


def compare_with_baseline(results: JSON) -> BaselineComparison:
    """Compare the causal micro AUC of the model with that of the motion baseline.

    >>> compare_with_baseline({"causal": {"auc_micro": 0.7}, "motion_baseline": {"auc_micro": 0.8}}).text
    'The model is below the motion baseline: AUC 0.700 against 0.800. It has learned nothing useful on these videos.'
    """
    model, baseline = _auc(results, "causal"), _auc(results, "motion_baseline")
    if model is None or baseline is None:
        return BaselineComparison(
            "unsure", "The model and the motion baseline cannot be compared: one of the two AUCs is not known."
        )
    against = f"AUC {model:.3f} against {baseline:.3f}"
    if model <= baseline:
        side = "below" if model < baseline else "no better than"
        return BaselineComparison(
            "worse",
            f"The model is {side} the motion baseline: {against}. It has learned nothing useful on these videos.",
        )
    interval = results["causal"].get("auc_micro_ci95")
    if interval is None:
        return BaselineComparison(
            "unsure", f"The model is above the motion baseline: {against}. There is no interval for it."
        )
    if interval[0] <= baseline:
        return BaselineComparison(
            "unsure",
            f"The model is above the motion baseline: {against}. But the baseline lies inside the model's 95 % interval, "
            "so these videos do not settle it.",
        )
    return BaselineComparison(
        "better", f"The model is above the motion baseline, and so is its whole 95 % interval: {against}."
    )


def _auc(results: JSON, column: str) -> float | None:
    values: Any = results.get(column)
    value = values.get("auc_micro") if isinstance(values, Mapping) else None
    return None if value is None else float(value)
