"""Writes that must be on the disk before anybody sees what they are of; a disk that hangs holds nobody for long."""

from __future__ import annotations

import threading
from collections.abc import Callable

from comemory.live.recording.task_queue import Task, TaskQueue

WAIT_S = 1.0
"""How long a caller waits for the disk. A flush takes milliseconds, on a worn card tenths of a second."""
MAX_WRITES = 5_000
"""Writes that may wait for a disk that hangs: the events of hours, some 20 KB each."""


class DiskWriter:
    """Runs writes one after the other in a thread of its own, and lets each caller wait for its own.

    The first write that takes longer than `WAIT_S` means that the disk hangs. From then on nobody waits, until all
    writes are done. Before `start` and after `stop` a write runs in the caller's thread.

    Args:
        name: of the thread.
        on_hang: called with True when the disk begins to hang, and with False when all is written again.
    """

    def __init__(self, name: str, on_hang: Callable[[bool], None]) -> None:
        self._tasks = TaskQueue(name, MAX_WRITES)
        self._on_hang = on_hang
        self._lock = threading.Lock()
        self._is_running = self._is_hanging = False

    def start(self) -> None:
        """Start the thread."""
        with self._lock:
            self._is_running = True
            self._tasks.start()

    def restart(self) -> None:
        """See `TaskQueue.restart`."""
        self._tasks.restart()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits and end the thread; False if that takes longer than `timeout_s`."""
        with self._lock:
            self._is_running = False
        return self._tasks.finish(timeout_s)

    def run(self, write: Task) -> bool:
        """Write, and wait until that is done or the disk hangs; False if too many writes wait for it."""
        done = threading.Event()
        with self._lock:
            is_running, must_wait = self._is_running, not self._is_hanging
            if is_running and not self._tasks.submit(lambda: self._run(write, done)):
                return False
        if not is_running:
            write()
        elif must_wait and not done.wait(WAIT_S):
            with self._lock:
                if not (done.is_set() or self._is_hanging):
                    self._is_hanging = True
                    self._on_hang(True)
        return True

    def _run(self, write: Task, done: threading.Event) -> None:
        try:
            write()
        finally:
            done.set()
            with self._lock:
                if self._is_hanging and self._tasks.n_waiting == 0:
                    self._is_hanging = False
                    self._on_hang(False)
