"""Does a false-alarm budget hold over hours? Counts alarms on normal video that the calibration has not seen.

    python benchmarks/budget_over_hours.py --json FILE

Each synthetic walkway shows walking people for an hour. Some minutes of one are the training footage, in ten files: a fifth
is held out, as a training does, and the preset's score is calibrated by the code of the training. Alarms are then counted on
the hour's clips that were not used, at several budgets. No channel of the preset's score needs the network, so none is
trained: only the calibration is measured. Each length has two or more calibrations a walkway, which start at different clips.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comemory.bench import measurement_environment
from comemory.datasets import open_dataset
from comemory.models.evidence import cell_means
from comemory.scoring import Calibration, EventFinder, NormalScene, Scorer, normalise
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.calibrate import calibrate, infer_evidence, needed_scene, split_videos
from comemory.training.config import TrainingConfig, read_training_config
from comemory.training.scene import object_maps
from comemory.types import JSON, Score

BUDGETS = ("1/h", "10/h", "60/h", "360/h")
MINUTES = (2.5, 10.0, 30.0)
SEEDS = (101, 102, 103, 104)
RATE_HZ, CLIPS, N_CLIPS, N_FILES = 10.0, 6000, 6, 10


class FlowAlone:
    """In place of a network: its only evidence is the mean flow of each cell, which a detector has without one."""

    def memories(self) -> dict[str, Any]:
        """It has none."""
        return {}

    def infer(self, frames: torch.Tensor, flow: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean flow of each cell."""
        return {"flow_mean": cell_means(flow)}


def walkway(seed: int, folder: Path, config: TrainingConfig) -> list[PreparedVideo]:
    """Prepare the clips of a walkway, or take them from the folder."""
    dataset = open_dataset(f"synthetic:seed={seed},frames={CLIPS},training={N_CLIPS},size=128x192")
    prepared, problems = prepare_videos(
        dataset.training(), folder, config.clips, config.flow, dataset="synthetic", rate_hz=RATE_HZ
    )
    assert not problems, problems
    return prepared


def footage(clips: Sequence[PreparedVideo], minutes: float) -> list[PreparedVideo]:
    """The first minutes of the clips, in about ten files."""
    left, size = int(minutes * 60 * RATE_HZ), max(1, round(minutes * 60 * RATE_HZ / N_FILES))
    files = []
    for clip in clips:
        for start in range(0, min(left, len(clip.indices)), size):
            files.append(clip.part(slice(start, min(start + size, left, len(clip.indices)))))
        left -= len(clip.indices)
        if left <= 0:
            break
    return files


def alarms(clips: Sequence[PreparedVideo], minutes: float, first: int, config: TrainingConfig) -> dict[str, float]:
    """Alarms an hour by budget, for a calibration on some minutes from clip `first` on, counted on the unused clips."""
    turned = [*clips[first:], *clips[:first]]
    trained, held_out = split_videos(footage(turned, minutes), config.train.calibration_share, config.clips.n_past)
    scene = needed_scene([*held_out, *trained], config, RATE_HZ)
    fitted = calibrate(FlowAlone(), held_out, config, RATE_HZ, trained=trained, scene=scene)
    unused = turned[-(-int(minutes * 60 * RATE_HZ) // CLIPS) :]
    values = [scores(fitted, scene, clip, config) for clip in unused]
    hours = sum(map(len, values)) / RATE_HZ / 3600
    return {budget: count_events(values, fitted, fitted.threshold(budget)) / hours for budget in BUDGETS}


def scores(
    calibration: Calibration, scene: NormalScene | None, video: PreparedVideo, config: TrainingConfig
) -> NDArray[np.float64]:
    """The score of every frame of a video that has one."""
    objects = object_maps(video, config.clips, scene, RATE_HZ)
    found: Iterator[Mapping[str, NDArray[np.float32]]] = infer_evidence(FlowAlone(), video, config, objects=objects)
    scorer = Scorer(calibration)
    return np.array([scorer.update(normalise(maps, calibration.spatial_baselines)).value for maps in found])


def count_events(videos: Sequence[NDArray[np.float64]], calibration: Calibration, threshold: float) -> int:
    """Events of all videos."""
    n_events = 0
    for video in videos:
        found = (Score(i, i / RATE_HZ, float(value), 0.0, 0.0) for i, value in enumerate(video))
        n_events += len(list(EventFinder("", threshold, calibration.settings).run(found)))
    return n_events


def measure(
    seeds: Sequence[int], folder: Path, minutes: Sequence[float], starts: Sequence[int], overrides: Sequence[str]
) -> JSON:
    """Every length of footage at every budget: mean, lowest and highest over all calibrations.

    Args:
        seeds: of the walkways.
        folder: where prepared walkways are stored.
        minutes: lengths of footage.
        starts: the clips that the footage begins with, in turn.
        overrides: settings that differ from the preset `small`.
    """
    torch.set_num_threads(1)
    config = read_training_config("small", settings=overrides)
    rates: dict[float, list[dict[str, float]]] = {length: [] for length in minutes}
    for seed in seeds:
        clips = walkway(seed, folder, config)
        for length in minutes:
            for first in starts:
                rates[length].append(alarms(clips, length, first, config))
                print(f"walkway {seed}, {length:g} min from clip {first}: {rates[length][-1]}", flush=True)
    found: JSON = {}
    for length, all_rates in rates.items():
        found[f"{length:g} min"] = {
            budget: {
                name: round(float(of([one[budget] for one in all_rates])), 1)
                for name, of in (("mean", np.mean), ("lowest", np.min), ("highest", np.max))
            }
            for budget in BUDGETS
        }
    return {
        "channels": [*config.scoring.motion, *config.scoring.appearance],
        "fusion": config.scoring.fusion,
        "walkways": list(seeds),
        "calibrations": len(starts) * len(seeds),
        "alarms_per_hour": found,
        "environment": measurement_environment(),
    }


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="stores prepared walkways for the next run, 5 GB each")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the walkways")
    parser.add_argument("--minutes", type=float, nargs="+", default=list(MINUTES), help="of training footage")
    parser.add_argument("--starts", type=int, nargs="+", default=[0, 2, 4], help="clips that the footage begins with")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, as `comemory train` takes it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        found = measure(args.seeds, folder, args.minutes, args.starts, args.set)
    for length, budgets in found["alarms_per_hour"].items():
        print(f"calibrated on {length} of footage, a fifth of it held out")
        for budget, rate in budgets.items():
            print(f"  {budget:>6}: {rate['mean']} alarms an hour, {rate['lowest']} to {rate['highest']}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
