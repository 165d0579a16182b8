"""How long a training has taken, over all its starts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Protocol

from comemory.files import write_text
from comemory.training.config import Recipe
from comemory.types import JSON

NOTED_S = 10.0
"""Seconds between notes."""


class Reporter(Protocol):
    """Who is told how a cell goes; see `train.run.Reporter`."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins; `total` steps if known."""

    def advance(self, note: str = "") -> None:
        """One step of the stage is done."""


class Spent:
    """The time and the recipe of a training, noted now and then, so that a kill forgets little.

    Args:
        path: of the note.
        note: what was there of an earlier start, if anything.

    Attributes:
        starts: how often the training was started.
    """

    def __init__(self, path: Path, recipe: Recipe, note: JSON | None) -> None:
        before = note if note is not None and "done" not in note else {}
        self._path, self._recipe = path, recipe
        self._before, self.starts = float(before.get("spent_s", 0)), int(before.get("starts", 0)) + 1
        self._begun = self._noted = time.monotonic()
        self.write()

    def total(self) -> float:
        """Seconds so far, over all starts."""
        return round(self._before + time.monotonic() - self._begun, 1)

    def tick(self) -> None:
        """Write the note when it is time to."""
        if time.monotonic() - self._noted > NOTED_S:
            self.write()
            self._noted = time.monotonic()

    def write(self, done: JSON | None = None) -> None:
        """Write the note, with what is known of the training when it is done."""
        note: JSON = {"recipe": self._recipe.model_dump(mode="json"), "spent_s": self.total(), "starts": self.starts}
        write_text(self._path, json.dumps(note if done is None else {**note, "done": done}))


class Watched:
    """A reporter that also counts the time."""

    def __init__(self, reporter: Reporter, spent: Spent) -> None:
        self._reporter, self._spent = reporter, spent

    def stage(self, name: str, total: int | None) -> None:
        """See `Reporter`."""
        self._spent.tick()
        self._reporter.stage(name, total)

    def advance(self, note: str = "") -> None:
        """See `Reporter`."""
        self._spent.tick()
        self._reporter.advance(note)


def read_note(path: Path) -> JSON | None:
    """A JSON object from a file that a kill may have left away; None where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
