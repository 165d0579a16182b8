"""Jobs over worker processes: which one is next, what each reports, and what happens when one dies.

The processes run on this machine, or where `StartProcess` puts them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from comemory.line_process import LineProcess, describe_exit
from comemory.research.reproduce.run import Job
from comemory.types import JSON


class Progress(Protocol):
    """Receives the progress of the runs."""

    def started(self, label: str) -> None:
        """A run begins."""

    def stage(self, label: str, name: str, total: int | None) -> None:
        """A stage of a run begins, of `total` steps if known."""

    def advanced(self, label: str, steps: int, note: str) -> None:
        """The stage of a run advanced by some steps."""

    def noticed(self, label: str, text: str) -> None:
        """Something happened in a run that is no failure, and that the user must know: one line."""

    def finished(self, label: str, row: JSON) -> None:
        """A run is done and its row is in the table."""

    def failed(self, label: str, reason: str) -> None:
        """A run failed."""


class WorkerProcess(Protocol):
    """A process with lines in and lines out, on this machine or another."""

    def send(self, line: str) -> None:
        """Write a line to its standard input. If it is gone already, the end of its output says so."""

    def wait(self) -> str:
        """Wait for a process that is ending, and return how it ended, such as `ended with code 1`."""

    def stop(self) -> None:
        """End the process."""


_OnLine = Callable[[str | None], None]
StartProcess = Callable[[Sequence[str], Mapping[str, str], Path, _OnLine], WorkerProcess]
"""Starts Python with some arguments, with variables set and standard error in a file. Each line that it prints is given to
the last argument; None at its end."""


def run_jobs(
    jobs: Sequence[Job],
    n_workers: int,
    threads: int,
    log: Path,
    progress: Progress,
    start_process: StartProcess | None = None,
) -> None:
    """Execute every job. One that fails is reported, and the others go on. Workers never outlive this call.

    Args:
        jobs: to execute.
        n_workers: processes at a time.
        threads: CPU threads of each worker.
        log: file for what workers print beside their protocol, such as tracebacks.
        progress: receives the progress of the jobs.
        start_process: starts a worker; on this machine unless given.

    Raises:
        SourceError: no worker can be started.
    """
    messages: SimpleQueue[tuple[_Worker, JSON | None]] = SimpleQueue()
    waiting = list(jobs)
    idle: list[_Worker] = []
    busy: dict[_Worker, Job] = {}
    try:
        while waiting or busy:
            while len(busy) < n_workers and (job := _next(waiting, busy)) is not None:
                worker = idle.pop() if idle else _Worker(messages, threads, log, start_process or _LocalProcess)
                busy[worker] = job
                progress.started(job.label)
                worker.start(job)
            worker, message = messages.get()
            job = busy.get(worker)
            if job is None:
                continue
            if message is None or message["kind"] == "crashed":
                del busy[worker]
                progress.failed(job.label, _exit_reason(worker.wait(), message, log))
            elif _forward(progress, job.label, message):
                del busy[worker]
                idle.append(worker)
    finally:
        for worker in (*idle, *busy):
            worker.stop()


def _next(waiting: list[Job], busy: dict[_Worker, Job]) -> Job | None:
    """Take the first job whose network is not being trained by another one; None when there is none.

    Two jobs of one network would train it twice, or one would wait for the other with a worker of its own.
    """
    training = {job.network_folder for job in busy.values()}
    for place, job in enumerate(waiting):
        if job.network_folder not in training:
            return waiting.pop(place)
    return None


def _exit_reason(how: str, message: JSON | None, log: Path) -> str:
    """Why a worker ended, in words."""
    if message is not None:
        return f"{message['reason']}; this is a bug in comemory; the traceback is in {log}"
    return f"its process {how}; its output is in {log}"


def _forward(progress: Progress, label: str, message: JSON) -> bool:
    """Forward a worker's message, and return whether its job is over and the worker idle."""
    match message["kind"]:
        case "stage":
            progress.stage(label, message["name"], message["total"])
        case "steps":
            progress.advanced(label, message["steps"], message["note"])
        case "notice":
            progress.noticed(label, message["text"])
        case "done":
            progress.finished(label, message["row"])
            return True
        case "failed":
            progress.failed(label, message["reason"])
            return True
    return False


class _Worker:
    """A process of `worker.main`, and its messages."""

    def __init__(
        self, messages: SimpleQueue[tuple[_Worker, JSON | None]], threads: int, log: Path, start_process: StartProcess
    ) -> None:
        self._messages = messages
        count = str(threads)
        environment = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        command = ("-P", "-m", "comemory.research.reproduce.worker")
        self._process = start_process(command, environment, log, self._receive)

    def start(self, job: Job) -> None:
        """Send a job."""
        self._process.send(job.model_dump_json())

    def wait(self) -> str:
        """See `WorkerProcess.wait`."""
        return self._process.wait()

    def stop(self) -> None:
        """End the process."""
        self._process.stop()

    def _receive(self, line: str | None) -> None:
        if line is None:
            self._messages.put((self, None))
            return
        try:
            message = json.loads(line)
        except ValueError:
            return
        if isinstance(message, dict) and "kind" in message:
            self._messages.put((self, message))


class _LocalProcess:
    """A `WorkerProcess` on this machine."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, on_line: _OnLine) -> None:
        self._process = LineProcess(command, environment, on_line, log=log, own_session=True)
        self.send, self.stop = self._process.send, self._process.stop

    def wait(self) -> str:
        """See `WorkerProcess.wait`."""
        return describe_exit(self._process.wait())
