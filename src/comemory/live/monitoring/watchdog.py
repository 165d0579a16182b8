"""The thread that looks after everything else, and goes on after a fault of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

LOOK_S = 0.2
PAUSE_S = 1.0
"""From the death of the watchdog to the next one in its place."""
Duty = Callable[[], object]


class Watchdog:
    """Does its rounds until it is told to stop.

    Args:
        duties: of the next round.
        died: called when a fault in one duty has ended the thread; the next one goes on with the duty after it.
        stopping: set when all is to end; the owner's to set.
    """

    def __init__(
        self, duties: Callable[[], Iterable[Duty]], died: Callable[[], None], stopping: threading.Event
    ) -> None:
        self._duties, self._died, self._stopping = duties, died, stopping
        self._left: deque[Duty] = deque()
        self._thread = self._new()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _new(self) -> threading.Thread:
        return threading.Thread(target=self._look_after, name="watchdog", daemon=True)

    def _look_after(self) -> None:
        try:
            while not self._stopping.wait(LOOK_S):
                while self._left:
                    self._left.popleft()()
                self._left.extend(self._duties())
        finally:
            if not self._stopping.wait(PAUSE_S):
                self._died()
                thread = self._new()
                thread.start()
                self._thread = thread
