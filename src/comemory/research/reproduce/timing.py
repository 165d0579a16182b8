"""The time that a training took, over all its starts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Protocol

from comemory.files import write_text
from comemory.training.config import TrainingConfig
from comemory.types import JSON

WRITE_INTERVAL_S = 10.0
"""Seconds between two writes of the time so far: what a kill can lose."""


class RunReporter(Protocol):
    """Receives the progress of a run; as `comemory.training.train.TrainingReporter`, and what a user must know of it."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins, of `total` steps if known."""

    def advance(self, note: str = "") -> None:
        """One step of the stage is done."""

    def notice(self, text: str) -> None:
        """Something happened that is no failure, and that the user must know: one line."""


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended.

    Wall-clock time says little of a run on a machine that does something else as well.
    """
    return sum(os.times()[:4])


class TrainingClock:
    """Measures the time of a training over all its starts, and writes it with the config to a file.

    Args:
        path: of the file.
        config: of the training, for the next start.
        stored: what the file held of an earlier start, if anything.

    Attributes:
        starts: how often the training was started.
    """

    def __init__(self, path: Path, config: TrainingConfig, stored: JSON | None) -> None:
        before = stored if stored is not None and "done" not in stored else {}
        self._path, self._config = path, config
        self._before_s, self.starts = float(before.get("elapsed_s", 0)), int(before.get("starts", 0)) + 1
        self._cpu_before_s = float(before.get("cpu_s", 0))
        self._started = self._written = time.monotonic()
        self._cpu_started = cpu_seconds()
        self.write()

    def total(self) -> float:
        """Return the seconds so far, over all starts."""
        return round(self._before_s + time.monotonic() - self._started, 1)

    def cpu_total(self) -> float:
        """Return the CPU seconds so far, over all starts; see `cpu_seconds`."""
        return round(self._cpu_before_s + cpu_seconds() - self._cpu_started, 1)

    def write_if_due(self) -> None:
        """Write the file if the last write is `WRITE_INTERVAL_S` ago."""
        if time.monotonic() - self._written > WRITE_INTERVAL_S:
            self.write()
            self._written = time.monotonic()

    def write(self, done: JSON | None = None) -> None:
        """Write the file; `done` is what is known of the training once it has ended."""
        stored: JSON = {
            "config": self._config.model_dump(mode="json"),
            "elapsed_s": self.total(),
            "cpu_s": self.cpu_total(),
            "starts": self.starts,
        }
        write_text(self._path, json.dumps(stored if done is None else {**stored, "done": done}))


class TimedReporter:
    """A `RunReporter` that passes progress on and keeps a `TrainingClock` written."""

    def __init__(self, reporter: RunReporter, clock: TrainingClock) -> None:
        self._reporter, self._clock = reporter, clock

    def stage(self, name: str, total: int | None) -> None:
        """See `RunReporter`."""
        self._clock.write_if_due()
        self._reporter.stage(name, total)

    def advance(self, note: str = "") -> None:
        """See `RunReporter`."""
        self._clock.write_if_due()
        self._reporter.advance(note)

    def notice(self, text: str) -> None:
        """See `RunReporter`."""
        self._reporter.notice(text)


def read_json(path: Path) -> JSON | None:
    """Read a JSON object; None where there is no file, or a kill has left half of one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
