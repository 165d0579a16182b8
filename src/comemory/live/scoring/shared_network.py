"""One compiled network for all cameras of a bundle, run by as many workers as there are cores."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle, open_bundle
from comemory.detector import Detector
from comemory.runtimes import RUNTIMES
from comemory.types import Runtime


class SharedNetwork:
    """A runtime for any number of detectors: one single-thread copy for each worker that runs at once, never more.

    Holds no state between calls, as every runtime.

    Attributes:
        precision: what it computes in.

    Args:
        bundle: whose network it is, in the precision it has.
        runtime: entry of `runtimes.RUNTIMES`.
        workers: copies at most.
    """

    def __init__(self, bundle: Bundle, runtime: str, workers: int) -> None:
        self.bundle, self.workers = bundle, workers
        self.precision = bundle.precision
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
        made: Runtime = self._make(self.bundle.network._replace(with_updates=False), 1)
        return made


class NetworkPool:
    """Detectors of bundles, each bundle compiled once; one that no camera needs any more is given back.

    Args:
        runtime: entry of `runtimes.RUNTIMES`.
        precision: see `bundle.Bundle.in_precision`; what `comemory score` takes, so that the scores are the same.
        workers: that run a network at once.
    """

    def __init__(self, runtime: str, precision: str, workers: int) -> None:
        self.runtime, self.precision, self.workers = runtime, precision, workers
        self._shared: WeakValueDictionary[str, SharedNetwork] = WeakValueDictionary()
        self._opening = threading.Lock()

    def open_detector(self, path: Path) -> Detector:
        """A detector of the bundle at `path`.

        Raises:
            BundleError: it cannot be used.
            ConfigError: it does not hold the precision.
        """
        bundle = open_bundle(path).in_precision(self.runtime, self.precision)
        with self._opening:
            network = self._shared.get(bundle.digest)
            if network is None:
                network = self._shared[bundle.digest] = SharedNetwork(bundle, self.runtime, self.workers)
        return Detector(bundle, runtime=network)
