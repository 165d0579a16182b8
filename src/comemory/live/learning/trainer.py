"""Starts trainings for the page, each in a process of its own with low priority; one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from comemory.datasets import open_dataset
from comemory.errors import ComemoryError, ConfigError, RuntimeMissing, TrainingError, install_hint
from comemory.files import require_writable_folder
from comemory.live.learning.learn import NICE, TRAINING_PACKAGES, child_command
from comemory.live.learning.progress import LearningProgress, read_progress

STOP_S = 1.0
"""How long a training may take to end before it is killed."""


EXIT_S = 20.0
"""How long a process may take to exit after it has reported that its training is done."""


class Trainer:
    """Runs `comemory learn` for one camera at a time.

    Args:
        out: the output folder of the live system.
        arguments: options of the command line with which the settings are read.
    """

    def __init__(self, out: Path, arguments: Sequence[str]) -> None:
        self._out, self._arguments = out, list(arguments)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._camera = ""

    def recorded(self, camera: str) -> Path:
        """The folder of what `comemory learn` has recorded of a camera."""
        return self._out / "cameras" / camera / "recorded"

    def start(self, camera: str, *, footage: Path | None = None, record_s: float = 0.0) -> None:
        """Start a training.

        Args:
            camera: its name.
            footage: folder of normal videos; None records the camera first.
            record_s: how long to record.

        Raises:
            ConfigError: a training is running, or the folder of the camera cannot be written.
            RuntimeMissing: a package for training is not installed.
            DatasetError: the folder has no video.
            TrainingError: the process cannot be started.
        """
        if absent := [name for name in TRAINING_PACKAGES if find_spec(name) is None]:
            raise RuntimeMissing(f"training needs {absent[0]}, which is not installed: {install_hint('train')}")
        if footage is not None:
            open_dataset(f"folder:{footage}")
        source = ["--for", f"{record_s:g}s"] if footage is None else ["--from", str(footage)]
        with self._lock:
            running = [one["camera"] for one in read_progress(self._out) if one["running"]]
            if self._process is not None and not running:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(EXIT_S)
            if running or self._is_running():
                raise ConfigError(
                    f"a training is running, of {(running or [self._camera])[0]}: wait for it, or stop it"
                )
            folder = self._out / "cameras" / camera
            require_writable_folder(folder)
            self._camera, self._process = camera, self._spawn(camera, source, folder)

    def _spawn(self, camera: str, source: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
        """Start the process from a thread that waits for its end: the kernel kills it with the thread that started it."""
        command = child_command("learn", camera, *self._arguments, *source)
        log, started = folder / "learn.log", threading.Event()
        progress, made = LearningProgress(folder, camera), list[subprocess.Popen[bytes]]()

        def run() -> None:
            try:
                with log.open("wb") as output:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env={**os.environ, "OMP_NUM_THREADS": "1"},
                        start_new_session=True,
                    )
                with suppress(ProcessLookupError, PermissionError):
                    os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
                progress.begin_stage("starting", process=process.pid)
                made.append(process)
            finally:
                started.set()
            self._report_end(process, progress, camera, log)

        threading.Thread(target=run, name="training", daemon=True).start()
        started.wait()
        if not made:
            raise TrainingError(f"the training of {camera} cannot be started: see the log of the service")
        return made[0]

    def stop(self, camera: str) -> None:
        """Stop the training of a camera; the camera keeps its model.

        Raises:
            ConfigError: none is running, or it was not started here.
        """
        with self._lock:
            if not (self._is_running() and self._camera == camera):
                raise ConfigError(f"no training of {camera} was started here")
            self._end()

    def close(self) -> None:
        """Stop what is running."""
        with self._lock:
            if self._is_running():
                self._end()

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)

    def _report_end(self, process: subprocess.Popen[bytes], progress: LearningProgress, camera: str, log: Path) -> None:
        """Say why a training ended that could not say so itself."""
        status = process.wait()
        stage = next((one for one in read_progress(self._out) if one["camera"] == camera), None)
        if status and stage is not None and stage["stage"] in ("starting", "interrupted"):
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            reason = "it was stopped" if status < 0 else (lines or [f"exit code {status}"])[-1].strip()
            with suppress(OSError, ComemoryError):
                progress.begin_stage("failed", reason, running=False)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
