"""One run: train its network, calibrate its scoring, evaluate on every data set, append its row.

Each step is stored when it ends, in a folder of its own, so that a run that was killed continues where it was::

    <bundles>/networks/<key>/              note.json, bundle/, run/ (log, plot, and the checkpoint until it is trained)
    <bundles>/<experiment>/<data>/<variant>/seed-<n>-<key>/     bundle/, results-<data set>-<key>.json
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from comemory.bundle import REQUIRED, SCENE, Bundle, bundle_writer, open_bundle
from comemory.config import Settings
from comemory.errors import BundleError, SourceError
from comemory.files import write_text
from comemory.research.pseudo_anomalies import PSEUDO_VERSION
from comemory.research.pseudo_anomalies.dataset import open_any_dataset
from comemory.research.reproduce.baselines import cached_motion_baseline
from comemory.research.reproduce.environment import process_environment
from comemory.research.reproduce.rows import FORMAT, append_row
from comemory.research.reproduce.timing import RunReporter, TimedReporter, TrainingClock, cpu_seconds, read_json
from comemory.training.config import TrainingConfig
from comemory.types import JSON

RUNTIME = "openvino"
DECIMALS = 6
"""Decimals of the results in a row. On Ped2, 1e-6 of an AUC is less than one pair of frames."""


class Job(Settings):
    """Everything that a process needs to know for one run.

    Attributes:
        label: of the run.
        config: of the training.
        train: `KIND:PATH`, the path filled in.
        evaluate_on: `KIND:PATH` by name, the paths filled in; `test` is the test data.
        recorded: the folder that `{data}` stood for, so that its path can be kept out of the table.
        false_alarms: budget of the alarms.
        network_folder: see the module.
        run_folder: see the module.
        cache: folder of the prepared frames.
        table: file of the rows.
        threads: CPU threads.
        row: what is known of the row beforehand.
    """

    label: str
    config: TrainingConfig
    train: str
    evaluate_on: dict[str, str]
    recorded: str | None
    false_alarms: str
    network_folder: Path
    run_folder: Path
    cache: Path
    table: Path
    threads: int
    row: JSON


def execute(job: Job, reporter: RunReporter) -> JSON:
    """Execute a run to its end and append its row.

    Returns:
        The row.

    Raises:
        ComemoryError: one line.
    """
    process_environment()
    with _exclusive(job.network_folder, reporter):
        network, training = _network(job, reporter)
    with _exclusive(job.run_folder, reporter):
        bundle = _calibrated(job, network, reporter)
        evaluations = {name: _evaluate(job, bundle, name, reporter) for name in job.evaluate_on}
    row = _row(job, bundle, training, evaluations)
    append_row(job.table, row)
    return row


def _network(job: Job, reporter: RunReporter) -> tuple[Bundle, JSON]:
    """The trained network and what is known of its training; it is trained if that was not done yet."""
    folder = job.network_folder
    stored = read_json(folder / "note.json")
    if stored is not None and "done" in stored:
        try:
            return open_bundle(folder / "bundle"), stored["done"]
        except BundleError as error:
            _set_aside(folder / "bundle", f"the stored network cannot be used and is trained again: {error}", reporter)
    config = _started_config(job, stored, reporter)
    clock = TrainingClock(folder / "note.json", config, stored)
    _prepare_frames(job, config, reporter)
    trained = _train(job, config, TimedReporter(reporter, clock))
    bundle = open_bundle(trained.bundle)
    done = {
        **process_environment(),
        "gpu": (bundle.provenance.get("hardware") or {}).get("gpu"),
        "wall_s": clock.total(),
        "cpu_s": clock.cpu_total(),
        "starts": clock.starts,
        "epochs": bundle.provenance.get("epochs"),
        "data_sha256": bundle.provenance.get("data_sha256"),
        "problems": [_without_folder(problem, job) for problem in trained.problems],
    }
    clock.write(done)
    for checkpoint in (folder / "run").glob("checkpoint.*"):
        checkpoint.unlink(missing_ok=True)
    return bundle, done


def _started_config(job: Job, stored: JSON | None, reporter: RunReporter) -> TrainingConfig:
    """The config of a training that was started and not finished, whatever its scoring; else the job's.

    A training can only continue with the config it was started with. If that cannot be read, what is left is set aside.
    """
    if stored is not None:
        try:
            return TrainingConfig.model_validate(stored["config"])
        except (ValueError, KeyError):
            why = "the settings of the training that was started cannot be read by this version, so it starts again"
            _set_aside(job.network_folder / "run", why, reporter)
    return job.config


def _set_aside(path: Path, why: str, reporter: RunReporter) -> None:
    """Rename what a run cannot use, and say so: a network can have taken hours, so none is ever deleted."""
    if not os.path.lexists(path):
        reporter.notice(why)
        return
    kept = next(
        name for n in itertools.count(1) if not os.path.lexists(name := path.with_name(f"{path.name}.unusable-{n}"))
    )
    try:
        path.rename(kept)
    except OSError as error:
        raise SourceError(f"cannot rename {path} to {kept.name}: {error.strerror or error}") from None
    reporter.notice(f"{why.rstrip('.')}; what was there is kept as {kept}")


def _prepare_frames(job: Job, config: TrainingConfig, reporter: RunReporter) -> None:
    """Prepare the frames while no other process does: runs on one data set share the cache."""
    from comemory.training.cache import prepare_videos
    from comemory.training.footage_sampling import choose_sampling
    from comemory.training.train import frame_rate

    dataset = open_any_dataset(job.train)
    videos = dataset.training()
    rate_hz = frame_rate(dataset, videos)
    with _exclusive(job.cache, reporter):
        reporter.stage("Preparing frames", None)
        prepare_videos(
            videos,
            job.cache,
            config.clips,
            config.flow,
            dataset=job.train,
            rate_hz=rate_hz,
            sampling=choose_sampling(videos, rate_hz, config.train.max_frames),
            on_frame=lambda name: reporter.advance(name),
        )


def _train(job: Job, config: TrainingConfig, reporter: RunReporter) -> Any:
    from comemory.training.train import train

    folder = job.network_folder
    _remove_partial_bundles(folder)
    return train(
        job.train,
        config,
        folder / "bundle",
        run=folder / "run",
        cache=job.cache,
        resume=True,
        reporter=reporter,
    )


def _calibrated(job: Job, network: Bundle, reporter: RunReporter) -> Bundle:
    """The run's own bundle: a link to the network's if the scoring is the same, else calibrated with its scoring."""
    from comemory.training.recalibrate import link_members, recalibrate

    out = job.run_folder / "bundle"
    if os.path.lexists(out):
        try:
            return open_bundle(out)
        except BundleError as error:
            _set_aside(out, f"the stored bundle cannot be used and is calibrated again: {error}", reporter)
    _remove_partial_bundles(job.run_folder)
    scoring = job.config.scoring
    counted = network.calibration.n_alarms is not None
    if counted and network.config["scoring"] == scoring.model_dump(mode="json"):
        with bundle_writer(out) as folder:
            link_members(network.path, folder, (*REQUIRED, SCENE))
    else:
        weights = job.config.flow.weights
        recalibrate(network.path, job.train, scoring, out, cache=job.cache, flow_weights=weights, reporter=reporter)
    return open_bundle(out)


def _evaluate(job: Job, bundle: Bundle, name: str, reporter: RunReporter) -> JSON:
    """The evaluation on one data set, stored or made now."""
    from comemory.detector import Detector
    from comemory.evaluation.evaluate import evaluate

    data = job.evaluate_on[name]
    digest = hashlib.sha256(f"{data} {job.false_alarms} {job.row['versions']} {PSEUDO_VERSION}".encode()).hexdigest()[
        :8
    ]
    path = job.run_folder / f"results-{name}-{digest}.json"
    stored = read_json(path)
    if stored is not None and stored.get("bundle") == bundle.digest:
        return stored
    started, cpu_started = time.monotonic(), cpu_seconds()
    detector = Detector(
        bundle, runtime=RUNTIME, threads=job.threads, flow_weights=job.config.flow.weights, all_evidence=True
    )
    done = evaluate(
        detector,
        open_any_dataset(data),
        false_alarms=job.false_alarms,
        motion_baseline=cached_motion_baseline(job.cache / "motion-baseline", data),
        on_video=lambda video, n_frames: reporter.stage(f"Evaluating on {name}, {video}", n_frames),
        on_frame=reporter.advance,
    )
    evaluation = {
        "bundle": bundle.digest,
        **process_environment(),
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(cpu_seconds() - cpu_started, 1),
        "results": done.results,
        "problems": [_without_folder(problem, job) for problem in done.problems],
    }
    write_text(path, json.dumps(evaluation))
    return evaluation


def _row(job: Job, bundle: Bundle, training: JSON, evaluations: dict[str, JSON]) -> JSON:
    from comemory.training.cost import network_cost

    test = evaluations["test"]
    problems = [f"{name}: {problem}" for name, made in evaluations.items() for problem in made["problems"]]
    return {
        "format": FORMAT,
        **job.row,
        "date": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "bundle": bundle.digest[:16],
        "runtime": RUNTIME,
        "cost": network_cost(job.config),
        "training": training,
        "evaluation": {
            **{name: test[name] for name in ("commit", "dirty", "versions", "hardware")},
            **{
                name: round(sum(made[name] for made in evaluations.values()), 1)
                for name in ("wall_s", "cpu_s")
                if all(name in made for made in evaluations.values())
            },
        },
        "results": _rounded(test["results"]),
        "further": {name: _rounded(made["results"]) for name, made in evaluations.items() if name != "test"},
        "problems": [*training["problems"], *problems],
    }


def _rounded(value: Any) -> Any:
    """Numbers rounded to `DECIMALS`, at any depth."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


@contextmanager
def _exclusive(folder: Path, reporter: RunReporter) -> Iterator[None]:
    """Lock a folder against other processes; waits until it is free."""
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


def _remove_partial_bundles(folder: Path) -> None:
    """Remove bundles that a kill left half written. The folder is locked, so nobody is writing them."""
    for partial in folder.glob(".bundle-*"):
        shutil.rmtree(partial, ignore_errors=True)


def _without_folder(text: str, job: Job) -> str:
    """A text in which the folder of recorded data is `{data}` again: paths of a machine do not belong in the table."""
    return text.replace(job.recorded, "{data}") if job.recorded else text
