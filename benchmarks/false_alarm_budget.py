"""Does a false-alarm budget hold on real video? Counts events on normal video that the calibration has not seen.

    python benchmarks/false_alarm_budget.py models/ped2-small ped2:data/ped2 --json FILE

Alarms are counted twice. First on the normal frames of the test set, with the bundle's own calibration. Then on the training
videos, split at random into halves twenty times: the score is calibrated on one half, as a training does, and alarms are
counted on the other. The network was trained on most of both halves, so it errs less there than on a new day; but most of the
default score is measured speed, which is not learned. Five minutes of video cannot check a budget of one alarm an hour, so
larger budgets are checked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bench import measurement_environment
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.metrics import false_alarms_per_hour
from comemory.scoring import EventFinder, Scorer, fit_calibration
from comemory.training.split import split_frames
from comemory.types import JSON, Evidence, LabelledSource, Score

BUDGETS = ("1/h", "10/h", "60/h", "120/h", "360/h")
N_DIVISIONS = 20

ScoredVideos = list[tuple[str, list[Score], NDArray[np.bool_]]]


def score_videos(
    detector: Detector, videos: Sequence[LabelledSource]
) -> Iterator[tuple[str, list[Score], NDArray[np.bool_]]]:
    """Name, scores and labels of each video; an unlabelled one is normal."""
    for video in videos:
        scores = list(detector.run(video.source))
        n_frames = scores[-1].index + 1 if scores else 0
        labels = np.zeros(n_frames, np.bool_) if video.labels is None else np.asarray(video.labels, np.bool_)
        yield video.name, scores, labels


def count_alarms(detector: Detector, part: ScoredVideos, budget: str) -> JSON:
    """False alarms on one part at one budget, and how many the budget allows."""
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


def evidence_maps(detector: Detector, video: LabelledSource) -> list[Mapping[str, NDArray[np.float32]]]:
    """The evidence of every scored frame of a video."""
    detector.reset()
    scored = map(detector.step, detector.open_source(video.source))
    return [one.evidence.maps for one in scored if one is not None]


def split_half(detector: Detector, videos: Sequence[LabelledSource]) -> JSON:
    """Alarms an hour on one half of the videos, calibrated on the other, by budget."""
    fitted = detector.bundle.calibration
    maps = [evidence_maps(detector, video) for video in videos]
    order, n_past = np.random.default_rng(0), detector.bundle.clips.n_past
    alarms, hours = dict.fromkeys(BUDGETS, 0), 0.0
    for _ in range(N_DIVISIONS):
        chosen = [maps[i] for i in order.permutation(len(maps))]
        half, other = chosen[: len(maps) // 2], chosen[len(maps) // 2 :]
        trained, held = split_frames([len(video) for video in half], 0.2, n_past)
        calibration = fit_calibration(
            [half[i][part] for i, part in held],
            fitted.settings,
            fitted.rate_hz,
            spatial_baselines=fitted.spatial_baselines,
            training_videos=(half[i][part] for i, part in trained),
        )
        for video in other:
            scorer = Scorer(calibration)
            values = [scorer.update(Evidence(maps)).value for maps in video]
            scores = [Score(i, i / fitted.rate_hz, value, 0.0, 0.0) for i, value in enumerate(values)]
            hours += len(scores) / fitted.rate_hz / 3600
            for budget in BUDGETS:
                finder = EventFinder("", calibration.threshold(budget), fitted.settings)
                alarms[budget] += len(list(finder.run(scores)))
    return {
        "divisions": N_DIVISIONS,
        "hours": round(hours, 2),
        "normal_s": round(sum(map(len, maps)) / fitted.rate_hz, 1),
        "budgets": {budget: {"per_hour": round(n / hours, 1)} for budget, n in alarms.items()},
    }


def measure(bundle: Path, data: str) -> JSON:
    """Both parts at every budget."""
    detector = Detector.open(bundle, threads=1)
    dataset = open_dataset(data)
    part = list(score_videos(detector, dataset.testing()))
    normal = sum(int((~labels).sum()) for *_, labels in part) / detector.bundle.calibration.rate_hz
    return {
        "bundle": bundle.name,
        "data": data.partition(":")[0],
        "precision": detector.bundle.precision,
        "test, normal frames": {
            "normal_s": round(normal, 1),
            "budgets": {budget: count_alarms(detector, part, budget) for budget in BUDGETS},
        },
        "training, one half calibrated on the other": split_half(detector, dataset.training()),
        "environment": measurement_environment(),
    }


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", help="KIND:PATH of the data set the bundle was trained on")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args.bundle, args.data)
    for name in [name for name, part in found.items() if isinstance(part, dict) and "budgets" in part]:
        print(f"{name}: {found[name]['normal_s']} s of normal video")
        for budget, counts in found[name]["budgets"].items():
            print(f"  {budget:>6}: {counts['per_hour']} alarms an hour")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
