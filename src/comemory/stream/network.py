"""One compiled network for all cameras of a bundle, run by as many workers as there are cores."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle
from comemory.runtimes import RUNTIMES
from comemory.types import Runtime


class SharedNetwork:
    """A runtime for any number of detectors: one single-thread copy for each worker that runs at once, never more.

    Holds no state between calls, as every runtime.

    Args:
        bundle: whose network it is.
        runtime: entry of `runtimes.RUNTIMES`.
        workers: copies at most.
    """

    def __init__(self, bundle: Bundle, runtime: str, workers: int) -> None:
        self.bundle, self.workers = bundle, workers
        self._make = RUNTIMES.load(runtime)
        self._lock = threading.Lock()
        self._free: queue.LifoQueue[Runtime] = queue.LifoQueue()
        self._n_made = 0
        first = self._copy()
        self.name = first.name if first is not None else runtime
        if first is not None:
            self._free.put(first)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """See `types.Runtime`; waits while every copy is at work."""
        copy = self._acquire()
        try:
            return copy.run(inputs)
        finally:
            self._free.put(copy)

    def _acquire(self) -> Runtime:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return self._copy() or self._free.get()

    def _copy(self) -> Runtime | None:
        with self._lock:
            if self._n_made >= self.workers:
                return None
            self._n_made += 1
        made: Runtime = self._make(self.bundle.network, 1)
        return made
