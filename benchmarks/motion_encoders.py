"""Compare motion encoders of equal cost: same training on the synthetic scene, alternating timing, AUC on labelled clips.

    python benchmarks/motion_encoders.py --work encoders --json motion_encoders.json

`--encoder NAME:WIDTH` selects what is compared. The default widths give the nano network the same cost for a frame.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comemory.bench import interleave, measurement_environment
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.metrics.frame import auc
from comemory.scoring import Scorer, find_peak, normalise
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.config import TrainingConfig, model_class, read_training_config
from comemory.training.train import train
from comemory.types import JSON

SCENE = "synthetic:seed=7,frames=300,training=6,testing=8"
ENCODERS = ("pair:11", "recurrent:5", "volume:10")
CHANNELS = ("flow_speed:8", "flow_residual:8", "flow_error:16", "motion_distance:16", "frame_error:16")


def config_of(encoder: str, seed: int, epochs: int) -> TrainingConfig:
    """The nano preset with one encoder, `NAME:WIDTH`."""
    name, _, width = encoder.partition(":")
    chosen = [f"network.motion_encoder={name}", f"network.motion_width={width}"]
    return read_training_config(
        "nano", None, [*chosen, f"train.seed={seed}", f"train.epochs={epochs}", "train.threads=1"]
    )


def aucs_of(
    detector: Detector, config: TrainingConfig, videos: Sequence[tuple[PreparedVideo, NDArray[np.bool_]]]
) -> JSON:
    """AUC of every channel and of the score, over all frames of the labelled videos."""
    values: dict[str, list[float]] = {name: [] for name in (*CHANNELS, "motion", "score")}
    truth: list[bool] = []
    for video, labels in videos:
        scorer = Scorer(detector.bundle.calibration)
        for newest in video.clip_ends(config.clips.n_past):
            frames, flow = video.clip(newest, config.clips)
            outputs = detector.stages.runtime.run({"frames": frames[None], "flow": flow[None], **detector.bundle.items})
            maps = {**outputs, **video.evidence(newest)}
            parts = scorer.update(normalise(maps, scorer.calibration.spatial_baselines))
            for channel in CHANNELS:
                values[channel].append(find_peak(maps, channel).value)
            values["motion"].append(parts.motion)
            values["score"].append(parts.uncalibrated)
            truth.append(bool(labels[video.indices[newest]]))
    return {name: round(auc(scores, truth) or 0.0, 4) for name, scores in values.items()}


def training_step(config: TrainingConfig) -> Callable[[], object]:
    """One step of a training with this configuration, on random clips."""
    torch.manual_seed(0)
    model: Any = model_class(config.model).from_kwargs(**config.model_kwargs())
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters())
    spec, batch = config.clips, config.train.batch
    frames = torch.rand(batch, spec.n_past + 1, spec.channels, spec.height, spec.width) * 2 - 1
    flow = torch.randn(batch, 2, spec.height, spec.width)

    def step() -> None:
        total, _ = model.loss(frames, flow)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def network(detector: Detector) -> Callable[[], object]:
    """A function that runs the network on ten frames."""
    inputs = detector.stages.example_inputs()

    def run() -> None:
        for _ in range(10):
            detector.stages.runtime.run(inputs)

    return run


def costs(detectors: dict[str, Detector], epochs: int, rounds: int) -> dict[str, JSON]:
    """Milliseconds of a frame and of a training step on one thread, and their ratios to those of the first encoder."""
    torch.set_num_threads(1)
    frame = interleave({name: network(detector) for name, detector in detectors.items()}, rounds)
    step = interleave({name: training_step(config_of(name, 0, epochs)) for name in detectors}, rounds)
    first = next(iter(detectors))
    return {
        name: {
            "frame_ms": round(frame[name].median_ms / 10, 3),
            "step_ms": round(step[name].median_ms, 1),
            "frame_over_first": round(_ratio(frame[name].samples_s, frame[first].samples_s), 3),
            "step_over_first": round(_ratio(step[name].samples_s, step[first].samples_s), 3),
        }
        for name in detectors
    }


def _ratio(samples: Sequence[float], of: Sequence[float]) -> float:
    """The median of the ratios of each round: what slows a whole round down cancels out."""
    return statistics.median(a / b for a, b in zip(samples, of, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the bundles and the prepared frames")
    parser.add_argument("--encoder", action="append", help="NAME:WIDTH, repeatable")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    encoders = args.encoder or list(ENCODERS)
    spec = config_of(encoders[0], 0, args.epochs)
    clips = {clip.name: clip.labels for clip in open_dataset(SCENE).testing()}
    tested, _ = prepare_videos(
        open_dataset(SCENE).testing(), args.work / "cache", spec.clips, spec.flow, dataset=f"{SCENE}/testing"
    )
    videos = [(video, labels) for video in tested if (labels := clips[video.name]) is not None]
    results: dict[str, list[JSON]] = {name: [] for name in encoders}
    detectors: dict[str, Detector] = {}
    for seed in range(args.seeds):
        for name in encoders:
            config = config_of(name, seed, args.epochs)
            out = args.work / f"{name.replace(':', '-')}-{seed}"
            if not out.is_dir():
                train(SCENE, config, out, cache=args.work / "cache", resume=True)
            detectors[name] = Detector.open(out, threads=1)
            results[name].append({"seed": seed, "auc": aucs_of(detectors[name], config, videos)})
            print(name, json.dumps(results[name][-1]), flush=True)
    cost = costs(detectors, args.epochs, args.rounds)
    report = {
        "scene": SCENE,
        "epochs": args.epochs,
        "encoders": {name: {**cost[name], "runs": results[name]} for name in encoders},
        **measurement_environment(),
    }
    print(json.dumps(report, indent=1))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
