"""Measure how often and how soon eight 640x360 files at 25 frames per second are scored when played in real time.

    python benchmarks/bench_eight_cameras.py --bundle models/ped2-small --cameras 8 --rate 5 --seconds 60 --json eight.json

Every camera decodes all of its frames, as a live stream requires, and samples one in five (`--rate 5` of 25) for the
detector. A frame that is not scored when the next one is due is dropped and counted. One worker per core serves the cameras
in turn. Each camera has its own detector, and each worker its own single-threaded runtime. The latency of a frame is the time
from when it was due until its score is known. Counting starts when the first clips are complete and lasts `--seconds`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_1080p import render
from numpy.typing import NDArray

from comemory.bench import measurement_environment, peak_rss_mib
from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.errors import ComemoryError
from comemory.parallel import usable_cores
from comemory.types import Frame, Runtime

SIZE, RATE_HZ = (360, 640), 25.0
AFTER_S = 1.0
"""Extra time in which the last frames may still be scored, seconds."""


class Camera:
    """One file that plays in real time."""

    def __init__(
        self, detector: Detector, video: Path, every: int, begins_s: float, counted_s: tuple[float, float]
    ) -> None:
        self.detector, self.video, self.every, self.begins_s = detector, video, every, begins_s
        self.counted_s = counted_s
        self.lock = threading.Lock()
        self.n_read = self.n_scored = self.n_dropped = 0
        self.latencies_s: list[float] = []
        self._frames = self._endless()
        self._n_sampled = 0

    def _endless(self) -> Iterator[Frame]:
        while True:
            yield from self.detector.open_source(str(self.video))

    def due_s(self) -> float:
        """When the next sampled frame arrives."""
        return self.begins_s + (self.n_read + self.every) / RATE_HZ

    def serve(self, runtime: Runtime) -> None:
        """Read up to the newest frame that is due, and score it."""
        frame, due_s = None, 0.0
        while (next_s := self.due_s()) <= time.monotonic():
            self.n_dropped += frame is not None and self._counts(due_s)
            for _ in range(self.every):
                frame = next(self._frames)
            self.n_read += self.every
            due_s = next_s
        if frame is None:
            return
        frame = Frame(frame.image, due_s - self.begins_s, self._n_sampled)
        self._n_sampled += 1
        stages = self.detector.stages
        work = stages.pair(frame)
        stages.compute_features(work)
        stages.append(work)
        stages.infer(work, runtime)
        if stages.score(work) is not None and self._counts(due_s):
            self.n_scored += 1
            self.latencies_s.append(time.monotonic() - due_s)

    def _counts(self, due_s: float) -> bool:
        return self.counted_s[0] <= due_s < self.counted_s[1]


def work(cameras: list[Camera], runtime: Runtime, ends_s: float, errors: deque[BaseException]) -> None:
    """Serve the camera that has waited longest, until the time is over."""
    try:
        while time.monotonic() < ends_s and not errors:
            waiting = sorted(cameras, key=Camera.due_s)
            for camera in waiting:
                if camera.due_s() > time.monotonic():
                    time.sleep(min(0.002, max(0.0, camera.due_s() - time.monotonic())))
                    break
                if camera.lock.acquire(blocking=False):
                    try:
                        camera.serve(runtime)
                    finally:
                        camera.lock.release()
                    break
            else:
                time.sleep(0.001)
    except BaseException as error:
        errors.append(error)
        raise


def measure(
    bundle: str, n_cameras: int, rate_hz: float, seconds: float, threads: int, precision: str, gate: bool
) -> dict[str, Any]:
    """All results as JSON."""
    cv2.setNumThreads(1)
    opened = open_bundle(bundle)
    first = Detector(opened, threads=1, precision=precision, skip_static=gate)
    runtimes = [first.stages.worker_runtime(number) for number in range(threads)]
    detectors = [first] + [
        Detector(opened, runtime=first.stages.runtime, skip_static=gate) for _ in range(n_cameras - 1)
    ]
    errors: deque[BaseException] = deque()
    with tempfile.TemporaryDirectory(prefix="comemory-cameras-") as passing:
        video = Path(passing) / "scene.mp4"
        apart = multiprocessing.get_context("spawn").Process(target=render, args=(video, 250, SIZE))
        apart.start()  # in a process of its own, whose memory is not that of the cameras
        apart.join()
        if apart.exitcode:
            raise SystemExit("the scene could not be rendered")
        begins_s = time.monotonic() + 0.2
        every = max(1, round(RATE_HZ / rate_hz))
        counted_from_s = begins_s + (opened.clips.n_past + 2) * every / RATE_HZ
        counted_s = (counted_from_s, counted_from_s + seconds)
        cameras = [
            Camera(detector, video, every, begins_s + number / n_cameras / rate_hz, counted_s)
            for number, detector in enumerate(detectors)
        ]
        began = time.process_time()
        workers = [
            threading.Thread(target=work, args=(cameras, runtime, counted_s[1] + AFTER_S, errors))
            for runtime in runtimes
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        cpu_share = (time.process_time() - began) / (time.monotonic() - begins_s) / threads
    if errors:
        raise errors[0]
    latencies = np.array([latency for camera in cameras for latency in camera.latencies_s])
    return {
        "scored_fps_lowest": round(min(camera.n_scored for camera in cameras) / seconds, 3),
        "scored_fps_mean": round(sum(camera.n_scored for camera in cameras) / seconds / n_cameras, 3),
        "latency_ms": {f"p{p}": percentile_ms(latencies, p) for p in (50, 95, 99, 100)},
        "dropped": sum(camera.n_dropped for camera in cameras),
        "cpu_share": round(cpu_share, 3),
        "cameras": n_cameras,
        "asked_fps": rate_hz,
        "seconds": seconds,
        "size": list(SIZE),
        "threads": threads,
        "gate": gate,
        "rss_mib": round(peak_rss_mib(), 1),
        "precision": first.bundle.precision,
        "model": Path(bundle).name,
        **measurement_environment(),
    }


def percentile_ms(latencies_s: NDArray[np.float64], percent: float) -> float | None:
    """A percentile in milliseconds; None where no frame was scored in time."""
    return round(1000 * float(np.percentile(latencies_s, percent)), 1) if len(latencies_s) else None


def main() -> None:
    """Read the command line, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="a trained bundle")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5.0, help="frames per second that are to be scored (default 5)")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="workers (default all cores)")
    parser.add_argument("--precision", default="auto", help="of the network: fp32, bf16, int8 or auto (default)")
    parser.add_argument("--no-gate", action="store_true", help="score still frames in full")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if min(args.cameras, args.threads) < 1 or not 0 < args.rate <= RATE_HZ or args.seconds <= 0:
        parser.error(f"--cameras and --threads are 1 or more, --rate over 0 up to {RATE_HZ:g}, --seconds over 0")
    try:
        results = measure(
            args.bundle,
            args.cameras,
            args.rate,
            args.seconds,
            args.threads,
            args.precision,
            not args.no_gate,
        )
    except ComemoryError as error:
        raise SystemExit(str(error)) from None
    text = json.dumps(results, indent=2)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
