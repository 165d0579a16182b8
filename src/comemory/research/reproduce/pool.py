"""Cells over worker processes: which runs next, what each says, and what becomes of one that dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from comemory.errors import SourceError
from comemory.research.reproduce.run import Job
from comemory.types import JSON

PATIENCE_S = 5.0
"""Seconds that a worker is given to end when it is told to."""


class Watcher(Protocol):
    """Who is told how the cells go."""

    def started(self, label: str) -> None:
        """A cell begins."""

    def stage(self, label: str, name: str, total: int | None) -> None:
        """A stage of a cell begins; `total` steps if known."""

    def advanced(self, label: str, steps: int, note: str) -> None:
        """A cell's stage is some steps further."""

    def finished(self, label: str, row: JSON) -> None:
        """A cell is done; its row is in the table."""

    def failed(self, label: str, reason: str) -> None:
        """A cell could not be done."""


def run_cells(jobs: Sequence[Job], n_workers: int, threads: int, log: Path, watcher: Watcher) -> None:
    """Run every job; a failing one is told and the rest is done. Workers never outlive this call.

    Args:
        threads: CPU threads of each worker.
        log: file that takes what workers say beside their protocol, such as tracebacks.

    Raises:
        SourceError: no worker can be started.
    """
    said: SimpleQueue[tuple[_Worker, JSON | None]] = SimpleQueue()
    waiting = list(jobs)
    idle: list[_Worker] = []
    busy: dict[_Worker, Job] = {}
    try:
        while waiting or busy:
            while len(busy) < n_workers and (job := _next(waiting, busy)) is not None:
                worker = idle.pop() if idle else _Worker(said, threads, log)
                busy[worker] = job
                watcher.started(job.label)
                worker.begin(job)
            worker, message = said.get()
            job = busy.get(worker)
            if job is None:
                continue
            if message is None or message["kind"] == "fault":
                del busy[worker]
                watcher.failed(job.label, _fate(worker.end(), message, log))
            elif _tell(watcher, job.label, message):
                del busy[worker]
                idle.append(worker)
    finally:
        for worker in (*idle, *busy):
            worker.stop()


def _next(waiting: list[Job], busy: dict[_Worker, Job]) -> Job | None:
    """The first job whose network no other one is making; of those left, the first when nothing runs."""
    making = {job.network_folder for job in busy.values()}
    for place, job in enumerate(waiting):
        if job.network_folder not in making:
            return waiting.pop(place)
    return None


def _fate(code: int, message: JSON | None, log: Path) -> str:
    """What became of a worker that ended."""
    if message is not None:
        return f"{message['reason']}; this is a fault of comemory: where it is, is in {log}"
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"its process {how}; what it said is in {log}"


def _tell(watcher: Watcher, label: str, message: JSON) -> bool:
    """Pass a worker's message on; whether the job is over and the worker free."""
    match message["kind"]:
        case "stage":
            watcher.stage(label, message["name"], message["total"])
        case "steps":
            watcher.advanced(label, message["steps"], message["note"])
        case "done":
            watcher.finished(label, message["row"])
            return True
        case "failed":
            watcher.failed(label, message["reason"])
            return True
    return False


class _Worker:
    """A process of `worker.main`, and the thread that hears it."""

    def __init__(self, said: SimpleQueue[tuple[_Worker, JSON | None]], threads: int, log: Path) -> None:
        self._said = said
        count = str(threads)
        environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "comemory.research.reproduce.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=environment,
                    start_new_session=True,
                    text=True,
                    encoding="utf-8",
                )
        except OSError as error:
            raise SourceError(f"cannot start a worker: {error}") from None
        self._hearer = threading.Thread(target=self._hear, daemon=True)
        self._hearer.start()

    def begin(self, job: Job) -> None:
        """Send a job; a worker that is gone already is heard of by its silence."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(job.model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def end(self) -> int:
        """Wait for a process that is ending, and give its exit code."""
        code = self._process.wait()
        self._close()
        return code

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        self._hearer.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict) and "kind" in message:
                self._said.put((self, message))
        self._said.put((self, None))
