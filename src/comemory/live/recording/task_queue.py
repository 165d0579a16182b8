"""Work that is done in another thread, in order."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

Task = Callable[[], None]


class TaskQueue:
    """A bounded queue of tasks and the thread that runs them.

    Attributes:
        stopping: set when the queue is to finish; a task that waits for something should end then.

    Args:
        name: of the thread.
        capacity: tasks that may wait; more are refused.
    """

    def __init__(self, name: str, capacity: int = 10_000) -> None:
        self.name = name
        self._queue: queue.Queue[Task | None] = queue.Queue(capacity)
        self.stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, task: Task, *, is_optional: bool = False) -> bool:
        """Add a task; False if the queue is full, for an optional task half full."""
        if is_optional and self._queue.qsize() >= self._queue.maxsize // 2:
            return False
        try:
            self._queue.put_nowait(task)
        except queue.Full:
            return False
        return True

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def restart(self) -> None:
        """Go on with the next task if an error in one has ended the thread."""
        if self._thread is not None and not self._thread.is_alive() and not self.stopping.is_set():
            self.start()

    @property
    def n_waiting(self) -> int:
        """Tasks that wait."""
        return self._queue.qsize()

    def finish(self, timeout_s: float) -> bool:
        """Run the waiting tasks and end the thread; False if that takes longer than `timeout_s`."""
        end = time.monotonic() + timeout_s
        self.restart()
        self.stopping.set()
        with suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        if self._thread is None:
            return True
        self._thread.join(max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
