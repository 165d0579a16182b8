"""The workers of an archive as actors on Ray: one for each core of the cluster, which loads the model once."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from comemory.cluster.archive_pool import MAX_BROKEN_STARTS, TaskReport
from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask, TaskOutcome
from comemory.errors import (
    ComemoryError,
    ConfigError,
    RuntimeMissing,
    SourceError,
    TemporaryError,
    install_hint,
    last_line,
    mask_password,
)

GROW_S = 10.0
"""Seconds between two looks at how many cores the cluster has now."""

ATTEMPTS = 3
"""How often a client asks the head of a cluster to serve it."""

ANSWER_S = 10.0
"""Seconds in which the head of a cluster must answer."""


class RayPool:
    """Actors on Ray. One whose process or node is lost is replaced; nodes that join get actors.

    Paths and short outcomes travel, never frames nor results.

    Args:
        settings: of the archive. Its paths mean the same on every node.
        address: `auto`, of a cluster that this machine belongs to, or `ray://HOST:PORT`.
        n_tasks: no more actors than this.

    Raises:
        RuntimeMissing: Ray is not installed.
        TemporaryError: no cluster answers at the address.
    """

    def __init__(self, settings: ArchiveSettings, address: str, n_tasks: int) -> None:
        self._ray = connect(address)
        self._settings, self._n_tasks = settings, n_tasks
        self._actor = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_ScoringActor)
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._busy: dict[Any, tuple[Any, ArchiveTask, float]] = {}
        self._n_broken = 0
        self._grown_s = float("-inf")
        self._grow()

    @property
    def description(self) -> str:
        """The workers in words."""
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        return f"Ray: {self._n_actors()} actors, {nodes} {'node' if nodes == 1 else 'nodes'}"

    def _n_actors(self) -> int:
        return len(self._idle) + len(self._starting) + len(self._busy)

    def _grow(self) -> None:
        """Start an actor for each core that has none."""
        if time.monotonic() - self._grown_s < GROW_S:
            return
        self._grown_s = time.monotonic()
        n_cores = int(self._ray.cluster_resources().get("CPU", 0))
        for _ in range(max(0, min(n_cores, self._n_tasks) - self._n_actors())):
            actor = self._actor.remote(self._settings)
            self._starting[actor.ready.remote()] = actor

    def n_idle(self) -> int:
        """Actors that have loaded the model and have no task."""
        return len(self._idle)

    def expect(self, n_tasks: int) -> None:
        """Set the number of tasks, so that more actors may start."""
        self._n_tasks = max(self._n_tasks, n_tasks)

    def start(self, task: ArchiveTask) -> None:
        """Give a task to an idle actor."""
        actor = self._idle.pop()
        self._busy[actor.run.remote(task.to_json())] = actor, task, time.monotonic()

    def next_report(self, timeout_s: float) -> TaskReport | None:
        """See `archive_pool.WorkerPool.next_report`."""
        self._grow()
        refs = [*self._busy, *self._starting]
        if not refs:
            time.sleep(timeout_s)
            return None
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=timeout_s)
        if not ready:
            return None
        ref = ready[0]
        if ref in self._starting:
            self._handle_start(ref, self._starting.pop(ref))
            return None
        actor, task, began_s = self._busy.pop(ref)
        try:
            outcome = TaskOutcome.from_json(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            self._grown_s = float("-inf")
            took_s = time.monotonic() - began_s
            return TaskReport(task, None, _reason(error), timed_out=took_s >= self._settings.time_limit_s)
        self._idle.append(actor)
        return TaskReport(task, outcome)

    def _handle_start(self, ref: Any, actor: Any) -> None:
        """Take in an actor that has started.

        Raises:
            TemporaryError: it cannot start now, because a store does not answer.
            SourceError: it cannot start, or several have ended at their start.
        """
        try:
            failure: _Failure | None = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._n_broken += 1
            if self._n_broken >= MAX_BROKEN_STARTS:
                raise SourceError(f"no worker can start on Ray: {_reason(error)}") from None
            self._grown_s = float("-inf")
            return
        if failure is not None:
            self._ray.kill(actor)
            kind = TemporaryError if failure.is_temporary else SourceError
            raise kind(f"no worker can start: {failure.text}")
        self._n_broken = 0
        self._idle.append(actor)

    def stop(self) -> None:
        """End the actors, and leave the cluster."""
        for actor in [*self._idle, *self._starting.values(), *(actor for actor, _, _ in self._busy.values())]:
            self._ray.kill(actor)
        self._ray.shutdown()


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an actor cannot start.

    Attributes:
        text: one line.
        is_temporary: a later run may succeed.
    """

    text: str
    is_temporary: bool


class _ScoringActor:
    """An `ArchiveScorer` in a process of Ray.

    Args:
        settings: of the archive.
    """

    def __init__(self, settings: ArchiveSettings) -> None:
        import signal

        import cv2

        from comemory.cluster.archive_scorer import ArchiveScorer

        cv2.setNumThreads(1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._failure: _Failure | None = None
        try:
            self._scorer = ArchiveScorer(settings)
        except ComemoryError as error:  # an exception here would reach the driver as text, without its kind
            self._failure = _Failure(mask_password(last_line(error)), isinstance(error, TemporaryError))

    def ready(self) -> _Failure | None:
        """Why the model cannot be loaded; None where it is."""
        return self._failure

    def run(self, task: str) -> str:
        """Do a task. See `ArchiveScorer.run`."""
        return self._scorer.run(ArchiveTask.from_json(task)).to_json()


def connect(address: str) -> Any:
    """Connect to Ray, and return its package. Nothing is reported to its makers.

    Raises:
        RuntimeMissing: Ray is not installed.
        TemporaryError: no cluster answers at the address.
        ConfigError: the cluster has another version of Ray or Python.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
    try:
        import ray
    except ImportError:
        raise RuntimeMissing(f"--cluster {address} needs ray: {install_hint('cluster')}") from None
    _require_answer(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
    n_left = ATTEMPTS
    while True:
        n_left -= 1
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR", namespace="comemory")
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            # The head of a busy cluster may be too slow to start the server for this client.
            if n_left and "Starting Ray client server failed" in str(error):
                continue
            if "ersion mismatch" in str(error):
                raise ConfigError(_mismatch_text(address, str(error))) from None
            raise TemporaryError(
                f"no Ray cluster at {address} ({last_line(error)}): start one with ray start --head, or use local:N"
            ) from None
        return ray


def _mismatch_text(address: str, text: str) -> str:
    """One line of Ray's several about a cluster of another version.

    >>> _mismatch_text("auto", "Version mismatch: The cluster has Ray: 2.60.0")
    'the Ray cluster at auto has other versions (The cluster has Ray: 2.60.0): install the same on both'
    """
    return (
        f"the Ray cluster at {address} has other versions ({' '.join(text.partition(': ')[2].split())}): "
        "install the same on both"
    )


def _require_answer(address: str) -> None:
    """Refuse an address where nobody answers: Ray itself would try for minutes.

    Raises:
        TemporaryError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise TemporaryError(
            f"no Ray cluster at {address} ({error.strerror or error}): start one with ray start --head, or use local:N"
        ) from None


def _reason(error: Exception) -> str:
    """Why an actor died, in one line."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    first = lines[-1] if cause is not None else lines[0]
    return f"its worker ended: {first}"[:300]
