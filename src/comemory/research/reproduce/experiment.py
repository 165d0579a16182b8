"""An experiment file: data sets, variants and seeds, and what papers claim for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from comemory.config import build, read_toml
from comemory.config_model import Settings
from comemory.errors import ConfigError, nearest

FOLDER = "experiments"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]


def _as_lines(settings: Any) -> Any:
    """Settings as `key=value` lines, from a table of them or from lines."""
    return tuple(_flattened(settings)) if isinstance(settings, Mapping) else settings


def _flattened(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{above}{key}.")
        else:
            yield f"{above}{key}={json.dumps(value)}"


SettingLines = Annotated[tuple[str, ...], BeforeValidator(_as_lines)]


class ExperimentData(Settings):
    """One data set of an experiment, `KIND:PATH` each; `{data}` in a path stands for the folder of recorded data.

    Attributes:
        title: the name to print.
        train, test: where to train and to test; `test` is `train` unless given.
        test_videos: the number of test videos that `title` stands for; another number is refused.
        claimed_on: what the claimed figures were measured on, where that is something else.
        evaluate_on: further data sets to evaluate on, by name.
    """

    title: str | None = None
    train: str
    test: str | None = None
    test_videos: int | None = Field(None, ge=1)
    claimed_on: str | None = None
    evaluate_on: dict[Name, str] = Field(default_factory=dict)


class Variant(Settings):
    """One choice of settings.

    Attributes:
        teacher: the variant whose networks, of all the experiment's seeds, teach in its trainings.
        claimed: figure that a paper claims, by data set.
    """

    name: Name
    title: str | None = None
    settings: SettingLines = ()
    teacher: Name | None = None
    claimed: dict[Name, float] = Field(default_factory=dict)


class Decision(Settings):
    """One choice of decision settings, for networks that variants have trained: nothing is trained for it.

    Attributes:
        of: the variants whose networks it takes; all unless given.
    """

    name: Name
    title: str | None = None
    settings: SettingLines
    of: tuple[Name, ...] = ()


class Experiment(Settings):
    """What an experiment file says.

    Attributes:
        preset, settings: what all variants start from.
        selection: the further data set whose score picks a variant without test labels.
        claimed_by: who claims the claimed figures.
        false_alarms: budget of the events and alarms.
    """

    title: str
    description: str = ""
    preset: str = "small"
    seeds: tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...] = Field((0, 1, 2), min_length=1)
    settings: SettingLines = ()
    selection: Name | None = None
    claimed_by: str | None = None
    false_alarms: str = "1/h"
    data: dict[Name, ExperimentData] = Field(min_length=1)
    variants: tuple[Variant, ...] = (Variant(name="default"),)
    decisions: tuple[Decision, ...] = ()

    @model_validator(mode="after")
    def _no_name_twice(self) -> Experiment:
        for what, names in (
            ("variant", [variant.name for variant in self.variants]),
            ("decision", [decision.name for decision in self.decisions]),
            ("seed", list(map(str, self.seeds))),
        ):
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"the {what} {twice[0]!r} is there twice")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Experiment:
        variants = [variant.name for variant in self.variants]
        further = {name for data in self.data.values() for name in data.evaluate_on}
        _refuse_strangers("decision of the variant", (name for each in self.decisions for name in each.of), variants)
        plain = [variant.name for variant in self.variants if variant.teacher is None]
        _refuse_strangers("teacher", (each.teacher for each in self.variants if each.teacher), plain)
        _refuse_strangers("claim on the data", (name for each in self.variants for name in each.claimed), self.data)
        _refuse_strangers("selection by the data", filter(None, [self.selection]), further)
        _refuse_strangers("figure kept for the data", further & {"train", "test"}, further - {"train", "test"})
        if self.claimed_by is None and any(variant.claimed for variant in self.variants):
            raise ValueError("figures are claimed: say by whom in claimed_by")
        return self


def _refuse_strangers(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    listed = list(known)
    if strangers := [name for name in names if name not in listed]:
        raise ValueError(f"there is a {what} {strangers[0]!r}: {nearest(strangers[0], listed)}")


def find_root() -> Path:
    """The folder that holds `experiments/`: the working folder, else the checkout that this package runs from."""
    checkout = Path(__file__).resolve().parents[4]
    return next((folder for folder in (Path.cwd(), checkout) if (folder / FOLDER).is_dir()), Path.cwd())


def find_experiment(name: str, root: Path) -> Path:
    """The file of an experiment: `name` itself where it is a path, else the one in `experiments/`.

    Raises:
        ConfigError: there is none.
    """
    if name.endswith(".toml"):
        return Path(name)
    path = root / FOLDER / f"{name}.toml"
    if not path.is_file():
        known = [file.stem for file in (root / FOLDER).glob("*.toml")]
        raise ConfigError(f"no experiment {name!r} in {root / FOLDER}: {nearest(name, known)}")
    return path


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        ConfigError: it cannot be read, or is no experiment; one line.
    """
    try:
        return build(Experiment, read_toml(path))
    except ConfigError as error:
        raise ConfigError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
