"""Variants that cannot differ in their score, because it uses no output of what they differ in."""

from __future__ import annotations

import json
from collections.abc import Sequence

from comemory.research.reproduce.grid import Run, result_settings
from comemory.training.config import TrainingConfig


def unused_differences(runs: Sequence[Run]) -> list[str]:
    """One line for each group of variants whose networks differ, and whose score is the same without a network.

    >>> unused_differences([])
    []
    """
    groups: dict[str, dict[str, None]] = {}
    for run in runs:
        if run.variant.of is None and not run.config.scoring.needs_network:
            groups.setdefault(_score_key(run.config), {})[run.variant.name] = None
    return [
        f"the variants {', '.join(names)} differ only in their networks, of which the score uses no output: their results "
        "are equal, Eq. 16 aside"
        for names in groups.values()
        if len(names) > 1
    ]


def _score_key(config: TrainingConfig) -> str:
    """All settings that such a score depends on: those of the network and of its training do not count."""
    settings = result_settings(config)
    del settings["model"], settings["network"]
    settings["train"] = {name: getattr(config.train, name) for name in ("calibration_share", "max_frames")}
    return json.dumps(settings, sort_keys=True)
