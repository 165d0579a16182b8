"""From rows to variants: which rows belong together, and what they say over the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comemory.research.reproduce.grid import differences
from comemory.research.reproduce.statistics import Spread, spread
from comemory.types import JSON

TEST = "causal.auc_micro"
"""The figure that counts."""


@dataclass(frozen=True)
class Summary:
    """One variant on one data set.

    Attributes:
        rows: one for each seed, all of one recipe and one version of the code; in the order of the seeds.
    """

    experiment: str
    data: str
    variant: str
    rows: Sequence[JSON]

    @property
    def newest(self) -> JSON:
        """The row that was appended last; its titles are taken."""
        return max(self.rows, key=lambda row: str(row["date"]))

    @property
    def title(self) -> str:
        return str(self.newest["variant_title"])

    @property
    def data_title(self) -> str:
        return str(self.newest["data_title"])

    @property
    def settings(self) -> JSON:
        """Where the recipe differs from its preset as that is now, by dotted key."""
        return differences(self.newest["recipe"], self.newest["preset"])

    def of(self, path: str, extra: str | None = None) -> Spread | None:
        """A figure over the seeds that have it, by its dotted path.

        Args:
            extra: of this further data set in place of the test data.
        """
        figures = [row["figures"] if extra is None else row["extra"].get(extra, {}) for row in self.rows]
        values = [value for each in figures if (value := look_up(each, path)) is not None]
        return spread(values)

    @property
    def selection(self) -> Spread | None:
        """The score that picks a variant without test labels."""
        name = self.newest.get("selection")
        return None if name is None else self.of(TEST, name)

    def selection_by_kind(self) -> dict[str, Spread]:
        """How the videos of each kind stand against all that is ordinary, in the data that gives the selection score.

        The kind of a video is its name up to the first hyphen, as `pseudo` names them. Rows from before these figures were kept
        have none.
        """
        found: dict[str, list[float]] = {}
        for row in self.rows:
            by_kind: dict[str, list[float]] = {}
            for video in row["extra"].get(self.newest.get("selection"), {}).get("per_video", ()):
                if (value := look_up(video, "auc_against_all")) is not None:
                    by_kind.setdefault(str(video["name"]).partition("-")[0], []).append(value)
            for kind, values in by_kind.items():
                found.setdefault(kind, []).append(sum(values) / len(values))
        return {kind: made for kind, values in found.items() if (made := spread(values)) is not None}


def summaries(rows: Sequence[JSON], experiment: str) -> list[Summary]:
    """The variants of an experiment in the order of its file.

    Where the settings of a variant were changed, its older rows belong to something else and are left out: those of the
    row appended last count. Of several rows of one seed the last counts.
    """
    newest: dict[tuple[str, str], str] = {}
    chosen: dict[tuple[str, str], dict[int, JSON]] = {}
    own = [row for row in rows if row["experiment"] == experiment]
    for row in own:
        newest[row["data"], row["variant"]] = row["group"]
    for row in own:
        if newest[row["data"], row["variant"]] == row["group"]:
            chosen.setdefault((row["data"], row["variant"]), {})[row["seed"]] = row
    made = [
        Summary(experiment, data, variant, [by_seed[seed] for seed in sorted(by_seed)])
        for (data, variant), by_seed in chosen.items()
    ]
    return sorted(made, key=lambda summary: tuple(summary.newest["place"]))


def by_data(listed: Sequence[Summary]) -> dict[str, list[Summary]]:
    """The variants of each data set."""
    grouped: dict[str, list[Summary]] = {}
    for summary in listed:
        grouped.setdefault(summary.data, []).append(summary)
    return grouped


def common_settings(listed: Sequence[Summary]) -> dict[str, Any]:
    """The settings that all variants share."""
    first, *others = [summary.settings for summary in listed]
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


def picked(listed: Sequence[Summary]) -> str | None:
    """The variant with the highest selection score, on average over the data sets; None without such scores.

    Only variants that have the score on every data set take part; of equal ones the first is taken.
    """
    scores: dict[str, list[float]] = {}
    for summary in listed:
        if (score := summary.selection) is not None:
            scores.setdefault(summary.variant, []).append(score.mean)
    most = max(map(len, scores.values()), default=0)
    whole = {variant: sum(values) / most for variant, values in scores.items() if len(values) == most}
    return max(whole, key=lambda variant: whole[variant]) if whole else None


def look_up(figures: Mapping[str, Any], path: str) -> float | None:
    """A number in nested figures, None where there is none.

    >>> look_up({"causal": {"auc_micro": 0.9}}, "causal.auc_micro")
    0.9
    """
    value: Any = figures
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def numbers(figures: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The dotted paths of all numbers in nested figures."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{above}{key}.")
        elif look_up(figures, key) is not None:
            yield f"{above}{key}"
