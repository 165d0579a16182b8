"""Worker processes of `comemory reproduce` on the machines of a Ray cluster.

An actor holds one worker process and passes its lines on. Network, bundle and row are written by the worker, as on one
machine, into folders that every node can reach.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from comemory.cluster.archive_ray import connect
from comemory.errors import last_line
from comemory.line_process import LineProcess, describe_exit

WAIT_S = 2.0
"""How long an actor waits for a line before it answers that there is none; the driver then asks again."""

STOP_TIMEOUT_S = 10.0
"""How long the end of an actor is waited for before the cluster is left."""

CONCURRENCY = 4
"""Calls that an actor takes at a time: a line can be sent while the driver waits for one."""


class RayProcess:
    """A process on a node of the cluster, with lines in and lines out: a `research.reproduce.pool.WorkerProcess`.

    Args:
        ray: the package, connected.
        n_cpus: cores of the process.
        command: words after the name of the Python interpreter, which is that of the node.
        environment: variables to set.
        log: file for its standard error; each node has its own unless the folder is shared.
        on_line: called with each line, in a thread; with None once the process has ended or its node is lost.
    """

    def __init__(
        self,
        ray: Any,
        n_cpus: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str | None], None],
    ) -> None:
        self._ray, self._on_line, self._lost = ray, on_line, ""
        actor = ray.remote(num_cpus=n_cpus, max_restarts=0, max_concurrency=CONCURRENCY)(_ProcessActor)
        self._actor = actor.remote(list(command), dict(environment), str(log.absolute()), str(Path.cwd()))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, line: str) -> None:
        """Write a line to its standard input. If it is gone already, the end of its output says so."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.send.remote(line))

    def wait(self) -> str:
        """Wait for a process that is ending, and return how it ended."""
        self._reader.join()
        if self._lost:
            return f"was lost: {self._lost}"
        try:
            code = int(self._ray.get(self._actor.wait.remote()))
        except self._ray.exceptions.RayError as error:
            return f"was lost: {last_line(error)}"
        return describe_exit(code)

    def stop(self) -> None:
        """End the process."""
        self._ray.kill(self._actor)
        self._reader.join(STOP_TIMEOUT_S)

    def _read(self) -> None:
        try:
            while (lines := self._ray.get(self._actor.lines.remote())) is not None:
                for line in lines:
                    self._on_line(line)
        except self._ray.exceptions.RayError as error:
            self._lost = last_line(error)
        self._on_line(None)


class _ProcessActor:
    """A child process of a Ray worker."""

    def __init__(self, command: list[str], environment: dict[str, str], log: str, folder: str) -> None:
        os.chdir(folder)
        self._lines: list[str] = []
        self._is_over = False
        self._has_news = threading.Condition()
        # The child ends when its standard input does, so it never outlives this actor.
        self._process = LineProcess(command, environment, self._add, log=Path(log))

    def send(self, line: str) -> None:
        """Write a line to the process."""
        self._process.send(line)

    def lines(self) -> list[str] | None:
        """The lines since the last call, none after a while without any; None once the process has ended."""
        with self._has_news:
            if not self._lines and not self._is_over:
                self._has_news.wait(WAIT_S)
            taken, self._lines = self._lines, []
            return None if not taken and self._is_over else taken

    def wait(self) -> int:
        """The exit code."""
        return self._process.wait()

    def _add(self, line: str | None) -> None:
        with self._has_news:
            if line is None:
                self._is_over = True
            else:
                self._lines.append(line)
            self._has_news.notify()


@contextmanager
def ray_processes(address: str, n_cpus: int) -> Iterator[tuple[Callable[..., RayProcess], int]]:
    """What starts a process on the cluster, and how many of them it has room for.

    Args:
        address: `auto` or `ray://HOST:PORT`.
        n_cpus: cores of each process.

    Raises:
        RuntimeMissing: Ray is not installed. TemporaryError: no cluster answers at the address.
    """
    ray = connect(address)
    try:
        n_places = max(1, int(ray.cluster_resources().get("CPU", 1)) // n_cpus)
        yield lambda *given: RayProcess(ray, n_cpus, *given), n_places
    finally:
        ray.shutdown()
