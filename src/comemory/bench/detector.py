"""What the network costs on each runtime, and the whole way from a file to its scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from comemory.bench.roofline import PRECISIONS, convolutions, convolutions_gflop, network_gflop
from comemory.bench.timing import Timing, circumstances, interleave, peak_rss_mib, threads, usable_cores
from comemory.bundle import Bundle, open_bundle
from comemory.detector import Detector
from comemory.errors import ConfigError, RuntimeMissing
from comemory.parallel import watch
from comemory.runtimes import RUNTIMES, runs_in
from comemory.types import JSON


def bench_model(bundle: str | Path, rounds: int = 30) -> JSON:
    """Time the network alone on every runtime installed and in every precision that the bundle holds for it and this CPU
    has, with one thread and with the runtime's own choice, by turns.

    Returns:
        `timings` by `RUNTIME, PRECISION, THREADS`; `left_out` with the reasons; `gflop`, the network's work for a frame;
        `roofline_gflop_per_s`, what wide convolutions reach on one thread in the same rounds; `share_of_roofline` of
        each timing with one thread; the circumstances. JSON-able.
    """
    opened = open_bundle(bundle)
    calls: dict[str, Callable[[], object]] = {}
    left_out = {}
    for name, precision in _forms(opened):
        for n_threads in (1, None):
            try:
                detector = Detector(opened, runtime=name, precision=precision, threads=n_threads)
            except (RuntimeMissing, ConfigError) as error:
                left_out[f"{name}, {precision}"] = str(error)
                continue
            label = f"{name}, {precision}, {'1 thread' if n_threads else 'its own threads'}"
            calls[label] = _network(detector, n_threads)
    tops = {precision: f"convolutions, {precision}" for precision in PRECISIONS if runs_in(precision)}
    timings = interleave({**calls, **{name: convolutions(precision) for precision, name in tops.items()}}, rounds)
    roofline = {
        precision: 1000 * convolutions_gflop() / timings.pop(name).median_ms for precision, name in tops.items()
    }
    gflop = network_gflop(opened.network.graph, Detector(opened, threads=1).example_inputs())
    return {
        "what": f"{opened.path.name}: network alone",
        "timings": {name: timing.summary() for name, timing in timings.items()},
        "left_out": left_out,
        "gflop": round(gflop, 3),
        "roofline_gflop_per_s": {precision: round(top, 1) for precision, top in roofline.items()},
        "share_of_roofline": {
            name: round(1000 * gflop / timing.median_ms / roofline[precision], 3)
            for name, timing in timings.items()
            if name.endswith(", 1 thread") and (precision := name.split(", ")[1]) in roofline
        },
        **circumstances(),
    }


def _forms(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Runtimes, each with its precisions that the bundle holds."""
    for name in RUNTIMES:
        yield name, "fp32"
        yield from (form for form in bundle.forms if form[0] == name)


def bench_pipeline(
    bundle: str | Path,
    source: str,
    rounds: int = 3,
    runtime: str = "openvino",
    threads_: int | None = None,
    precision: str = "auto",
) -> JSON:
    """Time every frame of a source from the file to the score: by the plain loop, with its stages, and on several cores.

    Args:
        threads_: cores of the pipeline; None takes all. 1 measures the plain loop alone.

    Returns:
        `frames_per_second` of the middle round, on all the cores asked for; `timings` per frame of the plain loop as a
        whole and of each of its stages, and of the pipeline; peak memory; the circumstances. JSON-able.
    """
    if rounds < 1:
        raise ConfigError(f"cannot measure in {rounds} rounds: expected 1 or more")
    workers = threads_ or usable_cores() or 1
    detector = Detector.open(bundle, runtime=runtime, precision=precision, threads=1)
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
        if workers > 1:
            stages.setdefault("pipeline", []).append(_pipeline_s(detector, source, workers) / max(1, n_frames))
    timings = {name: Timing(tuple(samples)) for name, samples in stages.items()}
    return {
        "what": f"{detector.bundle.path.name} on {Path(source).name}: per frame, {runtime}",
        "precision": detector.bundle.precision,
        "frames": n_frames,
        "frames_per_second": round(1000 / timings.get("pipeline", timings["whole"]).median_ms, 2),
        "frames_per_second_plain": round(1000 / timings["whole"].median_ms, 2),
        "timings": {name: timing.summary() for name, timing in timings.items()},
        "peak_rss_mib": round(peak_rss_mib(), 1),
        "threads": {"workers": workers, "network": 1, **threads()},
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


def _pipeline_s(detector: Detector, source: str, workers: int) -> float:
    """Seconds that the pipeline takes for the source."""
    begun = time.perf_counter()
    for _ in watch(detector, detector.open_source(source), workers):
        pass
    return time.perf_counter() - begun


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
