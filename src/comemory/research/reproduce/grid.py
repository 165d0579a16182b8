"""The runs of an experiment: data sets x variants x seeds, each with a key of everything that determines its results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from comemory.errors import ConfigError, suggest
from comemory.research.pseudo_anomalies import PSEUDO_VERSION
from comemory.research.reproduce.experiment import Experiment, ExperimentData
from comemory.scoring import ScoringSettings
from comemory.training.config import TrainingConfig, read_training_config
from comemory.training.footage_sampling import MAX_FRAMES
from comemory.types import JSON

TRAINING_VERSION = 2
"""Increase it when a change of the code makes another network of the same config and video."""

ENVIRONMENT_SETTINGS = frozenset({"accelerator", "devices", "threads", "checkpoint_s"})
"""Settings of `train` that say where and how to run, and do not change the results."""


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run, data and seed aside: those of a variant, or of a variant with scoring settings of its own.

    Attributes:
        reported: micro AUC that a paper reports, by data set.
        of: the variant whose networks it uses; None where it trains its own.
    """

    name: str
    title: str
    settings: Sequence[str]
    reported: Mapping[str, float] = field(default_factory=dict)
    of: str | None = None


@dataclass(frozen=True)
class Run:
    """One training or calibration, and its evaluation.

    Attributes:
        order: number of the data set and of the variant, in the order of the file.
        config: of the training.
        settings: the config without the seed and without `ENVIRONMENT_SETTINGS`.
        network: key of the trained network; runs that differ in their scoring only share it.
        group: key of everything that determines the results, except the seed.
        key: key of everything that determines the results.
    """

    experiment: str
    data: str
    variant: RunSettings
    seed: int
    order: tuple[int, int]
    config: TrainingConfig
    settings: JSON
    network: str
    group: str
    key: str

    @property
    def label(self) -> str:
        """The run's name: `data/variant/seed`."""
        return f"{self.data}/{self.variant.name}/{self.seed}"


def list_runs(name: str, experiment: Experiment, n_seeds: int | None = None) -> list[Run]:
    """Return all runs of an experiment, the first seed of everything before the second of anything.

    Args:
        name: of the experiment.
        experiment: as read from its file.
        n_seeds: use this many of its seeds, continued by the next numbers where it has fewer.

    Raises:
        ConfigError: the settings of a variant do not fit together; the text names the variant.
    """
    choices = list(_choices(experiment))
    runs = []
    for seed in _seeds(experiment.seeds, n_seeds):
        configs = _configs(experiment, choices, seed)
        for d, (data, spec) in enumerate(experiment.data.items()):
            for v, choice in enumerate(choices):
                config = configs[choice.name]
                group = group_key(config, dataset_specs(spec), experiment.false_alarms)
                runs.append(
                    Run(
                        experiment=name,
                        data=data,
                        variant=choice,
                        seed=seed,
                        order=(d, v),
                        config=config,
                        settings=result_settings(config),
                        network=network_key(config, spec.train),
                        group=group,
                        key=run_key(group, seed),
                    )
                )
    return runs


def select(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """Return the runs that match a pattern: `variant`, `data/variant` or `data/variant/seed`, with `*` and `?`.

    Args:
        runs: to select from.
        only: the patterns; none selects all runs.

    Raises:
        ConfigError: a pattern matches no run.
    """
    chosen: set[str] = set()
    for pattern in only:
        found = {run.label for run in runs if _matches(run, pattern)}
        if not found:
            known = {name for run in runs for name in (run.variant.name, f"{run.data}/{run.variant.name}")}
            raise ConfigError(f"--only {pattern!r} matches no run: {suggest(pattern, known)}")
        chosen |= found
    return [run for run in runs if not only or run.label in chosen]


def network_key(config: TrainingConfig, train: str, version: int = TRAINING_VERSION) -> str:
    """Return the key of the network that a config gives on a data set, whatever its scoring.

    Args:
        config: of the training.
        train: the data set as the experiment file names it, so that the key does not depend on the machine.
        version: of the training code.
    """
    settings = result_settings(config)
    del settings["scoring"]
    return _key(version, settings, config.train.seed, train)


def evaluation_version(settings: JSON) -> int:
    """Return the version of the evaluation. Increase it for the configs for which the code gives other results, or more of them.

    4: under the paper protocol, a network whose authors have a score of their own is judged by that score.

    5: a network that gives one number a frame has no localisation metrics, and a penalty that all channels have does not
    change them. Neither concerns `comemory`, unless it is scored by the maximum of channels that it learned.

    Args:
        settings: of the run, see `result_settings`; or of a row that an earlier version stored.
    """
    scoring = ScoringSettings.model_construct(**settings.get("scoring", {}))
    is_maximum = scoring.score == "comemory" and not scoring.is_sum
    return 5 if settings.get("model", "comemory") != "comemory" or (is_maximum and scoring.common_penalty > 0) else 4


def group_key(
    config: TrainingConfig,
    specs: Mapping[str, str],
    false_alarms: str,
    versions: tuple[int, int] | None = None,
) -> str:
    """Return the key of everything that determines the results of a run, except the seed.

    Args:
        config: of the training.
        specs: see `dataset_specs`.
        false_alarms: budget of the alarms.
        versions: of the training and evaluation code; None takes those of this code.
    """
    settings = result_settings(config)
    versions = versions or (TRAINING_VERSION, evaluation_version(settings))
    versioned = {**specs, "pseudo": PSEUDO_VERSION} if any(s.startswith("pseudo:") for s in specs.values()) else specs
    return _key(*versions, settings, dict(versioned), false_alarms)


def run_key(group: str, seed: int) -> str:
    """Return the key of everything that determines the results of a run."""
    return _key(group, seed)


def dataset_specs(spec: ExperimentData) -> dict[str, str]:
    """Return the data sets of a run as the experiment file names them: `train`, `test`, and the further ones by name."""
    return {"train": spec.train, "test": spec.test or spec.train, **spec.evaluate_on}


def result_settings(config: TrainingConfig) -> JSON:
    """Return the config without its seed and without `ENVIRONMENT_SETTINGS`."""
    values: JSON = config.model_dump(mode="json")
    for key in ("seed", *ENVIRONMENT_SETTINGS):
        del values["train"][key]
    # Results that were stored before there was a setting keep their keys: it is left out where it changes nothing.
    if config.train.max_frames == MAX_FRAMES:
        del values["train"]["max_frames"]
    if not config.scoring.has_descent_resolution:
        del values["scoring"]["descent_resolution"]
    return values


def differences(settings: JSON, preset: str) -> JSON:
    """Return where settings differ from a preset as it is now, by dotted key."""
    return _differences(settings, result_settings(read_training_config(preset)))


def _matches(run: Run, pattern: str) -> bool:
    names = (run.variant.name, f"{run.data}/{run.variant.name}", run.label)
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for name in names)


def _seeds(seeds: Sequence[int], n_seeds: int | None) -> list[int]:
    chosen = list(seeds[:n_seeds])
    while n_seeds is not None and len(chosen) < n_seeds:
        chosen.append(max(chosen) + 1)
    return chosen


def _choices(experiment: Experiment) -> Iterator[RunSettings]:
    """Each variant, followed by the scorings on its networks."""
    for variant in experiment.variants:
        title = variant.title or variant.name
        yield RunSettings(variant.name, title, variant.settings, variant.reported)
        for scoring in experiment.scorings:
            if not scoring.of or variant.name in scoring.of:
                yield RunSettings(
                    f"{variant.name}+{scoring.name}",
                    f"{title}, {scoring.title or scoring.name}",
                    (*variant.settings, *scoring.settings),
                    of=variant.name,
                )


def _configs(experiment: Experiment, choices: Sequence[RunSettings], seed: int) -> dict[str, TrainingConfig]:
    configs: dict[str, TrainingConfig] = {}
    # One device, because the number of devices changes the order of the sums and so the weights.
    fixed = ("train.devices=1", f"train.seed={seed}")
    for choice in choices:
        try:
            config = read_training_config(experiment.preset, settings=[*experiment.settings, *choice.settings, *fixed])
        except ConfigError as error:
            raise ConfigError(f"variant {choice.name!r}: {error}") from None
        if choice.of is not None and network_key(config, "") != network_key(configs[choice.of], ""):
            raise ConfigError(f"variant {choice.name!r}: a scoring may only set scoring.*; make it a variant")
        configs[choice.name] = config
    return configs


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _differences(values: JSON, reference: JSON, prefix: str = "") -> JSON:
    found: JSON = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(reference.get(key), dict):
            found |= _differences(value, reference[key], f"{prefix}{key}.")
        elif value != reference.get(key):
            found[f"{prefix}{key}"] = value
    return found
