"""One training, from a data set to a bundle."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor

from comemory.bundle import bundle_writer, refuse_to_replace, write_json
from comemory.datasets import open_dataset
from comemory.errors import BundleError, SourceError, TrainingError
from comemory.provenance import commit, package_version
from comemory.scoring import Calibration
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.calibrate import calibrate, n_observed, split
from comemory.training.checkpoint import CHECKPOINT, Progress
from comemory.training.config import Recipe
from comemory.training.graph import write_graph
from comemory.training.loop import fit, make_fabric
from comemory.training.plot import DEAD, plot_history
from comemory.training.split import LEAST
from comemory.training.teachers import Teachers
from comemory.types import JSON, Dataset, LabelledSource
from comemory.video.source import open_source

DEFAULT_RATE_HZ = 25.0
_MODULES = ("comemory", "torch", "numpy", "av", "opencv-python-headless", "onnx", "onnxscript", "lightning-fabric")


class Reporter(Protocol):
    """Who is told how a training goes."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins; `total` steps if known."""

    def advance(self, note: str = "") -> None:
        """One step of the stage is done."""


class Silence:
    """The reporter that says nothing."""

    def stage(self, name: str, total: int | None) -> None:
        """See `Reporter`."""

    def advance(self, note: str = "") -> None:
        """See `Reporter`."""


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        bundle: its path.
        problems: one line for each problem met on the way.
        caution: one sentence where the thresholds are careful for want of video.
    """

    bundle: Path
    problems: Sequence[str]
    caution: str | None = None


def train(
    data: str,
    recipe: Recipe,
    out: Path,
    *,
    run: Path | None = None,
    cache: Path | None = None,
    teachers: Sequence[str | Path] = (),
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Trained:
    """Train on the ordinary video of a data set and write the bundle.

    Args:
        data: `KIND:PATH`.
        out: where the bundle goes; an older bundle there is replaced at the very end. Where that fails (a full disk,
            say), the checkpoint of the finished training is still there to `resume` from.
        run: folder of the cache, the checkpoint, the log and the plot; `<out>.run` unless given.
        cache: folder of the prepared frames, which trainings on the same video can share; `<run>/cache` unless given.
        teachers: bundles whose networks it learns from as well, see `TrainSettings.taught`.
        resume: go on from the run folder's checkpoint, if there is one.

    Raises:
        DatasetError, SourceError, TrainingError, BundleError: one line each.
    """
    begun = time.monotonic()
    run = _run_folder(out, run)
    dataset = open_dataset(data)
    videos = dataset.training()
    taught_by = Teachers(teachers, recipe)
    _make(run)
    fabric = make_fabric(recipe.train)
    if reporter is None or not fabric.is_global_zero:
        reporter = Silence()
    rate_hz = frame_rate(dataset, videos)
    reporter.stage("Preparing frames", _count(videos))
    with fabric.rank_zero_first():
        prepared, problems = prepare_videos(
            videos,
            cache or run / "cache",
            recipe.clips,
            recipe.flow,
            dataset=data,
            rate_hz=rate_hz,
            on_frame=lambda name: reporter.advance(name),
        )
    trained, held = split(prepared, recipe.train.holdout, recipe.clips.n_past)
    _enough(trained, held, recipe)
    taught_by.refuse_known(_lengths(trained), _lengths(held), _content(prepared))
    if not resume:
        (run / CHECKPOINT).unlink(missing_ok=True)
    model, progress = _fit(fabric, recipe, trained, run, taught_by, resume, reporter)
    if not fabric.is_global_zero:
        return Trained(out, ())
    reporter.stage("Calibrating on held-out video", n_observed(held, trained, recipe.clips.n_past))
    model = model.to(memory_format=torch.contiguous_format)
    calibration = calibrate(model, held, recipe, rate_hz, reporter.advance, trained)
    provenance = _provenance(data, prepared, trained, held, progress, time.monotonic() - begun)
    if taught_by:
        provenance["teachers"] = [digest[:16] for digest in taught_by.digests]
    reporter.stage("Writing the bundle", None)
    _write(out, model, recipe, calibration, provenance)
    return Trained(out, problems, calibration.caution)


def _fit(
    fabric: Any,
    recipe: Recipe,
    videos: Sequence[PreparedVideo],
    run: Path,
    teachers: Teachers,
    resume: bool,
    reporter: Reporter,
) -> tuple[Any, Progress]:
    started = False

    def on_step(progress: Progress, loss: float) -> None:
        nonlocal started
        if not started:
            reporter.stage("Training", progress.n_steps - progress.step + 1)
            started = True
        reporter.advance(f"loss {loss:.4f}")

    def on_epoch(progress: Progress) -> None:
        lines = [json.dumps(record) for record in progress.history]
        try:
            (run / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            plot_history(progress.history, run / "training.png")
        except OSError as error:
            raise TrainingError(f"cannot write the log into {run}: {error.strerror or error}") from None

    return fit(fabric, recipe, videos, run, teachers=teachers, resume=resume, on_step=on_step, on_epoch=on_epoch)


def _write(out: Path, model: Any, recipe: Recipe, calibration: Calibration, provenance: JSON) -> None:
    with bundle_writer(out) as folder:
        _write_tensors(model.state_dict(), folder / "weights.safetensors")
        items = {f"{name}_items": memory.items for name, memory in model.memories().items()}
        _write_tensors(items, folder / "items.safetensors")
        graph = write_graph(model, recipe.clips, folder / "model.onnx")
        write_json(
            folder / "config.json", {**recipe.model_dump(mode="json"), "network": recipe.arguments(), "graph": graph}
        )
        write_json(folder / "calibration.json", calibration.model_dump(mode="json"))
        write_json(folder / "provenance.json", provenance)


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except safetensors.SafetensorError as error:
        raise BundleError(f"cannot write {path.name} of the bundle: {error}; nothing was changed") from None


def _run_folder(out: Path, run: Path | None) -> Path:
    """Where the run folder is; refuses places that would be found taken at the end of the training only."""
    refuse_to_replace(out)
    if not out.name:
        raise BundleError(f"{str(out)!r} has no name to give to a bundle: choose a place such as models/gate")
    run = run or out.with_name(f"{out.name}.run")
    if run.resolve().is_relative_to(out.resolve()):
        raise TrainingError(f"the run folder {run} would lie in the bundle {out}: choose another one")
    return run


def _make(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the run folder {run}: {error.strerror or error}") from None


def _count(videos: Sequence[LabelledSource]) -> int | None:
    counts = [video.n_frames for video in videos]
    return None if None in counts else sum(count or 0 for count in counts)


def _enough(trained: Sequence[PreparedVideo], held: Sequence[PreparedVideo], recipe: Recipe) -> None:
    n_past = recipe.clips.n_past
    n_held = sum(len(video.newest(n_past)) for video in held)
    n_trained = sum(len(video.newest(n_past)) for video in trained)
    if n_held < LEAST or n_trained < recipe.train.batch:
        raise TrainingError(
            f"too little ordinary video: {n_trained} clips to train on and {n_held} held out for the calibration, "
            f"at least {recipe.train.batch} and {LEAST} are needed: give more footage, or set train.holdout to another share"
        )


def frame_rate(dataset: Dataset, videos: Sequence[LabelledSource]) -> float:
    """Frames per second of the data set, or of its first video that says; else what is taken where nothing does."""
    if dataset.rate_hz:
        return float(dataset.rate_hz)
    for video in videos:
        with suppress(SourceError):
            if rate_hz := open_source(video.source).rate_hz:
                return float(rate_hz)
    return DEFAULT_RATE_HZ


def _content(prepared: Sequence[PreparedVideo]) -> str:
    return hashlib.sha256("".join(video.content for video in prepared).encode()).hexdigest()


def _lengths(videos: Sequence[PreparedVideo]) -> dict[str, int]:
    return {video.name: len(video.indices) for video in videos}


def _provenance(
    data: str,
    prepared: Sequence[PreparedVideo],
    trained: Sequence[PreparedVideo],
    held: Sequence[PreparedVideo],
    progress: Progress,
    wall_s: float,
) -> JSON:
    kind = data.partition(":")[0]
    last = progress.history[-1]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "dataset": kind if kind != "synthetic" else data,
        "data_sha256": _content(prepared),
        "trained_on": _lengths(trained),
        "held_out": _lengths(held),
        "epochs": len(progress.history),
        "loss": last["loss"],
        "dead_items": {name: sum(share < DEAD for share in use) for name, use in last["item_use"].items()},
        "wall_s": round(wall_s, 1),
        "commit": commit(),
        "versions": {module: package_version(module) for module in _MODULES},
        "hardware": {
            "machine": platform.machine(),
            "cpu_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
