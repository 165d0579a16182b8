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
from comemory.errors import BundleError
from comemory.runtimes import CPU, RUNTIMES, find_device
from comemory.types import Runtime


class SharedNetwork:
    """A runtime that any number of detectors share: one single-threaded copy for each worker that is running it.

    Like every runtime it has no state between calls, so cameras may use the copies in any order.

    Attributes:
        name: of the runtime.
        precision: of its arithmetic.

    Args:
        bundle: with the network, in the precision that is to be used.
        runtime: entry of `runtimes.RUNTIMES`.
        workers: largest number of copies.

    Raises:
        BundleError: the network cannot be read.
    """

    def __init__(self, bundle: Bundle, runtime: str, workers: int) -> None:
        self.bundle, self.workers = bundle, workers
        self.precision = bundle.precision
        self._make = RUNTIMES.load(runtime)
        self._lock = threading.Lock()
        self._free: queue.LifoQueue[Runtime] = queue.LifoQueue()
        self._n_made = 0
        first = self._copy()
        if first is None:
            raise BundleError(f"{bundle.path} was replaced while it was opened: open it again")
        self.name = first.name
        self._free.put(first)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run the network, see `types.Runtime`; waits while every copy is in use."""
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
        """Another copy; None where there are enough, or another bundle has taken the place of this one.

        The network of another bundle does not fit the calibration of this one: the present copies go on.
        """
        with self._lock:
            if self._n_made >= self.workers:
                return None
            self._n_made += 1
        try:
            made: Runtime = self._make(self.bundle.network._replace(with_updates=False), 1)
        except BundleError:
            if self.bundle.is_current():
                raise
            return None
        return made if self.bundle.is_current() else None


class NetworkPool:
    """Opens detectors; each bundle is compiled once, and its network freed when the last of its detectors is gone.

    Args:
        runtime: entry of `runtimes.RUNTIMES`.
        precision: see `bundle.Bundle.in_precision`. With the precision of `comemory score` the scores are the same.
        workers: that run a network at the same time.
        device: see `runtimes.find_device`.

    Raises:
        ConfigError: the runtime does not find the device.
    """

    def __init__(self, runtime: str, precision: str, workers: int, device: str = CPU) -> None:
        self.runtime, self.precision, self.workers = runtime, precision, workers
        self.device = find_device(runtime, device)
        self._shared: WeakValueDictionary[str, SharedNetwork] = WeakValueDictionary()
        self._opening = threading.Lock()

    def open_detector(self, path: Path) -> Detector:
        """Open a detector of the bundle at `path`.

        Raises:
            BundleError: the bundle cannot be used.
            ConfigError: the bundle lacks the precision.
        """
        bundle = open_bundle(path).for_runtime(self.runtime, self.precision, self.device)
        with self._opening:
            network = self._shared.get(bundle.digest)
            if network is None:
                network = self._shared[bundle.digest] = SharedNetwork(bundle, self.runtime, self.workers)
        return Detector(bundle, runtime=network)
