"""A process that runs cells: jobs come in as lines of JSON, what happens goes out as lines of JSON.

When the other side is gone, however it went, the process ends at once: what it had done is on the disk.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from queue import SimpleQueue
from typing import TextIO

from comemory.errors import ComemoryError
from comemory.research.reproduce.environment import surroundings
from comemory.research.reproduce.run import Job, run_cell
from comemory.types import JSON

OFTEN_S = 0.2


class Line:
    """A reporter that writes lines, a few each second."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._steps, self._note, self._said_s = 0, "", 0.0

    def say(self, message: JSON) -> None:
        """Write a line."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def stage(self, name: str, total: int | None) -> None:
        """See `cell.Reporter`."""
        self._steps, self._note = 0, ""
        self.say({"kind": "stage", "name": name, "total": total})

    def advance(self, note: str = "") -> None:
        """See `cell.Reporter`."""
        self._steps, self._note = self._steps + 1, note
        if time.monotonic() - self._said_s >= OFTEN_S:
            self.say({"kind": "steps", "steps": self._steps, "note": self._note})
            self._steps, self._said_s = 0, time.monotonic()


def main() -> None:
    """Run the jobs of standard input, one after another, until it ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _load()
    _set_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    jobs: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    line = Line(out)
    while True:
        _run(Job.model_validate_json(jobs.get()), line)


def _run(job: Job, line: Line) -> None:
    try:
        line.say({"kind": "done", "row": run_cell(job, line)})
    except ComemoryError as error:
        line.say({"kind": "failed", "reason": str(error)})
    except Exception as error:
        traceback.print_exc()
        line.say({"kind": "fault", "reason": " ".join(f"{type(error).__name__}: {error}".split())})
        raise


def _listen(jobs: SimpleQueue[str]) -> None:
    for text in sys.stdin:
        jobs.put(text)
    os._exit(0)


def _load() -> None:
    """Import all that a cell needs, and note the commit: a process of many hours runs the code it was started with."""
    import comemory.evaluation.evaluate
    import comemory.training.recalibrate
    import comemory.training.train  # noqa: F401

    surroundings()


def _set_threads(n_threads: int) -> None:
    import cv2

    cv2.setNumThreads(n_threads)


if __name__ == "__main__":
    main()
