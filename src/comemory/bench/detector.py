"""Timings of the network on each runtime, and of the whole way from a file to its scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from comemory.bench.roofline import PRECISIONS, convolutions, convolutions_gflop, network_gflop
from comemory.bench.timing import Timing, interleave, measurement_environment, peak_rss_mib, threads, usable_cores
from comemory.bundle import Bundle, open_bundle
from comemory.detector import Detector
from comemory.errors import ConfigError, RuntimeMissing
from comemory.parallel import score_frames
from comemory.runtimes import CPU, RUNTIMES, find_device, supports
from comemory.types import JSON


def bench_model(bundle: str | Path, rounds: int = 30, device: str = CPU) -> JSON:
    """Time the network alone, on every installed runtime and in every precision that the bundle and this CPU have.

    Each is timed with one thread and with the number of threads that the runtime chooses.

    Args:
        bundle: path of the bundle.
        rounds: runs of each.
        device: of the network; runtimes that do not find it are left out.

    Returns:
        JSON: `timings` by `RUNTIME, PRECISION, THREADS`; `left_out` with the reasons; `gflop`, the network's work for a
        frame; `roofline_gflop_per_s`, what wide convolutions reach on one thread in the same rounds;
        `share_of_roofline` of each timing with one thread; the environment.
    """
    opened = open_bundle(bundle)
    find_device("openvino", device)
    calls: dict[str, Callable[[], object]] = {}
    left_out = {}
    for name, precision in _variants(opened):
        for n_threads in (1, None):
            try:
                detector = Detector(opened, runtime=name, precision=precision, device=device, threads=n_threads)
            except (RuntimeMissing, ConfigError) as error:
                left_out[f"{name}, {precision}"] = str(error)
                continue
            label = f"{name}, {precision}, {'1 thread' if n_threads else 'its own threads'}"
            calls[label] = _run_network(detector, n_threads)
    tops = {precision: f"convolutions, {precision}" for precision in PRECISIONS if supports(precision)}
    timings = interleave({**calls, **{name: convolutions(precision) for precision, name in tops.items()}}, rounds)
    roofline = {
        precision: 1000 * convolutions_gflop() / timings.pop(name).median_ms for precision, name in tops.items()
    }
    gflop = network_gflop(opened.network.graph, Detector(opened, threads=1).stages.example_inputs())
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
        **measurement_environment(),
    }


def _variants(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Every runtime with each precision that the bundle has for it."""
    for name in RUNTIMES:
        yield name, "fp32"
        yield from (variant for variant in bundle.variants if variant[0] == name)


def bench_pipeline(
    bundle: str | Path,
    source: str,
    rounds: int = 3,
    runtime: str = "openvino",
    n_threads: int | None = None,
    precision: str = "auto",
    device: str = CPU,
) -> JSON:
    """Time every frame of a source from the file to the score: in a plain loop by its stages, and on several cores.

    Args:
        bundle: path of the bundle.
        source: path of a video.
        rounds: passes over the source.
        runtime: entry of `runtimes.RUNTIMES`.
        n_threads: cores to score on; None takes all. 1 measures the plain loop alone.
        precision: of the network's arithmetic.
        device: of the network.

    Returns:
        JSON: `frames_per_second` of the median round, on all the cores asked for; `timings` per frame of the plain loop
        as a whole, of each of its stages, and of the pipeline; peak memory; the environment.
    """
    if rounds < 1:
        raise ConfigError(f"cannot measure in {rounds} rounds: expected 1 or more")
    workers = n_threads or usable_cores() or 1
    detector = Detector.open(bundle, runtime=runtime, precision=precision, device=device, threads=1)
    stages = _StageClock(detector)
    samples: dict[str, list[float]] = {"whole": [], "decode": [], "flow": [], "network": [], "rest": []}
    n_frames = 0
    for _ in range(rounds):
        n_frames, seconds = stages.time_loop(source)
        for name, taken in seconds.items():
            samples[name].append(taken / max(1, n_frames))
        if workers > 1:
            samples.setdefault("pipeline", []).append(_pipeline_s(detector, source, workers) / max(1, n_frames))
    timings = {name: Timing(tuple(taken)) for name, taken in samples.items()}
    return {
        "what": f"{detector.bundle.path.name} on {Path(source).name}: per frame, {runtime}",
        "precision": detector.bundle.precision,
        "device": detector.bundle.network.device,
        "frames": n_frames,
        "frames_per_second": round(1000 / timings.get("pipeline", timings["whole"]).median_ms, 2),
        "frames_per_second_plain": round(1000 / timings["whole"].median_ms, 2),
        "timings": {name: timing.summary() for name, timing in timings.items()},
        "peak_rss_mib": round(peak_rss_mib(), 1),
        "threads": {"workers": workers, "network": 1, **threads()},
        **measurement_environment(),
    }


def _run_network(detector: Detector, n_threads: int | None) -> Callable[[], object]:
    """One run of the network. PyTorch has one thread setting for the whole process, so it is set before each run."""
    runtime, inputs = detector.stages.runtime, detector.stages.example_inputs()
    torch = sys.modules.get("torch") if runtime.name == "pytorch" else None
    wanted = n_threads or usable_cores()

    def call() -> object:
        if torch is not None:
            torch.set_num_threads(wanted)
        return runtime.run(inputs)

    return call


class _StageClock:
    """Times the plain loop and two of its stages, whose calls it wraps."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        runtime, estimator = detector.stages.runtime, detector.stages.builder.preparer.estimator
        self._network, self._flow = _Stopwatch(runtime.run), _Stopwatch(estimator.estimate)
        runtime.run = self._network  # type: ignore[assignment,method-assign]
        estimator.estimate = self._flow  # type: ignore[assignment,method-assign]

    def time_loop(self, source: str) -> tuple[int, dict[str, float]]:
        """Score the source. Returns the number of frames, and seconds by stage."""
        self._network.seconds = self._flow.seconds = 0.0
        self._detector.reset()
        begun, decode_s, n_frames = time.perf_counter(), 0.0, 0
        frames = iter(self._detector.open_source(source))
        while True:
            asked = time.perf_counter()
            frame = next(frames, None)
            decode_s += time.perf_counter() - asked
            if frame is None:
                break
            self._detector.step(frame)
            n_frames += 1
        whole, flow, network = time.perf_counter() - begun, self._flow.seconds, self._network.seconds
        rest = whole - decode_s - flow - network
        return n_frames, {"whole": whole, "decode": decode_s, "flow": flow, "network": network, "rest": rest}


class _Stopwatch:
    """A function that adds up how long its calls took."""

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
    for _ in score_frames(detector, detector.open_source(source), workers):
        pass
    return time.perf_counter() - begun
