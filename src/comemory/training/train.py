"""One training, from a data set to a bundle."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor

from comemory.bundle import SCENE, bundle_writer, require_replaceable, write_json
from comemory.datasets import open_dataset
from comemory.errors import BundleError, SourceError, TrainingError
from comemory.provenance import current_commit, package_version
from comemory.scoring import Calibration, NormalScene
from comemory.scoring.budgets import Coverage, coverage
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.calibrate import calibrate, n_calibration_frames, n_scene_frames, needed_scene, split_videos
from comemory.training.checkpoint import CHECKPOINT, TrainingState
from comemory.training.config import TrainingConfig
from comemory.training.cost import network_cost
from comemory.training.footage import clip_shortage, shape_note
from comemory.training.footage_sampling import FootageSampling, choose_sampling
from comemory.training.graph import write_graph
from comemory.training.loop import fit, make_fabric
from comemory.training.plot import DEAD, plot_history
from comemory.training.processes import OtherProcessError, Processes, is_restarted
from comemory.types import JSON, Dataset, LabelledSource, ListsUnusedFiles
from comemory.video.frame_sampler import RATE_TOLERANCE, measured_rate
from comemory.video.source import open_source

DEFAULT_RATE_HZ = 25.0
"""Frames per second where neither data set nor video states them: the most common rate of cameras."""
_MODULES = ("comemory", "torch", "numpy", "av", "opencv-python-headless", "onnx", "onnxscript", "lightning-fabric")


class TrainingReporter(Protocol):
    """Receives the progress of a training."""

    def stage(self, name: str, total: int | None) -> None:
        """Begin a stage of `total` steps; None where their number is not known."""

    def advance(self, note: str = "") -> None:
        """Count one step of the stage, with a note such as `loss 0.1234`."""


class SilentReporter:
    """A reporter that discards everything."""

    def stage(self, name: str, total: int | None) -> None:
        """See `TrainingReporter`."""

    def advance(self, note: str = "") -> None:
        """See `TrainingReporter`."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        bundle: path of the bundle.
        problems: one line for each problem met, such as a corrupt frame.
        small_sample_note: one sentence where there was too little video for precise thresholds, else None.
        notes: one line each on what was left out, and on the times of the frames, such as a gap; see `video.frame_sampler`.
        coverage: the length of the footage and the false-alarm budgets that it supports; None in all but the first process.
        cost: of the network, see `training.cost.network_cost`; None in all but the first process.
        is_first: whether this is the first process of the training, which wrote the bundle.
    """

    bundle: Path
    problems: Sequence[str]
    small_sample_note: str | None = None
    notes: Sequence[str] = ()
    coverage: Coverage | None = None
    cost: JSON | None = None
    is_first: bool = True


def train(
    data: str,
    config: TrainingConfig,
    out: Path,
    *,
    run: Path | None = None,
    cache: Path | None = None,
    resume: bool = False,
    reporter: TrainingReporter | None = None,
) -> TrainingResult:
    """Train on the normal video of a data set and write the bundle.

    Several processes can train together, see `training.processes`: the first one writes and returns the result. Nodes need
    no common disk: each prepares the frames that its own cache lacks, and only the first process has the run folder.

    Args:
        data: `KIND:PATH` of the data set.
        config: of the training.
        out: path of the bundle. An older bundle there is replaced at the very end; where that fails, for instance
            because the disk is full, `resume` continues from the checkpoint of the finished training.
        run: folder of the cache, the checkpoint, the log and the plot; `<out>.run` unless given.
        cache: folder of the prepared frames, which trainings on the same video can share; `<run>/cache` unless given.
        resume: continue from the checkpoint in the run folder, if there is one. Processes that torchrun has started
            again do so anyway.
        reporter: receives the progress.

    Raises:
        DatasetError: the data set cannot be read.
        SourceError: a video cannot be read.
        TrainingError: there is too little video, or the run folder cannot be used.
        BundleError: the bundle cannot be written.
        OtherProcessError: in all but the first process, which raises the reason.
    """
    start_s = time.monotonic()
    fabric = make_fabric(config.train)
    processes = Processes(fabric)
    if reporter is None or not processes.is_first:
        reporter = SilentReporter()
    with processes.fail_together():
        run = _run_folder(out, run)
        dataset = open_dataset(data)
        videos = dataset.training()
        _make_folder(run)
        rate_hz = frame_rate(dataset, videos)
        cost = network_cost(config)
        if processes.is_first and not (resume or is_restarted()):
            (run / CHECKPOINT).unlink(missing_ok=True)
    sampling = choose_sampling(videos, rate_hz, config.train.max_frames)
    used = [video for video in videos if video.name in sampling]
    reporter.stage("Preparing frames", _n_frames(used))
    prepared, problems = _prepare(processes, data, used, sampling, config, cache or run / "cache", rate_hz, reporter)
    with processes.fail_together():
        trained, held_out = split_videos(prepared, config.train.calibration_share, config.clips.n_past)
        _require_enough(trained, held_out, config)
    try:
        model, state = _fit(fabric, config, trained, run, resume or is_restarted(), reporter)
    except TrainingError as error:
        if processes.is_first:
            raise
        raise OtherProcessError(str(error)) from None
    if not processes.is_first:
        return TrainingResult(out, (), is_first=False)
    model = model.to(memory_format=torch.contiguous_format)
    calibration, scene = calibrate_in_stages(model, held_out, trained, config, rate_hz, reporter)
    provenance = _provenance(data, prepared, trained, held_out, state, time.monotonic() - start_s)
    provenance["cost"] = cost
    reporter.stage("Writing the bundle", None)
    _write(out, model, config, calibration, provenance, scene)
    n_frames = sum(len(video.indices) for video in prepared)
    left_out = dataset.unused_files() if isinstance(dataset, ListsUnusedFiles) else ()
    notes = [*left_out, *(note for video in prepared for note in video.notes), *_notes_on(used, sampling, config)]
    return TrainingResult(out, problems, calibration.small_sample_note, notes, coverage(calibration, n_frames), cost)


def _notes_on(
    videos: Sequence[LabelledSource], sampling: Mapping[str, FootageSampling], config: TrainingConfig
) -> list[str]:
    """Which share of the footage was used, if not all, and the image sizes if the aspect ratios differ."""
    shapes = [note] if (note := shape_note(videos)) else []
    every = next(iter(sampling.values())).every
    limit = f"train.max_frames={config.train.max_frames}"
    share = f"one minute in {every} of the footage was used, spread over all of it: {limit}"
    return [share, *shapes] if every > 1 else shapes


def _prepare(
    processes: Processes,
    data: str,
    videos: Sequence[LabelledSource],
    sampling: Mapping[str, FootageSampling],
    config: TrainingConfig,
    cache: Path,
    rate_hz: float,
    reporter: TrainingReporter,
) -> tuple[list[PreparedVideo], list[str]]:
    """Prepare the frames, each process a share of the videos, and map all of them.

    Where nodes have caches of their own, the first process of each then prepares what its cache lacks.
    """
    own = list(videos[processes.rank :: processes.n_processes]) if processes.n_processes > 1 else []
    done = {video.name for video in own}

    def prepare(
        chosen: Sequence[LabelledSource], on_frame: Callable[[str], None]
    ) -> tuple[list[PreparedVideo], list[str]]:
        return prepare_videos(
            chosen,
            cache,
            config.clips,
            config.flow,
            dataset=data,
            rate_hz=rate_hz,
            sampling=sampling,
            on_frame=on_frame,
        )

    def advance_others(name: str) -> None:
        if name not in done:
            reporter.advance(name)

    with processes.fail_together():
        for video in own:
            # A video that cannot be used is named by the pass over all videos.
            with suppress(TrainingError):
                prepare([video], reporter.advance)
    found: tuple[list[PreparedVideo], list[str]] = ([], [])
    for is_turn in (processes.is_first_of_node, not processes.is_first_of_node):
        with processes.fail_together():
            if is_turn:
                found = prepare(videos, advance_others)
    return found


def calibrate_in_stages(
    model: Any,
    held_out: Sequence[PreparedVideo],
    trained: Sequence[PreparedVideo],
    config: TrainingConfig,
    rate_hz: float,
    reporter: TrainingReporter,
) -> tuple[Calibration, NormalScene | None]:
    """Learn the scene, where a channel needs one, then fit the calibration. See `calibrate`."""
    videos = [*held_out, *trained]
    if n_frames := n_scene_frames(videos, config):
        reporter.stage("Learning what moves in the scene", n_frames)
    scene = needed_scene(videos, config, rate_hz, reporter.advance)
    reporter.stage("Calibrating on held-out video", n_calibration_frames(held_out, trained, config))
    return calibrate(model, held_out, config, rate_hz, reporter.advance, trained, scene), scene


def _fit(
    fabric: Any,
    config: TrainingConfig,
    videos: Sequence[PreparedVideo],
    run: Path,
    resume: bool,
    reporter: TrainingReporter,
) -> tuple[Any, TrainingState]:
    has_begun = False

    def on_step(state: TrainingState, loss: float) -> None:
        nonlocal has_begun
        if not has_begun:
            reporter.stage("Training", state.n_steps - state.step + 1)
            has_begun = True
        reporter.advance(f"loss {loss:.4f}")

    def on_epoch(state: TrainingState) -> None:
        lines = [json.dumps(record) for record in state.history]
        try:
            (run / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            plot_history(state.history, run / "training.png")
        except OSError as error:
            raise TrainingError(f"cannot write the log into {run}: {error.strerror or error}") from None

    return fit(fabric, config, videos, run, resume=resume, on_step=on_step, on_epoch=on_epoch)


def _write(
    out: Path,
    model: Any,
    config: TrainingConfig,
    calibration: Calibration,
    provenance: JSON,
    scene: NormalScene | None,
) -> None:
    with bundle_writer(out) as folder:
        _write_tensors(model.state_dict(), folder / "weights.safetensors")
        items = {f"{name}_items": memory.items for name, memory in model.memories().items()}
        _write_tensors(items, folder / "items.safetensors")
        write_scene(scene, folder)
        graph = write_graph(model, config.clips, folder / "model.onnx")
        write_json(
            folder / "config.json", {**config.model_dump(mode="json"), "network": config.model_kwargs(), "graph": graph}
        )
        write_json(folder / "calibration.json", calibration.model_dump(mode="json"))
        write_json(folder / "provenance.json", provenance)


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except safetensors.SafetensorError as error:
        raise BundleError(f"cannot write {path.name} of the bundle: {error}; nothing was changed") from None


def write_scene(scene: NormalScene | None, folder: Path) -> None:
    """Write the scene into a bundle's folder, if there is one; remove an older one otherwise."""
    if scene is None:
        (folder / SCENE).unlink(missing_ok=True)
    else:
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(a) for name, a in scene.to_arrays().items()}, folder / SCENE
        )


def _run_folder(out: Path, run: Path | None) -> Path:
    """The path of the run folder. Places that could not be written at the end of the training are refused now."""
    require_replaceable(out)
    if not out.name:
        raise BundleError(f"{str(out)!r} cannot be the path of a bundle: choose one such as models/gate")
    run = run or out.with_name(f"{out.name}.run")
    if run.resolve().is_relative_to(out.resolve()):
        raise TrainingError(f"the run folder {run} would lie in the bundle {out}: choose another one")
    return run


def _make_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the run folder {run}: {error.strerror or error}") from None


def _n_frames(videos: Sequence[LabelledSource]) -> int | None:
    counts = [video.n_frames for video in videos]
    return None if None in counts else sum(count or 0 for count in counts)


def _require_enough(
    trained: Sequence[PreparedVideo], held_out: Sequence[PreparedVideo], config: TrainingConfig
) -> None:
    n_past = config.clips.n_past
    n_held = sum(len(video.clip_ends(n_past)) for video in held_out)
    n_trained = sum(len(video.clip_ends(n_past)) for video in trained)
    if found := clip_shortage(n_trained, n_held, config.train.batch):
        raise TrainingError(found)


def frame_rate(dataset: Dataset, videos: Sequence[LabelledSource]) -> float:
    """Frames per second to train at: those that most frames have, or those of the data set where no container states them.

    Videos of other rates are resampled to it. `DEFAULT_RATE_HZ` where neither data set nor videos state a rate.
    """
    if dataset.rate_hz and not _is_contradicted(dataset.rate_hz, videos):
        return float(dataset.rate_hz)
    n_frames: dict[float, int] = {}
    for video in videos:
        rate_hz = _measured_rate(video)
        if rate_hz is not None:
            # Rates that differ by rounding count as one: the first of them.
            rate_hz = next((one for one in n_frames if abs(rate_hz / one - 1) <= RATE_TOLERANCE), rate_hz)
            n_frames[rate_hz] = n_frames.get(rate_hz, 0) + (video.n_frames or 1)
    return max(n_frames, key=n_frames.__getitem__, default=DEFAULT_RATE_HZ)


def _is_contradicted(rate_hz: float, videos: Sequence[LabelledSource]) -> bool:
    """Whether the containers of most videos that state a rate state another one."""
    stated: list[float] = []
    for video in videos:
        with suppress(SourceError):
            if found := open_source(video.source).rate_hz:
                stated.append(found)
    others = [found for found in stated if abs(found / rate_hz - 1) > RATE_TOLERANCE]
    return 2 * len(others) > len(stated)


def _measured_rate(video: LabelledSource) -> float | None:
    """Frames per second of a video; None where it does not state them, or cannot be read."""
    with suppress(SourceError):
        source = open_source(video.source)
        if source.rate_hz and (rate_hz := measured_rate(source)):
            return float(rate_hz)
    return None


def _content(prepared: Sequence[PreparedVideo]) -> str:
    return hashlib.sha256("".join(video.sha256 for video in prepared).encode()).hexdigest()


def _lengths(videos: Sequence[PreparedVideo]) -> dict[str, int]:
    return {video.name: len(video.indices) for video in videos}


def _provenance(
    data: str,
    prepared: Sequence[PreparedVideo],
    trained: Sequence[PreparedVideo],
    held_out: Sequence[PreparedVideo],
    state: TrainingState,
    wall_s: float,
) -> JSON:
    kind = data.partition(":")[0]
    last = state.history[-1] if state.history else {"loss": {}, "item_usage": {}}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "dataset": kind if kind != "synthetic" else data,
        "data_sha256": _content(prepared),
        "trained_on": _lengths(trained),
        "held_out": _lengths(held_out),
        "epochs": len(state.history),
        "loss": last["loss"],
        "dead_items": {name: sum(share < DEAD for share in usage) for name, usage in last["item_usage"].items()},
        "wall_s": round(wall_s, 1),
        "commit": current_commit(),
        "versions": {module: package_version(module) for module in _MODULES},
        "hardware": {
            "machine": platform.machine(),
            "cpu_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
