"""Workers that score the tasks of an archive: what a pool does, and the pool of processes on this machine."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask, TaskOutcome
from comemory.cluster.archive_worker import settings_line
from comemory.errors import SourceError, TemporaryError
from comemory.line_process import LineProcess, describe_exit

MAX_BROKEN_STARTS = 3
"""Workers in a row that end before they are ready: more would fail for the same reason."""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a pool says of a task.

    Attributes:
        task: that is over.
        outcome: of it; None where its worker died.
        reason: why that died, one line.
        timed_out: the file took too long, and its worker ended itself.
    """

    task: ArchiveTask
    outcome: TaskOutcome | None
    reason: str = ""
    timed_out: bool = False


class WorkerPool(Protocol):
    """Workers, each with at most one task at a time. One that dies is replaced."""

    def n_idle(self) -> int:
        """Workers that have no task."""
        ...

    def expect(self, n_tasks: int) -> None:
        """Set the number of tasks, where there are more than were known at the start."""
        ...

    def start(self, task: ArchiveTask) -> None:
        """Give a task to an idle worker."""
        ...

    def next_report(self, timeout_s: float) -> TaskReport | None:
        """Wait for a task to end; None when none did in that time.

        Raises:
            SourceError: no worker can be started.
        """
        ...

    def stop(self) -> None:
        """End the workers."""
        ...

    @property
    def description(self) -> str:
        """The workers in words."""
        ...


class LocalPool:
    """Processes on this machine. They end when the driver does, however that ends.

    Args:
        settings: of the archive.
        n_workers: processes.
    """

    def __init__(self, settings: ArchiveSettings, n_workers: int) -> None:
        self._settings, self._n_workers = settings, n_workers
        self._messages: SimpleQueue[tuple[_Worker, str | None]] = SimpleQueue()
        self._n_broken = 0
        self._workers: set[_Worker] = set()

    @property
    def description(self) -> str:
        """The workers in words."""
        return "1 process" if self._n_workers == 1 else f"{self._n_workers} processes"

    def n_idle(self) -> int:
        """Workers that have no task. A process starts with its first task, and loads the model then."""
        return self._n_workers - sum(worker.task is not None for worker in self._workers)

    def expect(self, n_tasks: int) -> None:
        """See `WorkerPool.expect`: nothing to do."""

    def start(self, task: ArchiveTask) -> None:
        """Give a task to an idle worker."""
        idle = [worker for worker in self._workers if worker.task is None]
        if not idle:
            self._workers.add(_Worker(self._settings, self._messages))
            idle = [worker for worker in self._workers if worker.task is None]
        idle[0].start(task)

    def next_report(self, timeout_s: float) -> TaskReport | None:
        """See `WorkerPool.next_report`."""
        try:
            worker, line = self._messages.get(timeout=timeout_s)
        except Empty:
            return None
        if worker not in self._workers:
            return None
        if line is None:
            return self._replace(worker)
        message = json.loads(line)
        if "broken" in message:
            kind = TemporaryError if message["is_temporary"] else SourceError
            raise kind(f"no worker can start: {message['broken']}")
        if "ready" in message:
            worker.is_ready, self._n_broken = True, 0
            return None
        task, worker.task = worker.task, None
        assert task is not None
        return TaskReport(task, TaskOutcome.from_json(line))

    def _replace(self, worker: _Worker) -> TaskReport | None:
        self._workers.remove(worker)
        code, reason = worker.wait()
        self._n_broken += not worker.is_ready
        if self._n_broken >= MAX_BROKEN_STARTS:
            raise SourceError(f"no worker can start: {reason}")
        return None if worker.task is None else TaskReport(worker.task, None, reason, timed_out=code == -signal.SIGALRM)

    def stop(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


class _Worker:
    """A process of `archive_worker.main`, and its messages."""

    def __init__(self, settings: ArchiveSettings, messages: SimpleQueue[tuple[_Worker, str | None]]) -> None:
        self.task: ArchiveTask | None = None
        self.is_ready = False
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = ("-P", "-m", "comemory.cluster.archive_worker")
        self._process = LineProcess(command, environment, lambda line: messages.put((self, line)))
        self._process.send(settings_line(settings))

    def start(self, task: ArchiveTask) -> None:
        """Send a task."""
        self.task = task
        self._process.send(task.to_json())

    def wait(self) -> tuple[int, str]:
        """Wait for a process that is ending; returns its exit code, and why it ended in words."""
        code = self._process.wait()
        return code, f"its worker {describe_exit(code)}"

    def stop(self) -> None:
        """End the process."""
        self._process.stop()
