"""The thread that looks after everything else, and survives its own errors."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

INTERVAL_S = 0.2
RESTART_S = 1.0
"""Pause before a thread that died of an error is replaced, so that a permanent error does not use up a core."""
Task = Callable[[], object]


class Watchdog:
    """Runs its tasks in rounds until it is stopped.

    Args:
        tasks: gives the tasks of the next round.
        on_death: called when an error in a task has ended the thread; a new thread goes on with the task after it.
        stopping: set by the owner to end it.

    Attributes:
        last_round: when the newest round began, on the monotonic clock.
    """

    def __init__(
        self, tasks: Callable[[], Iterable[Task]], on_death: Callable[[], None], stopping: threading.Event
    ) -> None:
        self._tasks, self._on_death, self._stopping = tasks, on_death, stopping
        self._pending: deque[Task] = deque()
        self.last_round = time.monotonic()
        self._thread = self._new_thread()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(timeout_s)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="watchdog", daemon=True)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(INTERVAL_S):
                self.last_round = time.monotonic()
                while self._pending:
                    self._pending.popleft()()
                self._pending.extend(self._tasks())
        finally:
            if not self._stopping.wait(RESTART_S):
                self._on_death()
                thread = self._new_thread()
                thread.start()
                self._thread = thread
