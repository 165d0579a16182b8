"""The progress of training a camera's model: written by the process that trains, read by the one with the page."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, Field

from comemory.config import Settings
from comemory.errors import ComemoryError, SourceError, mask_password
from comemory.files import require_writable_folder, write_text
from comemory.types import JSON

SHOWN_S = 24 * 3600.0
"""How long the end of a training is shown."""
_NAME = "learning.json"


class _Record(Settings):
    """The content of the file."""

    camera: str
    stage: str
    message: str
    running: bool
    started: float
    seconds: float | None = Field(ge=0)
    run: str | None
    epochs: int | None = Field(ge=0)
    process: int = Field(ge=1, le=2**31)


class _Epoch(BaseModel):
    """The part of a line in a training log that is read."""

    epoch: int = Field(ge=0, le=10**9)


class LearningProgress:
    """Writes the progress of training a camera's model to a file in the camera's folder.

    A context manager: leaving it writes how it ended.

    Args:
        folder: of the camera.

    Raises:
        ConfigError: on entering, if the folder cannot be written.
    """

    def __init__(self, folder: Path, camera: str) -> None:
        self._file, self._camera = folder / _NAME, camera

    def __enter__(self) -> Self:
        require_writable_folder(self._file.parent)
        self.begin_stage("beginning")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.begin_stage("done", "the camera uses the new model", running=False)
        else:
            text = str(error) if isinstance(error, ComemoryError) else "it was interrupted"
            self.begin_stage("failed", mask_password(text), running=False)

    def begin_stage(
        self,
        stage: str,
        message: str = "",
        *,
        seconds: float | None = None,
        run: Path | None = None,
        epochs: int | None = None,
        running: bool = True,
        process: int | None = None,
    ) -> None:
        """Write that a stage begins.

        Args:
            stage: such as `recording`.
            message: one line on it.
            seconds: how long it will take, if known.
            run: folder of the training log.
            epochs: number of epochs of the training.
            running: False for the last stage, which says how it ended.
            process: that trains; this one by default.
        """
        record = _Record(
            camera=self._camera,
            stage=stage,
            message=_utf8(message),
            running=running,
            started=time.time(),
            seconds=seconds,
            run=None if run is None else _utf8(str(run.absolute())),
            epochs=epochs,
            process=os.getpid() if process is None else process,
        )
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(SourceError):
            write_text(self._file, record.model_dump_json() + "\n")


def read_progress(out: Path, now: float | None = None) -> list[JSON]:
    """The trainings in an output folder that are running, or ended within a day.

    Returns:
        For each camera: camera, stage, share (0 to 1, None when not known), message, running.
    """
    now = time.time() if now is None else now
    found = (_read(file, now) for file in sorted((out / "cameras").glob(f"*/{_NAME}")))
    return [record for record in found if record is not None]


def _read(file: Path, now: float) -> JSON | None:
    try:
        record = _Record.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None
    age_s, running, stage, message = now - record.started, record.running, record.stage, record.message
    share = None
    if running and not _is_alive(record.process):
        running, stage, message = False, "interrupted", "the training process has ended unexpectedly"
    elif running and record.seconds:
        share = min(1.0, max(0.0, age_s / record.seconds))
    elif running and record.run:
        share, message = _epochs(Path(record.run), record.epochs, message)
    if not running and age_s > SHOWN_S:
        return None
    return {"camera": file.parent.name, "stage": stage, "share": share, "message": message, "running": running}


def _epochs(run: Path, epochs: int | None, message: str) -> tuple[float | None, str]:
    """The share and number of finished epochs, from the training log."""
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        done = _Epoch.model_validate_json(lines[-1]).epoch + 1
    except (OSError, ValueError, IndexError):
        return (0.0 if epochs else None), message
    return (min(1.0, done / epochs) if epochs else None), f"{done} of {epochs} epochs" if epochs else f"{done} epochs"


def _utf8(text: str) -> str:
    """The text with bytes that are not UTF-8 escaped: file names may contain any byte."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
