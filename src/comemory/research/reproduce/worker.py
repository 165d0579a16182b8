"""A worker process: jobs arrive as lines of JSON on standard input, progress leaves as lines of JSON.

When the parent process is gone, for whatever reason, the worker exits at once: everything finished is on the disk.
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
from comemory.research.reproduce.environment import process_environment
from comemory.research.reproduce.run import Job, execute
from comemory.types import JSON

REPORT_INTERVAL_S = 0.2
"""Seconds between two lines of progress: often enough for a progress bar."""


class LineReporter:
    """A `timing.RunReporter` that writes lines of JSON, at most a few each second."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._steps, self._note, self._written_s = 0, "", 0.0

    def write(self, message: JSON) -> None:
        """Write a line."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def stage(self, name: str, total: int | None) -> None:
        """See `timing.RunReporter`."""
        self._steps, self._note = 0, ""
        self.write({"kind": "stage", "name": name, "total": total})

    def advance(self, note: str = "") -> None:
        """See `timing.RunReporter`."""
        self._steps, self._note = self._steps + 1, note
        if time.monotonic() - self._written_s >= REPORT_INTERVAL_S:
            self.write({"kind": "steps", "steps": self._steps, "note": self._note})
            self._steps, self._written_s = 0, time.monotonic()

    def notice(self, text: str) -> None:
        """See `timing.RunReporter`."""
        self.write({"kind": "notice", "text": text})


def main() -> None:
    """Execute the jobs of standard input, one after another, until it ends."""
    # Whatever prints to standard output goes to standard error, so that it cannot break the protocol.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _load()
    _set_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    jobs: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    line = LineReporter(out)
    while True:
        _run(Job.model_validate_json(jobs.get()), line)


def _run(job: Job, line: LineReporter) -> None:
    try:
        line.write({"kind": "done", "row": execute(job, line)})
    except ComemoryError as error:
        line.write({"kind": "failed", "reason": str(error)})
    except Exception as error:
        traceback.print_exc()
        line.write({"kind": "crashed", "reason": " ".join(f"{type(error).__name__}: {error}".split())})
        raise


def _listen(jobs: SimpleQueue[str]) -> None:
    for text in sys.stdin:
        jobs.put(text)
    os._exit(0)


def _load() -> None:
    """Import everything that a run needs, and record the commit, before the files can change under the process."""
    import comemory.evaluation.evaluate
    import comemory.training.recalibrate
    import comemory.training.train  # noqa: F401

    process_environment()


def _set_threads(n_threads: int) -> None:
    import cv2

    cv2.setNumThreads(n_threads)


if __name__ == "__main__":
    main()
