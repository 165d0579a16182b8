"""Do pseudo-anomalies rank the channels of a network as the test set does? All channels in one pass over each.

python benchmarks/rank_by_pseudo.py models/ped2-small ped2:data/ped2 --json FILE
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.bench import measurement_environment
from comemory.detector import Detector
from comemory.research.pseudo_anomalies.dataset import open_any_dataset
from comemory.research.pseudo_anomalies.perturbations import PERTURBATIONS
from comemory.research.reproduce.statistics import kendall, spearman
from comemory.scoring import patch_map
from comemory.types import LabelledSource

CHANNELS = (
    *(
        f"{name}:{side}"
        for name in ("flow_speed", "flow_residual", "flow_error", "frame_error")
        for side in (8, 12, 16, 32)
    ),
    "motion_distance:16",
    "appearance_distance:16",
    "appearance_novelty:16",
)


def channels_of(detector: Detector) -> list[str]:
    """The channels that the bundle can compute: a novelty needs its spatial baseline."""
    baselines = detector.bundle.calibration.spatial_baselines
    names = {f"{name.removesuffix('_distance')}_novelty" for name in baselines}
    return [channel for channel in CHANNELS if "_novelty:" not in channel or channel.partition(":")[0] in names]


def peaks(
    detector: Detector, videos: Sequence[LabelledSource], channels: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """The value of every channel in every scored frame, the labels, and the name of each frame's video."""
    rows: list[list[float]] = []
    labels: list[bool] = []
    names: list[str] = []
    for video in videos:
        if video.labels is None:
            continue
        detector.reset()
        for scored in map(detector.step, detector.open_source(video.source)):
            if scored is not None:
                rows.append([float(patch_map(scored.evidence.maps, channel).values.max()) for channel in channels])
                labels.append(bool(video.labels[scored.frame.index]))
                names.append(video.name)
    return np.array(rows), np.array(labels), names


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """AUC of one channel; None without frames of both classes."""
    value = metrics.auc(scores, labels)
    if value is None:
        raise SystemExit("all frames are of one kind: nothing to rank by")
    return value


def by_kind(values: NDArray[np.float64], labels: NDArray[np.bool_], names: Sequence[str]) -> dict[str, list[float]]:
    """AUC of every channel on the videos of each kind of perturbation, where both classes are present."""
    kinds = np.array([name.partition("-")[0] for name in names])
    found: dict[str, list[float]] = {}
    for kind in PERTURBATIONS:
        chosen = kinds == kind
        if 0 < labels[chosen].sum() < chosen.sum():
            found[kind] = [auc(column, labels[chosen]) for column in values[chosen].T]
    return found


def ranking(bundle: Path, data: str) -> dict[str, Any]:
    """The AUC of each channel on pseudo-anomalies and on the test set, and their rank correlation."""
    detector = Detector.open(bundle, threads=1, precision="fp32", skip_static=False)
    channels = channels_of(detector)
    values, labels, _ = peaks(detector, open_any_dataset(data).testing(), channels)
    test = [auc(column, labels) for column in values.T]
    kinds = by_kind(*peaks(detector, open_any_dataset(f"pseudo:{data}").testing(), channels))
    pseudo = np.mean(list(kinds.values()), axis=0).tolist()
    return {
        "bundle": bundle.name,
        "data": data.partition(":")[0],
        "channels": [
            {
                "channel": channel,
                "test_auc": round(test[i], 4),
                "pseudo_auc": round(pseudo[i], 4),
                "kinds": {kind: round(aucs[i], 4) for kind, aucs in kinds.items()},
            }
            for i, channel in enumerate(channels)
        ],
        "spearman": spearman(pseudo, test),
        "kendall": kendall(pseudo, test),
        "environment": measurement_environment(),
    }


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", help="KIND:PATH of the data set the bundle was trained on")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = ranking(args.bundle, args.data)
    for row in found["channels"]:
        print(f"{row['channel']:24} pseudo {row['pseudo_auc']:.3f}   test {row['test_auc']:.3f}")
    print(f"Spearman {found['spearman']}, Kendall {found['kendall']}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
