"""How far the learning of a camera is: told by the process that learns, read by the one that shows it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, Field

from comemory.config_model import Settings
from comemory.errors import ComemoryError, SourceError, mask_password
from comemory.files import write_text
from comemory.types import JSON

KEPT_S = 24 * 3600.0
_NAME = "learning.json"


class _Told(Settings):
    """What the file holds."""

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
    """What is read of a line in a training's log."""

    epoch: int = Field(ge=0, le=10**9)


class Progress:
    """Tells how far the learning of a camera is, in a file of the camera's folder.

    A context manager: leaving it says how it ended.

    Args:
        folder: of the camera.
    """

    def __init__(self, folder: Path, camera: str) -> None:
        self._file, self._camera = folder / _NAME, camera

    def __enter__(self) -> Self:
        self.tell("beginning")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.tell("done", "the camera goes over to what was learned", running=False)
        else:
            text = str(error) if isinstance(error, ComemoryError) else "it was broken off"
            self.tell("failed", mask_password(text), running=False)

    def tell(
        self,
        stage: str,
        message: str = "",
        *,
        seconds: float | None = None,
        run: Path | None = None,
        epochs: int | None = None,
        running: bool = True,
    ) -> None:
        """A stage begins.

        Args:
            seconds: how long it takes, where that is known.
            run: folder of a training's log; `epochs` how many there will be.
        """
        told = _Told(
            camera=self._camera,
            stage=stage,
            message=_utf8(message),
            running=running,
            started=time.time(),
            seconds=seconds,
            run=None if run is None else _utf8(str(run.absolute())),
            epochs=epochs,
            process=os.getpid(),
        )
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(SourceError):
            write_text(self._file, told.model_dump_json() + "\n")


def learning(out: Path, now: float | None = None) -> list[JSON]:
    """What is being learned in a folder of `comemory watch`, or was within a day.

    Returns:
        For each camera: camera, stage, share (0 to 1, None when not known), message, running.
    """
    now = time.time() if now is None else now
    found = (_read(file, now) for file in sorted((out / "cameras").glob(f"*/{_NAME}")))
    return [told for told in found if told is not None]


def _read(file: Path, now: float) -> JSON | None:
    try:
        told = _Told.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None
    age_s, running, stage, message = now - told.started, told.running, told.stage, told.message
    share = None
    if running and not _is_alive(told.process):
        running, stage, message = False, "broken off", "the process that learned is gone"
    elif running and told.seconds:
        share = min(1.0, max(0.0, age_s / told.seconds))
    elif running and told.run:
        share, message = _epochs(Path(told.run), told.epochs, message)
    if not running and age_s > KEPT_S:
        return None
    return {"camera": file.parent.name, "stage": stage, "share": share, "message": message, "running": running}


def _epochs(run: Path, epochs: int | None, message: str) -> tuple[float | None, str]:
    """How many epochs of a training are done, by its log."""
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        done = _Epoch.model_validate_json(lines[-1]).epoch + 1
    except (OSError, ValueError, IndexError):
        return (0.0 if epochs else None), message
    return (min(1.0, done / epochs) if epochs else None), f"{done} epochs are done" + (
        f" of {epochs}" if epochs else ""
    )


def _utf8(text: str) -> str:
    """The text with what is no UTF-8, as in odd file names, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
