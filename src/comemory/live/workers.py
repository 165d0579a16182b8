"""The threads that score frames: each takes the camera whose frame has waited longest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from comemory.live.camera import RunningCamera

POLL_S = 0.5
"""How often an idle worker looks for frames even if nothing woke it."""
RESTART_S = 0.2
"""Pause before a worker that died of an error is replaced."""


class Workers:
    """A pool of scoring threads.

    Args:
        n: number of threads.
        cameras: gives the cameras of the moment.

    Attributes:
        last_progress: when a worker last had a frame scored or found none waiting, on the monotonic clock.
    """

    def __init__(self, n: int, cameras: Callable[[], Iterable[RunningCamera]]) -> None:
        self.n, self._cameras = n, cameras
        self._ready = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.last_progress = time.monotonic()

    def start(self) -> None:
        """Start the threads."""
        self.last_progress = time.monotonic()
        self._threads = [self._start_thread(f"worker-{number}") for number in range(self.n)]

    def wake(self) -> None:
        """Wake an idle worker: a frame is waiting."""
        with self._ready:
            self._ready.notify()

    def stop(self) -> None:
        """Ask the threads to end; each does so after the frames that it is scoring."""
        self._stopping.set()
        with self._ready:
            self._ready.notify_all()

    def join(self, until: float) -> None:
        """Wait for the end of the threads, at most until a time of the monotonic clock."""
        for thread in self._threads:
            thread.join(max(0.01, until - time.monotonic()))

    def replace_dead(self) -> None:
        """Replace threads that died of an error."""
        for place, thread in enumerate(self._threads):
            if not thread.is_alive() and not self._stopping.wait(RESTART_S):
                self._threads[place] = self._start_thread(thread.name)

    def _start_thread(self, name: str) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        return thread

    def _claim_camera(self) -> RunningCamera | None:
        """The camera whose oldest frame has waited longest, marked as busy; None if no frame waits."""
        waiting = [(at, camera.name, camera) for camera in self._cameras() if (at := camera.waiting_since) is not None]
        if not waiting:
            return None
        camera = min(waiting, key=lambda one: one[:2])[2]
        camera.busy = True
        return camera

    def _work(self) -> None:
        while True:
            with self._ready:
                self.last_progress = time.monotonic()
                camera = self._claim_camera()
                while camera is None and not self._stopping.is_set():
                    self._ready.wait(POLL_S)
                    self.last_progress = time.monotonic()
                    camera = self._claim_camera()
            if camera is None or self._stopping.is_set():
                return
            try:
                camera.score_waiting()
            finally:
                camera.busy = False
