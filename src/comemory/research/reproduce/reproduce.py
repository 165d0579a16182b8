"""One experiment: which runs are done and which are pending, and the execution of those."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from comemory.errors import ComemoryError, ConfigError, DatasetError
from comemory.research.pseudo_anomalies.dataset import open_any_dataset
from comemory.research.reproduce.experiment import Experiment, ExperimentData, find_experiment, read_experiment
from comemory.research.reproduce.grid import (
    TRAINING_VERSION,
    Run,
    dataset_specs,
    evaluation_version,
    list_runs,
    select,
)
from comemory.research.reproduce.pool import Progress, StartProcess, run_jobs
from comemory.research.reproduce.rows import append_row, read_rows
from comemory.research.reproduce.run import Job
from comemory.training.config import TrainingConfig
from comemory.types import JSON

PLACEHOLDER = "{data}"
VARIABLE = "COMEMORY_DATA"


@dataclass(frozen=True)
class Paths:
    """Where things are.

    Attributes:
        root: the folder with `experiments/`.
        recorded: what `{data}` in a path stands for; None when not known.
        bundles: folder of networks and bundles, see `comemory.research.reproduce.run`.
        cache: folder of prepared frames, shared by all runs.
        table: file of the rows.
    """

    root: Path
    recorded: Path | None
    bundles: Path
    cache: Path
    table: Path


@dataclass(frozen=True)
class RunPlan:
    """The runs that were asked for.

    Attributes:
        name: of the experiment.
        experiment: as read from its file.
        runs: those asked for.
        done: the row of each run that the table has, by label.
        equivalent: for each run that another experiment has done with the same key, the row of that, by label.
        outdated: for each run that has only rows of other settings or of an earlier version of the code, the last of these, by
            label.
    """

    name: str
    experiment: Experiment
    runs: Sequence[Run]
    done: Mapping[str, JSON]
    equivalent: Mapping[str, JSON]
    outdated: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def pending(self) -> list[Run]:
        """The runs that have to be executed."""
        return [run for run in self.runs if run.label not in self.done and run.label not in self.equivalent]


def find_recorded(given: Path | None, root: Path) -> Path | None:
    """Return the folder of recorded data: as given, else `COMEMORY_DATA`, else `../shared/data` beside the checkout."""
    if given is not None:
        return given
    if named := os.environ.get(VARIABLE):
        return Path(named)
    beside = root.parent / "shared" / "data"
    return beside if beside.is_dir() else None


def make_plan(name: str, paths: Paths, n_seeds: int | None = None, only: Sequence[str] = ()) -> RunPlan:
    """Read an experiment, select its runs, and look up which of them the table has.

    Args:
        name: of the experiment, or the path of its file.
        paths: where things are.
        n_seeds: see `list_runs`.
        only: see `select`.

    Raises:
        ConfigError: no such experiment, settings that do not fit, or a pattern that matches no run.
        SourceError: the table cannot be read.
    """
    path = find_experiment(name, paths.root)
    experiment = read_experiment(path)
    chosen = select(list_runs(path.stem, experiment, n_seeds), only)
    rows = read_rows(paths.table)
    own = {(row["data"], row["variant"], row["key"]): row for row in rows if row["experiment"] == path.stem}
    by_key = {row["key"]: row for row in rows}
    done = {run.label: own[known] for run in chosen if (known := (run.data, run.variant.name, run.key)) in own}
    equivalent = {run.label: by_key[run.key] for run in chosen if run.label not in done and run.key in by_key}
    last = {(row["data"], row["variant"], row["seed"]): row for row in rows if row["experiment"] == path.stem}
    outdated = {
        run.label: older
        for run in chosen
        if run.label not in done and (older := last.get((run.data, run.variant.name, run.seed))) is not None
    }
    return RunPlan(path.stem, experiment, chosen, done, equivalent, outdated)


def run_plan(
    plan: RunPlan,
    paths: Paths,
    n_jobs: int,
    threads: int,
    progress: Progress,
    start_process: StartProcess | None = None,
) -> None:
    """Execute the pending runs. A run that fails is reported to `progress`, and the others go on.

    Args:
        plan: what is to do.
        paths: where things are.
        n_jobs: runs at a time, a process each.
        threads: CPU threads of each.
        progress: receives the progress of the runs.
        start_process: see `pool.run_jobs`.

    Raises:
        ConfigError: a path needs recorded data, and their folder is not known.
        SourceError: the table or a folder cannot be written.
    """
    jobs = [make_job(plan, run, paths, threads) for run in plan.pending]
    for run in plan.runs:
        if (row := plan.equivalent.get(run.label)) is not None:
            same = {**row, **_known_row(plan, run), "same_as": f"{row['experiment']}/{row['data']}/{row['variant']}"}
            append_row(paths.table, {**same, "date": datetime.now(UTC).replace(microsecond=0).isoformat()})
            progress.finished(run.label, same)
    ready = []
    for job, run in zip(jobs, plan.pending, strict=True):
        try:
            _check_data(job, plan.experiment.data[run.data])
            ready.append(job)
        except ComemoryError as error:
            progress.failed(job.label, str(error))
    run_jobs(ready, n_jobs, threads, paths.bundles / plan.name / "workers.log", progress, start_process)


def make_job(plan: RunPlan, run: Run, paths: Paths, threads: int) -> Job:
    """Return what a worker needs to execute a run.

    Raises:
        ConfigError: a path needs recorded data, and their folder is not known.
    """
    specs = {name: _fill(data, paths) for name, data in dataset_specs(plan.experiment.data[run.data]).items()}
    train = specs.pop("train")
    return Job(
        label=run.label,
        config=_with_weights(run.config, paths),
        train=train,
        evaluate_on=specs,
        recorded=str(paths.recorded) if paths.recorded else None,
        false_alarms=plan.experiment.false_alarms,
        network_folder=(paths.bundles / "networks" / run.network).absolute(),
        run_folder=run_folder(run, paths).absolute(),
        cache=paths.cache.absolute(),
        table=paths.table.absolute(),
        threads=threads,
        row=_known_row(plan, run),
    )


def run_folder(run: Run, paths: Paths) -> Path:
    """Return where a run stores its bundle."""
    return paths.bundles / run.experiment / run.data / run.variant.name / f"seed-{run.seed}-{run.key[:8]}"


def _check_data(job: Job, spec: ExperimentData) -> None:
    """Open every data set of a run, and refuse test data that its title on the page would misname."""
    open_any_dataset(job.train)
    datasets = {name: open_any_dataset(data) for name, data in job.evaluate_on.items()}
    if spec.test_videos is None:
        return
    found = len(datasets["test"].testing())
    if found != spec.test_videos:
        raise DatasetError(
            f"{job.evaluate_on['test']} has {found} test videos, but {spec.title!r} stands for {spec.test_videos}: "
            "give the data set of the experiment another title and test_videos"
        )


def _known_row(plan: RunPlan, run: Run) -> JSON:
    """What the row of a run says before anything is executed."""
    experiment, spec = plan.experiment, plan.experiment.data[run.data]
    value = run.variant.reported.get(run.data)
    return {
        "key": run.key,
        "group": run.group,
        "experiment": plan.name,
        "data": run.data,
        "variant": run.variant.name,
        "seed": run.seed,
        "title": experiment.title,
        "data_title": spec.title or run.data,
        "variant_title": run.variant.title,
        "order": list(run.order),
        "preset": experiment.preset,
        "config": run.settings,
        "network": run.network,
        "versions": {"training": TRAINING_VERSION, "evaluation": evaluation_version(run.settings)},
        "datasets": dataset_specs(spec),
        "selection": experiment.selection,
        "reported": None
        if value is None
        else {"auc_micro": value, "by": experiment.reported_by, "on": spec.reported_on},
        "false_alarm_budget": experiment.false_alarms,
    }


def _with_weights(config: TrainingConfig, paths: Paths) -> TrainingConfig:
    """The config with the path of its flow's weight file filled in."""
    if config.flow.weights is None:
        return config
    flow = config.flow.model_copy(update={"weights": _fill(config.flow.weights, paths)})
    return config.model_copy(update={"flow": flow})


def _fill(data: str, paths: Paths) -> str:
    if PLACEHOLDER not in data:
        return data
    if paths.recorded is None:
        raise ConfigError(f"{data} needs recorded data: give their folder with --data, or set {VARIABLE}")
    return data.replace(PLACEHOLDER, str(paths.recorded.absolute()))
