"""Every subset of a score's channels on several scenes, and for each scene the subset chosen on all the others.

    python benchmarks/channel_subsets.py --json FILE ped2=BUNDLE,ped2:DATA/ped2 syn1=BUNDLE,synthetic:seed=101 ...

The scores of a bundle are sums of channels. Each channel has a scale and a weight of its own, fitted on normal video without
the others, so one pass over the test video gives the causal AUC of every subset exactly: the levels are added and smoothed as
the scorer does it, and the scale of the sum does not change the order of frames. No subset is left out, so nothing was chosen
before; the channels themselves were designed with the recorded scenes in sight. The table of docs/explanation/scenes.md is
made from the stored result, and a test fails where the two differ:

    python benchmarks/channel_subsets.py --render benchmarks/results/2026-12-01-channel-subsets.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bench import measurement_environment
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.metrics.frame import auc
from comemory.research.reproduce.scenes import chosen_on_the_others, chosen_with_all_labels
from comemory.scoring import Calibration, find_peak
from comemory.types import JSON, LabelledSource


@dataclass
class Levels:
    """The test video of a scene.

    Attributes:
        channels: of the score.
        videos: float64 (frames, channels) each, the weighted level of every channel.
        labels: bool (frames,) each.
        past: share of the old average in the smoothing of scores.
    """

    channels: tuple[str, ...]
    videos: list[NDArray[np.float64]]
    labels: list[NDArray[np.bool_]]
    past: float

    def auc(self, subset: Sequence[int]) -> float:
        """Micro AUC, causal, of the sum of some channels."""
        scores = [smoothed(video[:, list(subset)].sum(axis=1), self.past) for video in self.videos]
        found = auc(np.concatenate(scores), np.concatenate(self.labels))
        assert found is not None, "the test video has normal and abnormal frames"
        return found


def smoothed(raw: NDArray[np.float64], past: float) -> NDArray[np.float64]:
    """The moving average of a video's scores, as `scoring.Scorer` takes it."""
    found, average = np.empty_like(raw), None
    for i, value in enumerate(raw):
        average = value if average is None else past * average + (1 - past) * value
        found[i] = average
    return found


def measure(bundle: str, data: str) -> Levels:
    """Run a bundle over the test video of a data set."""
    detector = Detector.open(bundle, threads=1)
    calibration = detector.bundle.calibration
    settings = calibration.settings
    assert settings.is_sum, "the score is a sum of channels"
    channels = (*settings.motion, *settings.appearance)
    past = math.exp(-1 / (calibration.rate_hz * settings.smoothing_s)) if settings.smoothing_s else 0.0
    levels = Levels(channels, [], [], past)
    for video in open_dataset(data).testing():
        values, indices = _values(detector, calibration, channels, video)
        assert video.labels is not None, "the test video has labels"
        levels.videos.append(values)
        levels.labels.append(video.labels[indices])
    return levels


def _values(
    detector: Detector, calibration: Calibration, channels: Sequence[str], video: LabelledSource
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The weighted level of each channel in each scored frame, and the frames' indices."""
    detector.reset()
    source = detector.open_source(video.source)
    sampler = detector.source_sampler(video.name)
    rows, indices = [], []
    for frame in source:
        scored = detector.step_sample(frame, sampler.sample(frame))
        if scored is not None:
            maps = scored.evidence.maps
            rows.append([float(calibration.level(channel, find_peak(maps, channel).value)) for channel in channels])
            indices.append(frame.index)
    return np.array(rows, np.float64), np.array(indices, np.intp)


def name_of(channels: Sequence[str]) -> str:
    """The names of channels, without their patches."""
    return " + ".join(channel.partition(":")[0].replace("_", " ") for channel in channels)


TITLES = {"ped2": "Ped2", "ped1": "Ped1", "avenue": "Avenue subset", "coffee": "coffee room"}


def table(aucs: dict[str, dict[str, float]], scenes: Sequence[str]) -> list[str]:
    """The subsets and the choices among them as lines of Markdown."""
    recorded = [name for name in scenes if not name.startswith("syn")]

    def row(title: str, values: dict[str, float]) -> str:
        known = [values[name] for name in recorded]
        cells = [f"{values[name]:.3f}" if name in values else "–" for name in scenes]
        return f"| {title} | {' | '.join(cells)} | {sum(known) / len(known):.3f} | {min(known):.3f} |"

    titles = " | ".join(TITLES.get(name, name) for name in scenes)
    among_recorded = {name: {key: one[key] for key in recorded} for name, one in aucs.items()}
    best = chosen_with_all_labels(among_recorded)
    return [
        f"| | {titles} | mean of recorded | worst |",
        "|---" * (len(scenes) + 3) + "|",
        *(row(name, values) for name, values in aucs.items()),
        row(f"**chosen with all labels**: {best}", aucs[best]),
        row(
            "**each scene by the subset chosen on all the others**",
            {scene: aucs[chosen_on_the_others(aucs, scene)][scene] for scene in scenes},
        ),
        row(
            "**each recorded scene by the subset chosen on the other recorded ones**",
            {scene: aucs[chosen_on_the_others(among_recorded, scene)][scene] for scene in recorded},
        ),
    ]


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", help="NAME=BUNDLE,KIND:PATH; the names of synthetic ones start with syn")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--render", type=Path, help="only print the table of a stored result")
    args = parser.parse_args()
    if args.render:
        stored = json.loads(args.render.read_text(encoding="utf-8"))
        print("\n".join(table(stored["auc"], stored["scenes"])))
        return
    if not args.scenes:
        parser.error("name a scene, or a result with --render")
    aucs: dict[str, dict[str, float]] = {}
    names = []
    for scene in args.scenes:
        name, _, rest = scene.partition("=")
        bundle, _, data = rest.partition(",")
        levels = measure(bundle, data)
        names.append(name)
        for size in range(1, len(levels.channels) + 1):
            for subset in combinations(range(len(levels.channels)), size):
                title = name_of([levels.channels[k] for k in subset])
                aucs.setdefault(title, {})[name] = levels.auc(subset)
        print(f"{name}: {sum(map(len, levels.videos))} frames", flush=True)
    print("\n".join(table(aucs, names)))
    if args.json:
        found: JSON = {"scenes": names, "auc": aucs, "environment": measurement_environment()}
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
