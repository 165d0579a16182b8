"""A worker of the local pool: tasks arrive as lines of JSON on standard input, outcomes leave as lines on standard output.

The first line in is the archive's settings. The first line out says whether the model could be loaded.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from queue import SimpleQueue
from typing import TextIO

from comemory.cluster.archive_scorer import ArchiveScorer
from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask
from comemory.errors import ComemoryError, TemporaryError, mask_password


def main() -> None:
    """Do the tasks of standard input, one after the other, until it ends; then exit."""
    # Whatever prints to standard output goes to standard error, so that it cannot break the protocol.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The driver decides when to stop; Ctrl-C on a terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _one_thread()
    try:
        scorer = ArchiveScorer(ArchiveSettings(**json.loads(sys.stdin.readline())))
    except ComemoryError as error:
        is_temporary = isinstance(error, TemporaryError)
        _write(out, json.dumps({"broken": mask_password(str(error)), "is_temporary": is_temporary}))
        return
    _write(out, json.dumps({"ready": True}))
    tasks: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    while True:
        _write(out, scorer.run(ArchiveTask.from_json(tasks.get())).to_json())


def _listen(tasks: SimpleQueue[str]) -> None:
    """Pass the tasks on. When the driver is gone, for whatever reason, end at once: results are written whole or not at all."""
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


def settings_line(settings: ArchiveSettings) -> str:
    """The first line that a worker reads."""
    return json.dumps(asdict(settings))


def _write(out: TextIO, line: str) -> None:
    try:
        out.write(line + "\n")
        out.flush()
    except BrokenPipeError:  # the driver was killed
        os._exit(0)


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


if __name__ == "__main__":
    main()
