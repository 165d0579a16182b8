"""Does a budget of false alarms hold? Events on ordinary video that the calibration never saw, at several budgets.

    python benchmarks/false_alarm_budget.py models/ped2-small ped2:data/ped2 --json FILE

Counted over the ordinary frames of the test set, and over the training videos that were not held out for the calibration:
the network was trained on those, so what it learned errs less there than on a new day, but most of the default score is
speed, which nothing is learned of. A budget of one alarm an hour cannot be checked on five minutes of video, so higher ones are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bench import circumstances
from comemory.datasets import open_dataset
from comemory.decision import EventFinder
from comemory.detect import Detector
from comemory.metrics import false_alarms_per_hour
from comemory.types import JSON, LabelledSource, Score

BUDGETS = ("1/h", "10/h", "60/h", "120/h", "360/h")

Watched = list[tuple[str, list[Score], NDArray[np.bool_]]]


def watched(
    detector: Detector, videos: Sequence[LabelledSource]
) -> Iterator[tuple[str, list[Score], NDArray[np.bool_]]]:
    """Name, scores and labels of each video; an unlabelled one is ordinary."""
    for video in videos:
        scores = list(detector.run(video.source))
        n_frames = scores[-1].index + 1 if scores else 0
        labels = np.zeros(n_frames, np.bool_) if video.labels is None else np.asarray(video.labels, np.bool_)
        yield video.name, scores, labels


def counted(detector: Detector, part: Watched, budget: str) -> JSON:
    """False alarms of one part at one budget, beside those that it allows."""
    calibration = detector.bundle.calibration
    threshold, rate_hz = calibration.threshold(budget), calibration.rate_hz
    events = []
    for name, scores, _ in part:
        found = EventFinder(name, threshold, calibration.settings).run(scores)
        index = {round(score.time_s, 6): score.index for score in scores}
        events.append([(index[round(event.start_s, 6)], index[round(event.end_s, 6)]) for event in found])
    labels = [labels for _, _, labels in part]
    per_hour = false_alarms_per_hour(events, labels, [rate_hz] * len(part)) or 0.0
    hours = sum(int((~these).sum()) for these in labels) / rate_hz / 3600
    allowed = float(budget.partition("/")[0]) * hours
    return {"alarms": round(per_hour * hours), "allowed": round(allowed, 2), "per_hour": round(per_hour, 1)}


def measure(bundle: Path, data: str) -> JSON:
    """Every part at every budget."""
    detector = Detector.open(bundle, threads=1)
    dataset = open_dataset(data)
    held_out = set(detector.bundle.provenance.get("held_out") or ())
    parts = {
        "test, ordinary frames": list(watched(detector, dataset.testing())),
        "training, not held out": list(watched(detector, [v for v in dataset.training() if v.name not in held_out])),
    }
    return {
        "bundle": bundle.name,
        "data": data.partition(":")[0],
        "precision": detector.bundle.precision,
        "parts": {
            name: {
                "ordinary_s": round(
                    sum(int((~labels).sum()) for *_, labels in part) / detector.bundle.calibration.rate_hz, 1
                ),
                "budgets": {budget: counted(detector, part, budget) for budget in BUDGETS},
            }
            for name, part in parts.items()
        },
        "circumstances": circumstances(),
    }


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", help="KIND:PATH of the data set the bundle was trained on")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = measure(asked.bundle, asked.data)
    for name, part in found["parts"].items():
        print(f"{name}: {part['ordinary_s']} s of ordinary video")
        for budget, figures in part["budgets"].items():
            print(f"  {budget:>6}: {figures['alarms']} alarms, {figures['allowed']} allowed")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
