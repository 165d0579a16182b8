"""One cell: its network trained, its decision calibrated, every data set evaluated, its row appended.

Each step is kept as it ends, in folders of its own, so that a cell that was killed goes on where it was::

    <bundles>/networks/<key>/              note.json, bundle/, run/ (log, plot, and until it is trained the checkpoint)
    <bundles>/<experiment>/<data>/<variant>/seed-<n>-<key>/     bundle/, figures-<data set>-<key>.json
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from comemory.bundle import REQUIRED, Bundle, bundle_writer, open_bundle
from comemory.config_model import Settings
from comemory.datasets import open_dataset
from comemory.errors import BundleError, SourceError
from comemory.files import write_text
from comemory.research.pseudo_anomalies import PSEUDO
from comemory.research.reproduce.baselines import kept_control
from comemory.research.reproduce.environment import surroundings
from comemory.research.reproduce.rows import FORMAT, append_row
from comemory.research.reproduce.timing import Reporter, Spent, Watched, read_note
from comemory.training.config import Recipe
from comemory.types import JSON

RUNTIME = "openvino"


class Teacher(Settings):
    """A network that teaches in a training, and where it is; it is trained where it is not there yet."""

    recipe: Recipe
    network_folder: Path


class Job(Settings):
    """All that a process needs to know to run a cell.

    Attributes:
        train: `KIND:PATH`, filled in.
        evaluate_on: `KIND:PATH` by name, filled in; `test` is the test data.
        recorded: the folder that `{data}` stood for, to keep its path out of the table.
        network_folder, cell_folder: see the module.
        row: what is known of the row beforehand.
    """

    label: str
    recipe: Recipe
    train: str
    evaluate_on: dict[str, str]
    recorded: str | None
    false_alarms: str
    network_folder: Path
    teachers: tuple[Teacher, ...] = ()
    cell_folder: Path
    cache: Path
    table: Path
    threads: int
    row: JSON


def run_cell(job: Job, reporter: Reporter) -> JSON:
    """Run a cell to its end and append its row.

    Returns:
        The row.

    Raises:
        ComemoryError: one line.
    """
    surroundings()
    with _alone(job.network_folder, reporter):
        network, training = _network(job, reporter)
    with _alone(job.cell_folder, reporter):
        bundle = _calibrated(job, network, reporter)
        evaluated = {name: _figures(job, bundle, name, reporter) for name in job.evaluate_on}
    row = _row(job, bundle, training, evaluated)
    append_row(job.table, row)
    return row


def _network(job: Job, reporter: Reporter) -> tuple[Bundle, JSON]:
    """The trained network, made where it is not there yet, and the note on its training."""
    folder, note = job.network_folder, read_note(job.network_folder / "note.json")
    if note is not None and "done" in note:
        try:
            return open_bundle(folder / "bundle"), note["done"]
        except BundleError:
            shutil.rmtree(folder / "bundle", ignore_errors=True)
    recipe = _begun_with(job, note)
    spent = Spent(folder / "note.json", recipe, note)
    _prepare(job, recipe, reporter)
    teachers = [_teacher(job, teacher, reporter) for teacher in job.teachers]
    trained = _train(job, recipe, teachers, Watched(reporter, spent))
    bundle = open_bundle(trained.bundle)
    done = {
        **surroundings(),
        "gpu": (bundle.provenance.get("hardware") or {}).get("gpu"),
        "wall_s": spent.total(),
        "starts": spent.starts,
        "epochs": bundle.provenance.get("epochs"),
        "data_sha256": bundle.provenance.get("data_sha256"),
        "problems": [_without_folder(problem, job) for problem in trained.problems],
    }
    spent.write(done)
    for left in (folder / "run").glob("checkpoint.*"):
        left.unlink(missing_ok=True)
    return bundle, done


def _begun_with(job: Job, note: JSON | None) -> Recipe:
    """The recipe of the training that was begun, whatever decision it had; else the job's, and nothing is left of that."""
    if note is not None:
        try:
            return Recipe.model_validate(note["recipe"])
        except (ValueError, KeyError):
            shutil.rmtree(job.network_folder / "run", ignore_errors=True)
    return job.recipe


def _prepare(job: Job, recipe: Recipe, reporter: Reporter) -> None:
    """Prepare the frames while no other process does, so that none does it twice."""
    from comemory.training.cache import prepare_videos
    from comemory.training.train import frame_rate

    dataset = open_dataset(job.train)
    videos = dataset.training()
    with _alone(job.cache, reporter):
        reporter.stage("Preparing frames", None)
        prepare_videos(
            videos,
            job.cache,
            recipe.clips,
            recipe.flow,
            dataset=job.train,
            rate_hz=frame_rate(dataset, videos),
            on_frame=lambda name: reporter.advance(name),
        )


def _teacher(job: Job, teacher: Teacher, reporter: Reporter) -> Path:
    """The bundle of a network that teaches."""
    alone = job.model_copy(update={"recipe": teacher.recipe, "network_folder": teacher.network_folder, "teachers": ()})
    with _alone(teacher.network_folder, reporter):
        bundle, _ = _network(alone, reporter)
    return bundle.path


def _train(job: Job, recipe: Recipe, teachers: list[Path], reporter: Reporter) -> Any:
    from comemory.training.train import train

    folder = job.network_folder
    _sweep(folder)
    return train(
        job.train,
        recipe,
        folder / "bundle",
        run=folder / "run",
        cache=job.cache,
        teachers=teachers,
        resume=True,
        reporter=reporter,
    )


def _calibrated(job: Job, network: Bundle, reporter: Reporter) -> Bundle:
    """The cell's own bundle: the network's where the decision is the same, else calibrated anew."""
    from comemory.training.recalibrate import link_members, recalibrate

    out = job.cell_folder / "bundle"
    try:
        return open_bundle(out)
    except BundleError:
        shutil.rmtree(out, ignore_errors=True)
    _sweep(job.cell_folder)
    decision = job.recipe.decision
    counted = network.calibration.n_alarms is not None
    if counted and network.config["decision"] == decision.model_dump(mode="json"):
        with bundle_writer(out) as folder:
            link_members(network.path, folder, REQUIRED)
    else:
        weights = job.recipe.flow.weights
        recalibrate(network.path, job.train, decision, out, cache=job.cache, flow_weights=weights, reporter=reporter)
    return open_bundle(out)


def _figures(job: Job, bundle: Bundle, name: str, reporter: Reporter) -> JSON:
    """What the evaluation on a data set gave, made where it is not there yet."""
    from comemory.detector import Detector
    from comemory.evaluation.evaluate import evaluate

    data = job.evaluate_on[name]
    digest = hashlib.sha256(f"{data} {job.false_alarms} {job.row['code']} {PSEUDO}".encode()).hexdigest()[:8]
    path = job.cell_folder / f"figures-{name}-{digest}.json"
    kept = read_note(path)
    if kept is not None and kept.get("bundle") == bundle.digest:
        return kept
    begun = time.monotonic()
    detector = Detector(bundle, runtime=RUNTIME, threads=job.threads, flow_weights=job.recipe.flow.weights)
    done = evaluate(
        detector,
        data,
        false_alarms=job.false_alarms,
        control=kept_control(job.cache / "controls", data),
        on_video=lambda video, n_frames: reporter.stage(f"Evaluating on {name}, {video}", n_frames),
        on_frame=reporter.advance,
    )
    made = {
        "bundle": bundle.digest,
        **surroundings(),
        "wall_s": round(time.monotonic() - begun, 1),
        "figures": done.figures,
        "problems": [_without_folder(problem, job) for problem in done.problems],
    }
    write_text(path, json.dumps(made))
    return made


def _row(job: Job, bundle: Bundle, training: JSON, evaluated: dict[str, JSON]) -> JSON:
    test = evaluated["test"]
    problems = [f"{name}: {problem}" for name, made in evaluated.items() for problem in made["problems"]]
    return {
        "format": FORMAT,
        **job.row,
        "date": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "bundle": bundle.digest[:16],
        "runtime": RUNTIME,
        "training": training,
        "evaluated": {
            **{name: test[name] for name in ("commit", "dirty", "versions", "hardware")},
            "wall_s": round(sum(made["wall_s"] for made in evaluated.values()), 1),
        },
        "figures": _rounded(test["figures"]),
        "extra": {name: _rounded(made["figures"]) for name, made in evaluated.items() if name != "test"},
        "problems": [*training["problems"], *problems],
    }


def _rounded(value: Any) -> Any:
    """Figures to six decimals, as many as any of them bears."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value


@contextmanager
def _alone(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Hold a folder against other processes; waits until it is free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SourceError(f"cannot use the folder {folder}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            reporter.stage("Waiting for another process", None)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sweep(folder: Path) -> None:
    """Remove the bundles that a kill has left half written. The folder is ours alone."""
    for left in folder.glob(".bundle-*"):
        shutil.rmtree(left, ignore_errors=True)


def _without_folder(text: str, job: Job) -> str:
    return text.replace(job.recorded, "{data}") if job.recorded else text
