"""Compare the time to score a 1080p H.264 file with the time to only decode and resize it.

    python benchmarks/bench_1080p.py --bundle models/ped2-small --frames 250 --rounds 5 --json 1080p.json

What is timed, alternating:
    decode    every frame decoded and resized to the detector's size, one decoder after the other on one core
    pipeline  every frame scored, a worker on each thread

Unless `--video` is given, the file is rendered: the synthetic scene at 1920x1080, 25 frames per second. The peak memory is that
of the pipeline in its own process, which renders nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_against_mnad import pipeline_rss_mib

from comemory.bench import interleave, measurement_environment
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import ComemoryError
from comemory.parallel import score_frames, usable_cores
from comemory.types import Frame
from comemory.video.resize import resize
from comemory.video.writer import write_video

RATE_HZ = 25.0


def render(path: Path, n_frames: int, size: tuple[int, int], rate_hz: float = RATE_HZ) -> Path:
    """Write a rendered scene of a given size (height, width) as H.264."""
    length = max(16, min(n_frames, 100))
    source = open_dataset(f"synthetic:seed=5,frames={length},training=1,testing=1").testing()[0].source
    scene = [frame.image for frame in source]  # type: ignore[union-attr]

    def frames() -> Iterator[Frame]:
        for i in range(n_frames):
            turn = i % (2 * length - 2)
            yield Frame(resize(scene[min(turn, 2 * length - 2 - turn)], size), i / rate_hz, i)

    write_video(frames(), path, rate_hz)
    return path


def measure(bundle: str, video: str, rounds: int, threads: int, precision: str) -> dict[str, Any]:
    """All results as JSON."""
    detector = Detector.open(bundle, threads=1, precision=precision)
    opened = detector.open_source(video)
    n_frames = sum(1 for _ in opened)

    def decode() -> None:
        for _ in detector.open_source(video):
            pass

    def score() -> None:
        for _ in score_frames(detector, detector.open_source(video), threads):
            pass

    timings = interleave({"decode": decode, "pipeline": score}, rounds)
    pairs = zip(timings["decode"].samples_s, timings["pipeline"].samples_s, strict=True)
    return {
        "decode_fps": round(1000 * n_frames / timings["decode"].median_ms, 2),
        "pipeline_fps": round(1000 * n_frames / timings["pipeline"].median_ms, 2),
        "share_of_decode": round(statistics.median(alone / whole for alone, whole in pairs), 3),
        "video": {"frames": n_frames, "size": opened.size},
        "rss_mib": round(pipeline_rss_mib(bundle, video, threads, precision), 1),
        "precision": detector.bundle.precision,
        "model": Path(bundle).name,
        "threads": threads,
        "rounds": rounds,
        **measurement_environment(),
    }


def main() -> None:
    """Read the command line, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="a trained bundle")
    parser.add_argument("--video", help="a 1080p file; rendered unless given")
    parser.add_argument("--frames", type=int, default=250, help="frames to render (default 250)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), help="workers of the pipeline (default all cores)"
    )
    parser.add_argument("--precision", default="auto", help="of the network: fp32, bf16, int8 or auto (default)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if min(args.frames, args.rounds, args.threads) < 1:
        parser.error("--frames, --rounds and --threads are 1 or more")
    try:
        with tempfile.TemporaryDirectory(prefix="comemory-1080p-") as passing:
            video = args.video or str(render(Path(passing) / "scene.mp4", args.frames, (1080, 1920)))
            results = json.dumps(measure(args.bundle, video, args.rounds, args.threads, args.precision), indent=2)
    except ComemoryError as error:
        raise SystemExit(str(error)) from None
    print(results)
    if args.json is not None:
        args.json.write_text(results + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
