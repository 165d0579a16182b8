"""Timings: alternating rounds, medians with their spread, and the environment that they were taken in."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2

from comemory.errors import ConfigError, mask_password
from comemory.provenance import cpu_name, current_commit, package_version
from comemory.types import JSON

PACKAGES = ("comemory", "numpy", "opencv-python-headless", "av", "openvino", "onnxruntime", "torch")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a call took, round by round.

    Attributes:
        samples_s: wall-clock seconds of each round, in order.

    >>> Timing((0.003, 0.001, 0.002)).median_ms
    2.0
    """

    samples_s: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """Median of the rounds, milliseconds."""
        return 1000 * statistics.median(self.samples_s)

    def summary(self) -> JSON:
        """Median, fastest and slowest round in milliseconds, and the number of rounds."""
        return {
            "median_ms": round(self.median_ms, 4),
            "lowest_ms": round(1000 * min(self.samples_s), 4),
            "highest_ms": round(1000 * max(self.samples_s), 4),
            "rounds": len(self.samples_s),
        }


def interleave(callables: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time several functions in alternation, so that a machine that slows down slows all of them.

    Every function runs once before the clock starts. Every second round has the reverse order.

    Args:
        callables: by name.
        rounds: calls of each.

    Raises:
        ConfigError: fewer than one round.

    >>> sorted(interleave({"nothing": lambda: None, "little": lambda: sum(range(9))}, rounds=3))
    ['little', 'nothing']
    """
    if rounds < 1:
        raise ConfigError(f"cannot measure in {rounds} rounds: expected 1 or more")
    for call in callables.values():
        call()
    samples: dict[str, list[float]] = {name: [] for name in callables}
    names = list(callables)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            start = time.perf_counter()
            callables[name]()
            samples[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(taken)) for name, taken in samples.items()}


def measurement_environment() -> JSON:
    """Date, code and machine of a measurement; what cannot be found out is None."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(map(mask_password, sys.argv)),
        "commit": current_commit(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: package_version(package) for package in PACKAGES},
    }


def usable_cores() -> int | None:
    """Cores that this process may run on: fewer than the machine has, inside some containers."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def peak_rss_mib() -> float:
    """Peak memory of this process, MiB.

    On Linux it is read from /proc: `getrusage` there may give the peak of the program that started this one.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def threads() -> JSON:
    """Number of threads of each library; None for one that is not loaded."""
    torch = sys.modules.get("torch")
    return {"opencv": cv2.getNumThreads(), "torch": torch.get_num_threads() if torch else None}
