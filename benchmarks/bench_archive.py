"""Score an archive of 200 short videos in one process, on a local pool and on Ray, and compare speed and scores.

    python benchmarks/bench_archive.py --videos 200 --workers 2 [--ray] [--real FOLDER] [--json FILE]

The videos are cut into batches; the ways take turns at each batch, so that other load on the machine meets all of them. The
overhead of a file is the processor time that its task takes beyond that of scoring its frames, measured in one process.
With `--ray` a cluster must run (`ray start --head`), whose number of cores is that of `--workers`. Processor time is that of
the driver and of its processes, without those of Ray; `other_cores` is what the rest of the machine used meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from comemory.bench import measurement_environment
from comemory.cluster.archive import parse_cluster, score_archive
from comemory.cluster.archive_scorer import ArchiveScorer
from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask, result_name
from comemory.cluster.paths import list_input_videos
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.types import Frame
from comemory.video.source import open_source
from comemory.video.writer import VideoWriter

N_BATCHES, N_FRAMES = 3, 50


def real_clips(folder: Path) -> Iterator[list[Frame]]:
    """Clips of the folders of frames under a folder, one after the other."""
    for frames in sorted(path for path in folder.rglob("*") if path.is_dir() and any(path.glob("*.jpg"))):
        clip = list(islice(open_source(frames, rate_hz=10), N_FRAMES))
        if len(clip) == N_FRAMES:
            yield clip


def make_videos(folder: Path, n_videos: int, real: Path | None) -> tuple[list[Path], int]:
    """Write the videos: a fifth of them real, where there are such."""
    data = f"synthetic:seed=7,frames={N_FRAMES + 40},training=1,testing=8,size=96x144"
    scenes = [list(video.source) for video in open_dataset(data).testing()]
    clips = [] if real is None else list(islice(real_clips(real), n_videos // 5))
    paths = []
    for number in range(n_videos):
        frames = clips[number] if number < len(clips) else scenes[number % 8][(number // 8) % 40 :][:N_FRAMES]
        path = (
            folder
            / f"camera{number % 8}"
            / f"2026-03-{1 + number % 28:02d}_{number % 24:02d}-{number % 60:02d}-{number:03d}.mp4"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path, frames[0].image.shape[:2], 10) as writer:
            for frame in frames:
                writer.write(frame.image, frame.time_s - frames[0].time_s)
        paths.append(path)
    return paths, len(clips)


def overhead_s(bundle: str, videos: Sequence[Path], folder: Path) -> list[float]:
    """Processor seconds of a task beyond those of scoring its frames, for each video."""
    detector = Detector.open(bundle, threads=1)
    precision = detector.bundle.precision
    settings = ArchiveSettings(
        bundle=bundle,
        digest=detector.bundle.digest,
        out=str(folder),
        runtime="openvino",
        precision=precision,
        update="off",
        gate=True,
        flow_weights=None,
        false_alarms=detector.bundle.default_budget,
        layout=None,
        split_s=0.0,
        warm_up_s=0.0,
        time_limit_s=3600.0,
    )
    scorer = ArchiveScorer(settings)
    found = []
    for video in list_input_videos([str(video) for video in videos]):
        began = time.process_time()
        list(detector.run(video.path))
        between = time.process_time()
        scorer.run(ArchiveTask("file", video, settings.key(video)))
        found.append((time.process_time() - between) - (between - began))
    return found


def own_cpu_s() -> float:
    """Processor seconds of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def machine_cpu_s() -> float:
    """Processor seconds that the whole machine has used."""
    words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, *_ = map(int, words)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--bundle", default=str(Path(__file__).resolve().parents[1] / "models" / "synthetic-nano"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    arguments = parser.parse_args()
    started = measurement_environment()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        videos, n_real = make_videos(folder / "in", arguments.videos, arguments.real)
        ways = {"1 process": "local:1", f"{arguments.workers} processes": f"local:{arguments.workers}"}
        if arguments.ray:
            ways[f"Ray, {arguments.workers} actors"] = "auto"
        seconds, own_s, machine_s = (dict.fromkeys(ways, 0.0) for _ in range(3))
        size = -(-len(videos) // N_BATCHES)
        for turn in range(N_BATCHES):
            batch = [str(video) for video in videos[turn * size : (turn + 1) * size]]
            names = list(ways)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                out = folder / "out" / ways[name].replace(":", "-")
                began = time.monotonic(), own_cpu_s(), machine_cpu_s()
                done = score_archive(batch, parse_cluster(ways[name]), bundle=arguments.bundle, out=str(out))
                seconds[name] += time.monotonic() - began[0]
                own_s[name] += own_cpu_s() - began[1]
                machine_s[name] += machine_cpu_s() - began[2]
                assert done.n_done == len(batch), done.failures
        detector = Detector.open(arguments.bundle, threads=1)
        n_frames = n_different = 0
        for video in videos:
            expected = {score.index: score.value for score in detector.run(video)}
            for way in ways.values():
                table = pq.read_table(
                    folder / "out" / way.replace(":", "-") / f"scores/{result_name(str(video))}.parquet"
                )
                scores = table["score"].to_pylist()
                assert table["frame"].to_pylist() == list(range(N_FRAMES)), video
                n_frames += len(scores)
                n_different += sum(score != expected.get(frame) for frame, score in enumerate(scores))
        extra = [1000 * one for one in overhead_s(arguments.bundle, videos[: len(videos) // 2], folder / "one")]
        print(
            f"{len(videos)} videos of {N_FRAMES} frames, {n_real} of them real; load average {os.getloadavg()[0]:.1f}"
        )
        found: dict[str, Any] = {
            "model": Path(arguments.bundle).name,
            "videos": len(videos),
            "frames_a_video": N_FRAMES,
            "batches": N_BATCHES,
            "ways": {
                name: {
                    "seconds": round(taken, 2),
                    "cpu_s": round(own_s[name], 2),
                    "other_cores": round((machine_s[name] - own_s[name]) / taken, 2),
                }
                for name, taken in seconds.items()
            },
            "scores": n_frames,
            "scores_that_differ": n_different,
            "overhead_ms_a_file": round(statistics.median(extra), 1),
            **started,
            "load_average_at_the_end": round(os.getloadavg()[0], 2),
        }
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        alone = seconds["1 process"]
        for name, taken in seconds.items():
            print(f"{name}: {taken:.1f} s, {len(videos) / taken:.2f} videos/s, {alone / taken:.2f} times one process")
        print(f"scores that differ from Detector.run: {n_different} of {n_frames}")
        print(
            f"overhead a file: {statistics.median(extra):.1f} ms of processor time (median), mean {np.mean(extra):.1f} ms"
        )


if __name__ == "__main__":
    main()
