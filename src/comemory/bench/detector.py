"""What the network costs on each runtime, and the whole way from a file to its scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comemory.bench.timing import Timing, circumstances, interleave, peak_rss_mib, threads, usable_cores
from comemory.bundle import open_bundle
from comemory.detect import Detector
from comemory.errors import ConfigError, RuntimeMissing
from comemory.runtimes import RUNTIMES
from comemory.types import JSON


def bench_model(bundle: str | Path, rounds: int = 30) -> JSON:
    """Time the network alone on every runtime installed, with one thread and with the runtime's own choice, by turns.

    Returns:
        `timings` by `RUNTIME, THREADS`; `left_out` with the reasons; the circumstances. JSON-able.
    """
    opened = open_bundle(bundle)
    calls: dict[str, Callable[[], object]] = {}
    left_out = {}
    for name in RUNTIMES:
        for n_threads in (1, None):
            try:
                detector = Detector(opened, runtime=name, threads=n_threads)
            except RuntimeMissing as error:
                left_out[name] = str(error)
                continue
            label = f"{name}, {'1 thread' if n_threads else 'its own threads'}"
            calls[label] = _network(detector, n_threads)
    timings = interleave(calls, rounds)
    return {
        "what": f"{opened.path.name}: network alone",
        "timings": {name: timing.summary() for name, timing in timings.items()},
        "left_out": left_out,
        **circumstances(),
    }


def bench_pipeline(
    bundle: str | Path, source: str, rounds: int = 3, runtime: str = "openvino", threads_: int | None = None
) -> JSON:
    """Time every frame of a source from the file to the score, and the stages on the way.

    Returns:
        `frames_per_second` of the middle round; `timings` per frame of the whole and of each stage; peak memory; the
        circumstances. JSON-able.
    """
    if rounds < 1:
        raise ConfigError(f"cannot measure in {rounds} rounds: expected 1 or more")
    detector = Detector.open(bundle, runtime=runtime, threads=threads_)
    network = _Clocked(detector.runtime.run)
    flow = _Clocked(detector.builder.preparation.estimator.estimate)
    detector.runtime.run = network  # type: ignore[assignment,method-assign]
    detector.builder.preparation.estimator.estimate = flow  # type: ignore[assignment,method-assign]
    stages: dict[str, list[float]] = {"whole": [], "decode": [], "flow": [], "network": [], "rest": []}
    n_frames = 0
    for _ in range(rounds):
        network.seconds = flow.seconds = 0.0
        n_frames, whole, decode = _round(detector, source)
        parts = {"whole": whole, "decode": decode, "flow": flow.seconds, "network": network.seconds}
        parts["rest"] = whole - decode - flow.seconds - network.seconds
        for name, seconds in parts.items():
            stages[name].append(seconds / max(1, n_frames))
    timings = {name: Timing(tuple(samples)) for name, samples in stages.items()}
    return {
        "what": f"{detector.bundle.path.name} on {Path(source).name}: per frame, {runtime}",
        "frames": n_frames,
        "frames_per_second": round(1000 / timings["whole"].median_ms, 2),
        "timings": {name: timing.summary() for name, timing in timings.items()},
        "peak_rss_mib": round(peak_rss_mib(), 1),
        "threads": {"network": threads_, **threads()},
        **circumstances(),
    }


def _network(detector: Detector, n_threads: int | None) -> Callable[[], object]:
    """One run of the network. PyTorch has one number of threads for the whole process, so it is set before each run."""
    inputs = detector.example_inputs()
    torch = sys.modules.get("torch") if detector.runtime.name == "pytorch" else None
    wanted = n_threads or usable_cores()

    def call() -> object:
        if torch is not None:
            torch.set_num_threads(wanted)
        return detector.runtime.run(inputs)

    return call


class _Clocked:
    """A call that adds up how long it took."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return self._call(*arguments)
        finally:
            self.seconds += time.perf_counter() - begun


def _round(detector: Detector, source: str) -> tuple[int, float, float]:
    """Frames, seconds in all, seconds spent waiting for frames."""
    begun, decode_s, n_frames = time.perf_counter(), 0.0, 0
    detector.reset()
    frames = iter(detector.open_source(source))
    while True:
        asked = time.perf_counter()
        frame = next(frames, None)
        decode_s += time.perf_counter() - asked
        if frame is None:
            return n_frames, time.perf_counter() - begun, decode_s
        detector.push(frame)
        n_frames += 1
