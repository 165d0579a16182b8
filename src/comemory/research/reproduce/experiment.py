"""An experiment file: data sets, variants and seeds, and what papers report for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from comemory.config import Settings, build, read_toml
from comemory.errors import ConfigError, suggest
from comemory.scoring.config import DEFAULT_FALSE_ALARMS

FOLDER = "experiments"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]


def _as_lines(settings: Any) -> Any:
    """Settings as `key=value` lines, from a table of them or from lines."""
    return tuple(_flattened(settings)) if isinstance(settings, Mapping) else settings


def _flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


SettingLines = Annotated[tuple[str, ...], BeforeValidator(_as_lines)]


class ExperimentData(Settings):
    """One data set of an experiment. `{data}` in a path stands for the folder of recorded data."""

    title: str | None = Field(None, title="Title", description="Name on the page of results.")
    train: str = Field(title="Training data", description="`KIND:PATH` of the training videos.")
    test: str | None = Field(
        None, title="Test data", description="`KIND:PATH` of the test videos; the training data set unless given."
    )
    test_videos: int | None = Field(
        None,
        ge=1,
        title="Number of test videos",
        description="Number of test videos that the title stands for. A data set with another number is refused.",
    )
    reported_on: str | None = Field(
        None,
        title="Reported on",
        description="What the reported results were measured on, if that is something else than this data set.",
    )
    evaluate_on: dict[Name, str] = Field(
        default_factory=dict,
        title="Further test data",
        description="Further data sets to evaluate on, `KIND:PATH` by name.",
    )


class Variant(Settings):
    """One choice of settings; its networks are trained."""

    name: Name = Field(title="Name", description="Short name, for the command line and the table of rows.")
    title: str | None = Field(None, title="Title", description="Name on the page of results.")
    settings: SettingLines = Field((), title="Settings", description="What differs from the experiment's settings.")
    reported: dict[Name, float] = Field(
        default_factory=dict, title="Reported AUC", description="Micro AUC that a paper reports, by data set."
    )


class ScoringVariant(Settings):
    """One choice of scoring settings for networks that variants have trained. It is calibrated, not trained."""

    name: Name = Field(title="Name", description="Short name; the runs are called `VARIANT+NAME`.")
    title: str | None = Field(None, title="Title", description="Name on the page of results.")
    settings: SettingLines = Field(title="Settings", description="Settings of the group `scoring`.")
    of: tuple[Name, ...] = Field(
        (), title="Of the variants", description="Variants whose networks it uses; all unless given."
    )


class Experiment(Settings):
    """What an experiment file says."""

    title: str = Field(title="Title", description="What the experiment compares.")
    description: str = Field("", title="Description", description="What the experiment is for, in a sentence or two.")
    preset: str = Field("small", title="Preset", description="Preset that all variants start from.")
    seeds: tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...] = Field(
        (0, 1, 2), min_length=1, title="Seeds", description="One network is trained for each."
    )
    settings: SettingLines = Field(
        (),
        title="Settings",
        description="What differs from the preset in all variants, as with `comemory train --set`.",
    )
    selection: Name | None = Field(
        None,
        title="Selection data",
        description="The further data set whose AUC selects a variant without test labels.",
    )
    reported_by: str | None = Field(None, title="Reported by", description="Source of the reported results.")
    false_alarms: str = Field(
        DEFAULT_FALSE_ALARMS,
        title="False-alarm budget",
        description="Budget of the events and alarms, such as `2/day`.",
    )
    data: dict[Name, ExperimentData] = Field(min_length=1, title="Data sets", description="Data sets by name.")
    variants: tuple[Variant, ...] = Field(
        (Variant(name="default"),), title="Variants", description="Choices of settings, each trained on every data set."
    )
    scorings: tuple[ScoringVariant, ...] = Field(
        (), title="Scorings", description="Choices of scoring settings, calibrated on the networks of the variants."
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Experiment:
        for what, names in (
            ("variant", [variant.name for variant in self.variants]),
            ("scoring", [scoring.name for scoring in self.scorings]),
            ("seed", list(map(str, self.seeds))),
        ):
            if duplicates := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"the {what} {duplicates[0]!r} is given twice")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Experiment:
        variants = [variant.name for variant in self.variants]
        further = {name for data in self.data.values() for name in data.evaluate_on}
        _refuse_unknown("scoring of the variant", (name for each in self.scorings for name in each.of), variants)
        _refuse_unknown(
            "reported AUC on the data", (name for each in self.variants for name in each.reported), self.data
        )
        _refuse_unknown("selection by the data", filter(None, [self.selection]), further)
        _refuse_unknown("further data set named", further & {"train", "test"}, further - {"train", "test"})
        if self.reported_by is None and any(variant.reported for variant in self.variants):
            raise ValueError("a variant has a reported AUC: name its source in reported_by")
        return self


def _refuse_unknown(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    listed = list(known)
    if unknown := [name for name in names if name not in listed]:
        raise ValueError(f"there is a {what} {unknown[0]!r}: {suggest(unknown[0], listed)}")


def find_root() -> Path:
    """Return the folder that holds `experiments/`: the working folder, else the checkout that this package runs from."""
    checkout = Path(__file__).resolve().parents[4]
    return next((folder for folder in (Path.cwd(), checkout) if (folder / FOLDER).is_dir()), Path.cwd())


def find_experiment(name: str, root: Path) -> Path:
    """Return the file of an experiment: `name` itself where it ends in `.toml`, else the one in `experiments/`.

    Raises:
        ConfigError: there is no such file in `experiments/`.
    """
    if name.endswith(".toml"):
        return Path(name)
    path = root / FOLDER / f"{name}.toml"
    if not path.is_file():
        known = [file.stem for file in (root / FOLDER).glob("*.toml")]
        raise ConfigError(f"no experiment {name!r} in {root / FOLDER}: {suggest(name, known)}")
    return path


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        ConfigError: it cannot be read, or does not describe an experiment; one line.
    """
    try:
        return build(Experiment, read_toml(path))
    except ConfigError as error:
        raise ConfigError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
