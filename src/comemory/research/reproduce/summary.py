"""Rows grouped into variants, and their results over the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comemory.research.reproduce.grid import differences
from comemory.research.reproduce.statistics import MeanAndSd, spread
from comemory.types import JSON

HEADLINE = "causal.auc_micro"
"""The headline metric, by its dotted path."""


@dataclass(frozen=True)
class Summary:
    """One variant on one data set.

    Attributes:
        experiment: its name, or the path of its file where the command that runs it takes that.
        data: name of the data set.
        variant: its name.
        rows: one for each seed, all of one config and one version of the code, in the order of the seeds.
    """

    experiment: str
    data: str
    variant: str
    rows: Sequence[JSON]

    @property
    def newest(self) -> JSON:
        """The row that was appended last; the titles are those of this row."""
        return max(self.rows, key=lambda row: str(row["date"]))

    @property
    def title(self) -> str:
        """Title of the variant."""
        return str(self.newest["variant_title"])

    @property
    def data_title(self) -> str:
        """Title of the data set."""
        return str(self.newest["data_title"])

    @property
    def settings(self) -> JSON:
        """Where the config differs from its preset as that is now, by dotted key."""
        return differences(self.newest["config"], self.newest["preset"])

    def spread_of(self, path: str, further: str | None = None) -> MeanAndSd | None:
        """Return the mean of a metric over the seeds that have it.

        Args:
            path: of the metric, dotted.
            further: name of a further data set; None: the test data.
        """
        results = [row["results"] if further is None else row["further"].get(further, {}) for row in self.rows]
        values = [value for each in results if (value := nested_number(each, path)) is not None]
        return spread(values)

    @property
    def selection(self) -> MeanAndSd | None:
        """The score that selects a variant without test labels: the headline metric on the selection data."""
        name = self.newest.get("selection")
        return None if name is None else self.spread_of(HEADLINE, name)

    def selection_by_perturbation(self) -> dict[str, MeanAndSd]:
        """Return the AUC of each perturbation against all normal frames of the selection data.

        The perturbation of a video is its name up to the first hyphen, as `pseudo` names its videos. Rows of an earlier
        version of the evaluation lack these metrics.
        """
        found: dict[str, list[float]] = {}
        for row in self.rows:
            by_kind: dict[str, list[float]] = {}
            for video in row["further"].get(self.newest.get("selection"), {}).get("per_video", ()):
                if (value := nested_number(video, "auc_against_all")) is not None:
                    by_kind.setdefault(str(video["name"]).partition("-")[0], []).append(value)
            for kind, values in by_kind.items():
                found.setdefault(kind, []).append(sum(values) / len(values))
        return {kind: mean for kind, values in found.items() if (mean := spread(values)) is not None}


def summaries(rows: Sequence[JSON], experiment: str, given: str | None = None) -> list[Summary]:
    """Return the variants of an experiment in the order of its file.

    When the settings or the code of a variant changed, its older rows no longer describe it: only rows with the group
    key of the row appended last count. Of several rows of one seed, the last counts.

    Args:
        rows: of the table.
        experiment: its name in the rows.
        given: what the command that runs it takes; its name by default.
    """
    newest: dict[tuple[str, str], str] = {}
    chosen: dict[tuple[str, str], dict[int, JSON]] = {}
    own = [row for row in rows if row["experiment"] == experiment]
    for row in own:
        newest[row["data"], row["variant"]] = row["group"]
    for row in own:
        if newest[row["data"], row["variant"]] == row["group"]:
            chosen.setdefault((row["data"], row["variant"]), {})[row["seed"]] = row
    listed = [
        Summary(given or experiment, data, variant, [by_seed[seed] for seed in sorted(by_seed)])
        for (data, variant), by_seed in chosen.items()
    ]
    return sorted(listed, key=lambda summary: tuple(summary.newest["order"]))


def by_data(listed: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Return the variants of each data set."""
    grouped: dict[str, list[Summary]] = {}
    for summary in listed:
        grouped.setdefault(summary.data, []).append(summary)
    return grouped


def common_settings(listed: Sequence[Summary]) -> dict[str, Any]:
    """Return the settings that all variants share."""
    first, *others = [summary.settings for summary in listed]
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


def selected_variant(listed: Sequence[Summary]) -> str | None:
    """Return the variant with the highest selection score, averaged over the data sets; None without such scores.

    Only variants that have the score on every data set take part; of equal ones the first is returned.
    """
    scores: dict[str, list[float]] = {}
    for summary in listed:
        if (score := summary.selection) is not None:
            scores.setdefault(summary.variant, []).append(score.mean)
    most = max(map(len, scores.values()), default=0)
    whole = {variant: sum(values) / most for variant, values in scores.items() if len(values) == most}
    return max(whole, key=lambda variant: whole[variant]) if whole else None


def nested_number(results: Mapping[str, Any], path: str) -> float | None:
    """Return a number in nested results; None where there is none.

    >>> nested_number({"causal": {"auc_micro": 0.9}}, "causal.auc_micro")
    0.9
    """
    value: Any = results
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def number_paths(results: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all numbers in nested results."""
    for key, value in results.items():
        if isinstance(value, Mapping):
            yield from number_paths(value, f"{prefix}{key}.")
        elif nested_number(results, key) is not None:
            yield f"{prefix}{key}"
