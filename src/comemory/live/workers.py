"""The threads that run the network: each takes the camera whose frame has waited longest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from comemory.live.camera import Camera

NAP_S = 0.5
PAUSE_S = 0.2
"""From the death of a worker to the next one in its place."""


class Workers:
    """As many threads as may run the network at once.

    Args:
        n: of them.
        cameras: that there are at the moment.
    """

    def __init__(self, n: int, cameras: Callable[[], Iterable[Camera]]) -> None:
        self.n, self._cameras = n, cameras
        self._ready = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        self._threads = [self._begun(f"worker-{number}") for number in range(self.n)]

    def wake(self) -> None:
        """A frame waits."""
        with self._ready:
            self._ready.notify()

    def stop(self) -> None:
        """Ask them to end; each does after the frames it is at."""
        self._stopping.set()
        with self._ready:
            self._ready.notify_all()

    def join(self, until: float) -> None:
        """Wait for their end, no longer than to a time of the monotonic clock."""
        for thread in self._threads:
            thread.join(max(0.01, until - time.monotonic()))

    def replace_dead(self) -> None:
        """Begin anew what died of a fault."""
        for place, thread in enumerate(self._threads):
            if not thread.is_alive() and not self._stopping.wait(PAUSE_S):
                self._threads[place] = self._begun(thread.name)

    def _begun(self, name: str) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        return thread

    def _next(self) -> Camera | None:
        """The camera whose oldest frame has waited longest, taken; None when none waits."""
        waiting = [(at, camera.name, camera) for camera in self._cameras() if (at := camera.waiting) is not None]
        if not waiting:
            return None
        camera = min(waiting, key=lambda one: one[:2])[2]
        camera.busy = True
        return camera

    def _work(self) -> None:
        while True:
            with self._ready:
                camera = self._next()
                while camera is None and not self._stopping.is_set():
                    self._ready.wait(NAP_S)
                    camera = self._next()
            if camera is None or self._stopping.is_set():
                return
            try:
                camera.watch.take(camera.slot.take(), lossless=camera.slot.lossless)
            finally:
                camera.busy = False
