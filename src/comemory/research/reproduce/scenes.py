"""The scene protocol: every variant on every scene, and for each scene the variant that was chosen on all the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comemory.research.reproduce.summary import HEADLINE, Summary, by_data

ROWS = {"motion baseline": "motion_baseline.auc_micro", "Eq. (16)": "thesis.auc_micro"}
"""What stands beside the variants, by its path in the results of the first variant."""


@dataclass(frozen=True)
class SceneResults:
    """The AUC of each variant on each scene.

    Attributes:
        titles: of the variants, by name.
        scenes: titles of the data sets, by name.
        recorded: names of the data sets that are no synthetic ones.
        aucs: mean over the seeds, by variant and scene; only variants that have been run on every scene.
        beside: the motion baseline and Eq. (16), by their title and scene.
        missing: variants that lack a scene.
    """

    titles: Mapping[str, str]
    scenes: Mapping[str, str]
    recorded: Sequence[str]
    aucs: Mapping[str, Mapping[str, float]]
    beside: Mapping[str, Mapping[str, float]]
    missing: Sequence[str]


def scene_results(listed: Sequence[Summary]) -> SceneResults:
    """Collect the results of an experiment by variant and scene.

    Args:
        listed: its variants. A scene counts once a variant has been run on it.
    """
    grouped = by_data(listed)
    aucs: dict[str, dict[str, float]] = {}
    for summary in listed:
        if (found := summary.spread_of(HEADLINE)) is not None:
            aucs.setdefault(summary.variant, {})[summary.data] = found.mean
    beside = {
        title: {name: found.mean for name, group in grouped.items() if (found := group[0].spread_of(path)) is not None}
        for title, path in ROWS.items()
    }
    complete = {name: scenes for name, scenes in aucs.items() if len(scenes) == len(grouped)}
    return SceneResults(
        titles={summary.variant: summary.title for summary in listed},
        scenes={name: group[0].data_title for name, group in grouped.items()},
        recorded=[name for name, group in grouped.items() if not _is_synthetic(group[0])],
        aucs=complete,
        beside=beside,
        missing=[name for name in aucs if name not in complete],
    )


def chosen_on_the_others(aucs: Mapping[str, Mapping[str, float]], scene: str) -> str:
    """The variant with the best mean AUC on all scenes but one; of equal ones the first.

    Args:
        aucs: by variant and scene.
        scene: the one that the choice must not see.

    >>> chosen_on_the_others({"a": {"x": 0.9, "y": 0.5}, "b": {"x": 0.8, "y": 0.7}}, "x")
    'b'
    """
    means = {}
    for name, scenes in aucs.items():
        others = [value for key, value in scenes.items() if key != scene]
        means[name] = sum(others) / max(1, len(others))
    return max(means, key=means.__getitem__)


def chosen_with_all_labels(aucs: Mapping[str, Mapping[str, float]]) -> str:
    """The variant with the best mean AUC on all scenes; of equal ones the first."""
    return max(aucs, key=lambda name: sum(aucs[name].values()) / len(aucs[name]))


def _is_synthetic(summary: Summary) -> bool:
    return str(summary.newest["datasets"]["test"]).startswith("synthetic")
