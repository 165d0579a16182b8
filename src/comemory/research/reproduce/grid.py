"""The cells of an experiment: data sets x variants x seeds, each with a key of everything that decides its row."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

from comemory.clips import builder as clips
from comemory.errors import ConfigError, nearest
from comemory.research.pseudo_anomalies import PSEUDO
from comemory.research.reproduce.experiment import Experiment, ExperimentData
from comemory.training.config import Recipe, read_recipe
from comemory.types import JSON

TRAINING = 1
"""Raised whenever a change of the code makes another network from the same recipe and video."""

EVALUATION = 3
"""Raised whenever a change of the code gives other figures, or more of them, for the same network."""

CIRCUMSTANCES = frozenset({"accelerator", "devices", "threads", "checkpoint_s"})
"""Settings of `train` that say where and how, and decide nothing."""

ADDED: Mapping[str, Any] = {
    **{f"clips.{name}": value for name, value in clips.ADDED.items()},
    "network.appearance_stem": None,
    "network.appearance_width": None,
    "network.appearance_levels": 4,
    "network.appearance_predicts": "frame",
    "network.unit_queries": False,
    "train.taught": 0.5,
}
"""Settings that came after rows had been made, by dotted key, each with the value that leaves everything as it was before:
with that value they are no part of a key, so that what was trained without them is still found."""


@dataclass(frozen=True)
class Choice:
    """What a cell is made with, beside data and seed: a variant, or one with a decision of its own."""

    name: str
    title: str
    settings: Sequence[str]
    claimed: Mapping[str, float] = field(default_factory=dict)
    of: str | None = None
    teacher: str | None = None


@dataclass(frozen=True)
class Cell:
    """One training or re-calibration, and its evaluation.

    Attributes:
        place: number of the data set and of the variant, in the order of the file.
        told: the recipe without seed and circumstances.
        network: key of the trained network; cells that differ in their decision alone share it.
        group: key of everything that decides the row but the seed.
        key: of everything that decides the row.
        teachers: key and recipe of each network that teaches in its training.
    """

    experiment: str
    data: str
    variant: Choice
    seed: int
    place: tuple[int, int]
    recipe: Recipe
    told: JSON
    network: str
    group: str
    key: str
    teachers: Mapping[str, Recipe] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How the cell is called."""
        return f"{self.data}/{self.variant.name}/{self.seed}"


def cells(name: str, experiment: Experiment, n_seeds: int | None = None) -> list[Cell]:
    """All cells, the first seed of everything before the second of anything.

    Args:
        name: of the experiment.
        n_seeds: take so many of its seeds, continued by the next numbers where it has fewer.

    Raises:
        ConfigError: the settings of a variant do not fit; it names the variant.
    """
    choices = list(_choices(experiment))
    made = []
    taught = {seed: _recipes(experiment, choices, seed) for seed in experiment.seeds}
    for seed in _seeds(experiment.seeds, n_seeds):
        recipes = taught.get(seed) or _recipes(experiment, choices, seed)
        for d, (data, spec) in enumerate(experiment.data.items()):
            for v, choice in enumerate(choices):
                recipe = recipes[choice.name]
                teachers = (
                    {network_key(every[choice.teacher], spec.train): every[choice.teacher] for every in taught.values()}
                    if choice.teacher
                    else {}
                )
                deciding = [_deciding(recipe), *teachers] if teachers else _deciding(recipe)
                group = _key(TRAINING, EVALUATION, deciding, _versioned(_specs(spec)), experiment.false_alarms)
                made.append(
                    Cell(
                        experiment=name,
                        data=data,
                        variant=choice,
                        seed=seed,
                        place=(d, v),
                        recipe=recipe,
                        told=told(recipe),
                        network=network_key(recipe, spec.train, list(teachers)),
                        group=group,
                        key=_key(group, seed),
                        teachers=teachers,
                    )
                )
    return made


def select(made: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that one of the patterns names: `variant`, `data/variant` or `data/variant/seed`, with `*` and `?`.

    Raises:
        ConfigError: a pattern that names none.
    """
    chosen: set[str] = set()
    for pattern in only:
        found = {cell.label for cell in made if _matches(cell, pattern)}
        if not found:
            known = {name for cell in made for name in (cell.variant.name, f"{cell.data}/{cell.variant.name}")}
            raise ConfigError(f"--only {pattern!r} names no cell: {nearest(pattern, known)}")
        chosen |= found
    return [cell for cell in made if not only or cell.label in chosen]


def network_key(recipe: Recipe, train: str, teachers: Sequence[str] = ()) -> str:
    """Names the network that a recipe makes of a data set, whatever decision is laid over it.

    Args:
        train: the data set as the experiment file gives it.
        teachers: keys of the networks that teach in its training.
    """
    deciding = _deciding(recipe)
    del deciding["decision"]
    return _key(TRAINING, deciding, recipe.train.seed, train, *([list(teachers)] if teachers else []))


def _matches(cell: Cell, pattern: str) -> bool:
    names = (cell.variant.name, f"{cell.data}/{cell.variant.name}", cell.label)
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for name in names)


def _seeds(seeds: Sequence[int], n_seeds: int | None) -> list[int]:
    taken = list(seeds[:n_seeds])
    while n_seeds is not None and len(taken) < n_seeds:
        taken.append(max(taken) + 1)
    return taken


def _choices(experiment: Experiment) -> Iterator[Choice]:
    """Each variant, then the decisions laid over it."""
    for variant in experiment.variants:
        title = variant.title or variant.name
        yield Choice(variant.name, title, variant.settings, variant.claimed, teacher=variant.teacher)
        for decision in experiment.decisions:
            if not decision.of or variant.name in decision.of:
                name, settings = f"{variant.name}+{decision.name}", (*variant.settings, *decision.settings)
                yield Choice(
                    name,
                    f"{title}, {decision.title or decision.name}",
                    settings,
                    of=variant.name,
                    teacher=variant.teacher,
                )


def _recipes(experiment: Experiment, choices: Sequence[Choice], seed: int) -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = {}
    always = ("train.devices=1", f"train.seed={seed}")
    for choice in choices:
        try:
            recipe = read_recipe(experiment.preset, settings=[*experiment.settings, *choice.settings, *always])
        except ConfigError as error:
            raise ConfigError(f"variant {choice.name!r}: {error}") from None
        if choice.of is not None and network_key(recipe, "") != network_key(recipes[choice.of], ""):
            raise ConfigError(f"variant {choice.name!r}: a decision may set decision.* alone; make it a variant")
        recipes[choice.name] = recipe
    return recipes


def told(recipe: Recipe) -> JSON:
    """The whole recipe less its seed and its circumstances."""
    values: JSON = recipe.model_dump(mode="json")
    for key in ("seed", *CIRCUMSTANCES):
        del values["train"][key]
    return values


def differences(recipe: JSON, preset: str) -> JSON:
    """Where a recipe that was told differs from a preset as it is now, by dotted key.

    A recipe that was told before a setting was there had the value that leaves everything as it was.
    """
    return _differences(_completed(recipe), told(read_recipe(preset)))


def _completed(recipe: JSON) -> JSON:
    values: JSON = copy.deepcopy(recipe)
    for key, value in ADDED.items():
        *groups, last = key.split(".")
        reduce(lambda inner, group: inner.setdefault(group, {}), groups, values).setdefault(last, value)
    return values


def _deciding(recipe: Recipe) -> JSON:
    """The recipe less its seed, its circumstances and what was added since."""
    values = told(recipe)
    for key, value in ADDED.items():
        *groups, last = key.split(".")
        place = reduce(lambda inner, group: inner[group], groups, values)
        if place[last] == value:
            del place[last]
    return values


def _specs(spec: ExperimentData) -> JSON:
    return {"train": spec.train, "test": spec.test or spec.train, **{f"on {k}": v for k, v in spec.evaluate_on.items()}}


def _versioned(specs: JSON) -> JSON:
    """With the version of the pseudo-anomalies, where there are any."""
    return specs | {"pseudo": PSEUDO} if any(str(spec).startswith("pseudo:") for spec in specs.values()) else specs


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _differences(values: JSON, plain: JSON, above: str = "") -> JSON:
    found: JSON = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(plain.get(key), dict):
            found |= _differences(value, plain[key], f"{above}{key}.")
        elif value != plain.get(key):
            found[f"{above}{key}"] = value
    return found
