"""One experiment: what is done, what is to do, and the doing of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from comemory.datasets import open_dataset
from comemory.errors import ComemoryError, ConfigError, DatasetError
from comemory.research.reproduce.experiment import Experiment, ExperimentData, find_experiment, read_experiment
from comemory.research.reproduce.grid import EVALUATION, TRAINING, Cell, cells, select
from comemory.research.reproduce.pool import Watcher, run_cells
from comemory.research.reproduce.rows import append_row, read_rows
from comemory.research.reproduce.run import Job, Teacher
from comemory.training.config import Recipe
from comemory.types import JSON

FILLED = "{data}"
VARIABLE = "COMEMORY_DATA"


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        root: the folder with `experiments/`.
        recorded: what `{data}` in a path stands for.
        bundles, cache: see `cell`; frames prepared once for all cells.
        table: of the rows.
    """

    root: Path
    recorded: Path | None
    bundles: Path
    cache: Path
    table: Path


@dataclass(frozen=True)
class Plan:
    """The cells that were asked for.

    Attributes:
        done: the row of each cell that the table has, by label.
        equal: a row of another experiment that holds the figures of a cell, by label.
    """

    name: str
    experiment: Experiment
    cells: Sequence[Cell]
    done: Mapping[str, JSON]
    equal: Mapping[str, JSON]

    @property
    def open(self) -> list[Cell]:
        """The cells that have to be run."""
        return [cell for cell in self.cells if cell.label not in self.done and cell.label not in self.equal]


def find_recorded(given: Path | None, root: Path) -> Path | None:
    """The folder of recorded data: as given, else `COMEMORY_DATA`, else `../shared/data` beside the checkout."""
    if given is not None:
        return given
    if named := os.environ.get(VARIABLE):
        return Path(named)
    beside = root.parent / "shared" / "data"
    return beside if beside.is_dir() else None


def make_plan(name: str, places: Places, n_seeds: int | None = None, only: Sequence[str] = ()) -> Plan:
    """Read an experiment, choose its cells and see which of them the table has.

    Raises:
        ConfigError: no such experiment, settings that do not fit, or a pattern that names no cell.
        SourceError: the table cannot be read.
    """
    path = find_experiment(name, places.root)
    experiment = read_experiment(path)
    chosen = select(cells(path.stem, experiment, n_seeds), only)
    rows = read_rows(places.table)
    own = {(row["data"], row["variant"], row["key"]): row for row in rows if row["experiment"] == path.stem}
    by_key = {row["key"]: row for row in rows}
    done = {c.label: own[known] for c in chosen if (known := (c.data, c.variant.name, c.key)) in own}
    equal = {c.label: by_key[c.key] for c in chosen if c.label not in done and c.key in by_key}
    return Plan(path.stem, experiment, chosen, done, equal)


def run_plan(plan: Plan, places: Places, n_jobs: int, threads: int, watcher: Watcher) -> None:
    """Run the cells that are not done. One that fails is told to the watcher, and the rest is done.

    Raises:
        ConfigError: a path needs recorded data, and where they are was not said.
        SourceError: the table or a folder cannot be written.
    """
    jobs = [make_job(plan, cell, places, threads) for cell in plan.open]
    for cell in plan.cells:
        if (row := plan.equal.get(cell.label)) is not None:
            same = {**row, **_known(plan, cell), "same_as": f"{row['experiment']}/{row['data']}/{row['variant']}"}
            append_row(places.table, {**same, "date": datetime.now(UTC).replace(microsecond=0).isoformat()})
            watcher.finished(cell.label, same)
    ready = []
    for job, cell in zip(jobs, plan.open, strict=True):
        try:
            _check_data(job, plan.experiment.data[cell.data])
            ready.append(job)
        except ComemoryError as error:
            watcher.failed(job.label, str(error))
    run_cells(ready, n_jobs, threads, places.bundles / plan.name / "workers.log", watcher)


def make_job(plan: Plan, cell: Cell, places: Places, threads: int) -> Job:
    """What a worker needs to run a cell.

    Raises:
        ConfigError: a path needs recorded data, and where they are was not said.
    """
    filled = {name: _fill(data, places) for name, data in _specs(plan, cell).items()}
    train = filled.pop("train")
    return Job(
        label=cell.label,
        recipe=_with_weights(cell.recipe, places),
        train=train,
        evaluate_on=filled,
        recorded=str(places.recorded) if places.recorded else None,
        false_alarms=plan.experiment.false_alarms,
        network_folder=(places.bundles / "networks" / cell.network).absolute(),
        cell_folder=cell_folder(cell, places).absolute(),
        teachers=tuple(
            Teacher(recipe=_with_weights(recipe, places), network_folder=(places.bundles / "networks" / key).absolute())
            for key, recipe in cell.teachers.items()
        ),
        cache=places.cache.absolute(),
        table=places.table.absolute(),
        threads=threads,
        row=_known(plan, cell),
    )


def _check_data(job: Job, spec: ExperimentData) -> None:
    """Open every data set of a cell, and refuse test data that their printed name does not fit."""
    open_dataset(job.train)
    datasets = {name: open_dataset(data) for name, data in job.evaluate_on.items()}
    if spec.test_videos is None:
        return
    found = len(datasets["test"].testing())
    if found != spec.test_videos:
        raise DatasetError(
            f"{job.evaluate_on['test']} has {found} test videos; the experiment calls {spec.test_videos} of them "
            f"{spec.title!r}: give the data set another title and test_videos"
        )


def cell_folder(cell: Cell, places: Places) -> Path:
    """Where a cell keeps its bundle."""
    return places.bundles / cell.experiment / cell.data / cell.variant.name / f"seed-{cell.seed}-{cell.key[:8]}"


def _known(plan: Plan, cell: Cell) -> JSON:
    """What the row of a cell says before anything is run."""
    experiment, spec = plan.experiment, plan.experiment.data[cell.data]
    value = cell.variant.claimed.get(cell.data)
    return {
        "key": cell.key,
        "group": cell.group,
        "experiment": plan.name,
        "data": cell.data,
        "variant": cell.variant.name,
        "seed": cell.seed,
        "title": experiment.title,
        "data_title": spec.title or cell.data,
        "variant_title": cell.variant.title,
        "place": list(cell.place),
        "preset": experiment.preset,
        "recipe": cell.told,
        "network": cell.network,
        "code": {"training": TRAINING, "evaluation": EVALUATION},
        "specs": _specs(plan, cell),
        "selection": experiment.selection,
        "claimed": None if value is None else {"auc_micro": value, "by": experiment.claimed_by, "on": spec.claimed_on},
        "false_alarm_budget": experiment.false_alarms,
    }


def _specs(plan: Plan, cell: Cell) -> dict[str, str]:
    spec = plan.experiment.data[cell.data]
    return {"train": spec.train, "test": spec.test or spec.train, **spec.evaluate_on}


def _with_weights(recipe: Recipe, places: Places) -> Recipe:
    """The recipe with the place of its flow's weight file filled in."""
    if recipe.flow.weights is None:
        return recipe
    flow = recipe.flow.model_copy(update={"weights": _fill(recipe.flow.weights, places)})
    return recipe.model_copy(update={"flow": flow})


def _fill(data: str, places: Places) -> str:
    if FILLED not in data:
        return data
    if places.recorded is None:
        raise ConfigError(f"{data} needs recorded data: give their folder with --data, or set {VARIABLE}")
    return data.replace(FILLED, str(places.recorded.absolute()))
