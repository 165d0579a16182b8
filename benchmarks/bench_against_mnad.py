"""Compare the speed of comemory's whole pipeline with that of MNAD's network alone, alternating in one process.

    python benchmarks/bench_against_mnad.py --bundle models/ped2 --video gate.mp4 --rounds 5 --json against_mnad.json

What is timed:
    mnad                MNAD (15.65 M parameters) at 256x256 in torch with default settings, frames already in memory;
                        only the network: no decoding, no score
    mnad_channels_last  the same in the memory layout that is faster on CPUs
    pipeline            comemory from the file to its scores: decode, resize, flow, network, score; one worker and one
                        single-threaded network on each thread
    plain               the same scores from the sequential loop, in which the flow uses several threads
    network             comemory's network alone on one thread, inputs already in memory

Every round times each of them once; every second round in reverse order. The peak memory is that of the pipeline in its own
process, which never loads torch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comemory.bench import Timing, interleave, measurement_environment, peak_rss_mib
from comemory.detector import Detector
from comemory.errors import ComemoryError
from comemory.parallel import score_frames

MNAD_SIDE = 256
NETWORK_RUNS = 50


def mnad_calls(frames: int, side: int = MNAD_SIDE) -> dict[str, Callable[[], object]]:
    """MNAD on `frames` clips in memory, one at a time, in both memory layouts.

    The weights are random: they cost as much as trained ones.
    """
    import torch

    from comemory.models.baselines.mnad import Mnad

    torch.manual_seed(0)
    past = torch.rand(1, 12, side, side) * 2 - 1

    def call(layout: torch.memory_format) -> Callable[[], object]:
        network: Any = Mnad.from_kwargs(channels=3, n_past=4).eval()
        network.to(memory_format=layout)
        clip = past.to(memory_format=layout).view(1, 4, 3, side, side)

        def predict() -> None:
            with torch.inference_mode():
                for _ in range(frames):
                    network(clip)

        return predict

    return {"mnad": call(torch.contiguous_format), "mnad_channels_last": call(torch.channels_last)}


def whole_pipeline(detector: Detector, video: str, workers: int) -> int:
    """Score the video, from decoding on; the number of its frames."""
    n_frames, n_scored = 0, 0
    for _, scored in score_frames(detector, detector.open_source(video), workers):
        n_frames += 1
        n_scored += scored is not None
    if n_scored == 0:
        raise SystemExit(f"{video} is too short: it has no frame that can be scored")
    return n_frames


def network_alone(detector: Detector) -> Callable[[], object]:
    """Run the network of `detector` on prepared inputs, `NETWORK_RUNS` times."""
    inputs = detector.stages.example_inputs()

    def run() -> None:
        for _ in range(NETWORK_RUNS):
            detector.stages.runtime.run(inputs)

    return run


def pipeline_rss_mib(bundle: str, video: str, threads: int, precision: str) -> float:
    """Peak memory of the pipeline in its own process, MiB."""
    args = [sys.executable, __file__, "--bundle", bundle, "--video", video, "--threads", str(threads), "--only-rss"]
    args += ["--precision", precision]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the pipeline failed in a process of its own: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


def print_rss(bundle: str, video: str, threads: int, precision: str) -> None:
    """Run the pipeline once and print the peak memory of this process, MiB."""
    whole_pipeline(Detector.open(bundle, threads=1, precision=precision), video, threads)
    if "torch" in sys.modules:
        raise SystemExit("the pipeline loaded torch: its memory use cannot be separated")
    print(peak_rss_mib())


def measure(bundle: str, video: str, rounds: int, threads: int, mnad_frames: int, precision: str) -> dict[str, Any]:
    """All results as JSON."""
    import torch

    torch.set_num_threads(threads)
    detector = Detector.open(bundle, threads=1, precision=precision)
    n_frames = whole_pipeline(detector, video, threads)
    calls = mnad_calls(mnad_frames)
    calls["pipeline"] = lambda: whole_pipeline(detector, video, threads)
    calls["plain"] = lambda: whole_pipeline(detector, video, 1)
    calls["network"] = network_alone(detector)
    frames = {
        "mnad": mnad_frames,
        "mnad_channels_last": mnad_frames,
        "pipeline": n_frames,
        "plain": n_frames,
        "network": NETWORK_RUNS,
    }
    timings = interleave(calls, rounds)
    spreads = {name: frames_per_second(timing, frames[name]) for name, timing in timings.items()}
    return {
        **{f"{name}_fps": spread["median"] for name, spread in spreads.items()},
        "ratio": ratio(timings, frames, "mnad"),
        "ratio_channels_last": ratio(timings, frames, "mnad_channels_last"),
        "rss_mib": round(pipeline_rss_mib(bundle, video, threads, precision), 1),
        "precision": detector.bundle.precision,
        "model": {"bundle": Path(bundle).name, "digest": detector.bundle.digest, "config": detector.bundle.config},
        "spreads_fps": spreads,
        "video": {"name": Path(video).name, "frames": n_frames},
        "mnad_size": [MNAD_SIDE, MNAD_SIDE],
        "rounds": rounds,
        "threads": threads,
        **measurement_environment(),
    }


def frames_per_second(timing: Timing, frames: int) -> dict[str, float]:
    """Median, lowest and highest of the rounds."""
    rates = [frames / sample for sample in timing.samples_s]
    return {
        "median": round(statistics.median(rates), 3),
        "lowest": round(min(rates), 3),
        "highest": round(max(rates), 3),
    }


def ratio(timings: dict[str, Timing], frames: dict[str, int], other: str) -> float:
    """Frames per second of the pipeline over those of another method: the median of the ratios of each round."""
    pairs = zip(timings["pipeline"].samples_s, timings[other].samples_s, strict=True)
    ratios = [frames["pipeline"] / ours / (frames[other] / theirs) for ours, theirs in pairs]
    return round(statistics.median(ratios), 3)


def main() -> None:
    """Read the command line, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="a trained bundle")
    parser.add_argument("--video", required=True, help="any video file; a few hundred frames are enough")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads for each side (default 2)")
    parser.add_argument("--precision", default="auto", help="of the network: fp32, bf16, int8 or auto (default)")
    parser.add_argument("--mnad-frames", type=int, default=5, help="frames that MNAD predicts in a round (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("--only-rss", action="store_true", help="print the pipeline's peak memory in MiB and stop")
    args = parser.parse_args()
    if min(args.rounds, args.threads, args.mnad_frames) < 1:
        parser.error("--rounds, --threads and --mnad-frames are 1 or more")
    try:
        if args.only_rss:
            print_rss(args.bundle, args.video, args.threads, args.precision)
            return
        results = json.dumps(
            measure(args.bundle, args.video, args.rounds, args.threads, args.mnad_frames, args.precision),
            indent=2,
        )
    except ComemoryError as error:
        raise SystemExit(str(error)) from None
    print(results)
    if args.json is not None:
        args.json.write_text(results + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
