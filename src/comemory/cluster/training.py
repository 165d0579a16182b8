"""One training on several machines by Ray Train: Ray starts the processes, and starts them again when one is lost.

Each process runs `comemory.training.train`, as torchrun's do. Reports travel from the first process to the driver through
an actor; frames and weights never do.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comemory.cluster.archive_ray import connect
from comemory.errors import ConfigError, TrainingError, last_line
from comemory.types import JSON

if TYPE_CHECKING:
    from comemory.training.config import TrainingConfig
    from comemory.training.train import TrainingReporter, TrainingResult

MAX_FAILURES = 3
"""Times that Ray starts the processes again after one was lost. Each time they continue from the checkpoint."""

REPORT_INTERVAL_S = 0.5
"""Seconds between two reports of the first process: often enough for a progress bar."""


def train_on_ray(
    data: str,
    config: TrainingConfig,
    out: Path,
    *,
    address: str,
    n_workers: int,
    run: Path | None = None,
    cache: Path | None = None,
    resume: bool = False,
    reporter: TrainingReporter,
) -> TrainingResult:
    """Train on the processes of a Ray cluster and write the bundle. See `training.train.train`.

    Paths, and the folder that this process runs in, mean the same on every node. The run folder lies where every node can
    read it, because the first process may run on another node when it is started again.

    Args:
        data: see `train`.
        config: of the training.
        out: path of the bundle.
        address: of the cluster: `auto` or `ray://HOST:PORT`.
        n_workers: processes; each takes a core, and a GPU with `train.accelerator=gpu`.
        run: see `train`.
        cache: see `train`.
        resume: see `train`.
        reporter: receives the progress.

    Raises:
        RuntimeMissing: Ray is not installed.
        TemporaryError: no cluster answers at the address.
        ConfigError: it is too small.
        TrainingError: the training failed.
    """
    ray = connect(address)
    try:
        _require_room(ray, n_workers, config)
        run = run or out.with_name(f"{out.name}.run")
        if not resume:
            # The processes always continue from a checkpoint, because Ray may start them again at any time.
            _forget_checkpoint(run)
        mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
        task = {
            "mailbox": mailbox,
            "folder": str(Path.cwd()),
            "data": data,
            "config": config.model_dump(mode="json"),
            "out": str(out),
            "run": str(run),
            "cache": None if cache is None else str(cache),
        }
        return _follow(ray, mailbox, _Fit(task, n_workers, run), reporter)
    finally:
        ray.shutdown()


def _require_room(ray: Any, n_workers: int, config: TrainingConfig) -> None:
    """Refuse more processes than the cluster has places for: Ray would wait for the missing ones for ever."""
    kind = "GPU" if config.train.accelerator == "gpu" else "CPU"
    n_places = int(ray.cluster_resources().get(kind, 0))
    if n_workers > n_places:
        what = "GPUs" if kind == "GPU" else "cores"
        raise ConfigError(f"--workers {n_workers}: the cluster has {n_places} {what}; ask for at most {n_places}")
    if config.train.batch % n_workers:
        raise ConfigError(
            f"--workers {n_workers} cannot share train.batch={config.train.batch} clips evenly: "
            f"set train.batch to a multiple of {n_workers}"
        )


def _forget_checkpoint(run: Path) -> None:
    from comemory.training.checkpoint import CHECKPOINT

    try:
        (run / CHECKPOINT).unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot use the run folder {run}: {error.strerror or error}") from None


class _Fit(threading.Thread):
    """Ray Train in a thread of its own, so that the driver can follow it; in the first thread it would take over Ctrl-C.

    Attributes:
        error: why it failed; None while it runs, and when it succeeded.
    """

    def __init__(self, task: JSON, n_workers: int, run: Path) -> None:
        super().__init__(daemon=True)
        self._task, self._n_workers, self._run_folder = task, n_workers, run
        self.error: str | None = None

    def run(self) -> None:
        """Train to the end."""
        from ray.exceptions import RayError
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        gpu = self._task["config"]["train"]["accelerator"] == "gpu"
        try:
            TorchTrainer(
                _train_worker,
                train_loop_config=self._task,
                scaling_config=ScalingConfig(num_workers=self._n_workers, use_gpu=gpu),
                torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
                run_config=RunConfig(
                    name="ray",
                    storage_path=str(self._run_folder.absolute()),
                    failure_config=FailureConfig(max_failures=MAX_FAILURES),
                ),
            ).fit()
        except (RayError, RuntimeError, ValueError, OSError) as error:
            self.error = last_line(error)


def _follow(ray: Any, mailbox: Any, fit: _Fit, reporter: TrainingReporter) -> TrainingResult:
    """Report the progress until the training has ended."""
    fit.start()
    result: TrainingResult | None = None
    failure: str | None = None
    while True:
        is_over = not fit.is_alive()
        try:
            messages: Sequence[tuple[str, Any]] = ray.get(mailbox.take.remote())
        except ray.exceptions.RayError as error:
            raise TrainingError(f"the Ray cluster was lost ({last_line(error)}): start again with --resume") from None
        for kind, value in messages:
            if kind == "stage":
                reporter.stage(*value)
            elif kind == "steps":
                for _ in range(value[0]):
                    reporter.advance(value[1])
            elif kind == "done":
                result = value
            elif kind == "failed":
                failure = value
        if is_over:
            break
        time.sleep(REPORT_INTERVAL_S)
    if result is not None:
        return result
    raise TrainingError(failure or f"Ray Train failed after {MAX_FAILURES} new starts: {fit.error}")


class _Mailbox:
    """An actor that keeps what the first process reports until the driver takes it."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, Any]] = []

    def put(self, messages: list[tuple[str, Any]]) -> None:
        """Add messages."""
        self._messages += messages

    def take(self) -> list[tuple[str, Any]]:
        """The messages since the last call."""
        taken, self._messages = self._messages, []
        return taken


class _MailReporter:
    """A `training.train.TrainingReporter` that writes to the mailbox, at most a few times a second."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._steps, self._note, self._sent_s = 0, "", 0.0

    def stage(self, name: str, total: int | None) -> None:
        """See `training.train.TrainingReporter`."""
        self.send("stage", (name, total))

    def advance(self, note: str = "") -> None:
        """See `training.train.TrainingReporter`."""
        self._steps, self._note = self._steps + 1, note
        if time.monotonic() - self._sent_s >= REPORT_INTERVAL_S:
            self.send()

    def send(self, kind: str = "", value: Any = None) -> None:
        """Send the steps so far, and a message after them; wait until the mailbox has them."""
        import ray

        steps = [("steps", (self._steps, self._note))] if self._steps else []
        ray.get(self._mailbox.put.remote([*steps, *([(kind, value)] if kind else [])]))
        self._steps, self._sent_s = 0, time.monotonic()


def _train_worker(task: JSON) -> None:
    """What each process runs.

    An error of the training goes to the driver. Only the loss of another process is raised, so that Ray starts again.
    """
    from comemory.errors import ComemoryError
    from comemory.training.config import build_training_config
    from comemory.training.processes import LostProcessError, OtherProcessError
    from comemory.training.train import train

    reporter = _MailReporter(task["mailbox"])
    settings = task["config"]
    if settings["train"]["accelerator"] != "gpu":
        # Ray gave this process no GPU, even where its node has one.
        settings = {**settings, "train": {**settings["train"], "accelerator": "cpu"}}
    try:
        _enter(task["folder"])
        result = train(
            task["data"],
            build_training_config(settings),
            Path(task["out"]),
            run=Path(task["run"]),
            cache=None if task["cache"] is None else Path(task["cache"]),
            resume=True,
            reporter=reporter,
        )
    except LostProcessError:
        raise
    except OtherProcessError:
        return
    except ComemoryError as error:
        reporter.send("failed", str(error))
        return
    if result.is_first:
        reporter.send("done", result)


def _enter(folder: str) -> None:
    """Work in the folder that the command was given in, so that relative paths mean the same.

    Raises:
        TrainingError: this node does not have it.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise TrainingError(
            f"cannot work in {folder}: {error.strerror or error}; every node needs this folder"
        ) from None
