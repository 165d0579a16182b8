"""Does a budget of false alarms hold over hours? Alarms on ordinary video that nothing was fitted on.

    python benchmarks/budget_over_hours.py --json FILE

Synthetic walkways, an hour each, of people alone. Minutes of one are given as training footage in ten files; a fifth is held
out as a training does, the rest counts as trained on, the decision is calibrated, and alarms are counted on the clips that gave
none of them, at several budgets. The score is the speed alone, which nothing is learned of, so that no network is needed:
what is measured is the calibration. Twelve calibrations for each length: four walkways, three beginnings in each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bench import circumstances
from comemory.datasets import open_dataset
from comemory.decision import DecisionSettings, EventFinder, fit_calibration, patch_means
from comemory.flow import FlowSettings, open_flow
from comemory.pseudo.holdout import hold_out
from comemory.types import JSON, Score
from comemory.video.clips import ClipSettings, Preparation
from comemory.video.source import open_source

BUDGETS = ("1/h", "10/h", "60/h", "360/h")
MINUTES = (2.5, 10.0, 30.0)
SEEDS = (101, 102, 103, 104)
RATE_HZ, CLIPS, N_CLIPS, N_FILES, N_PAST = 10.0, 6000, 6, 10, 4
SPEED = DecisionSettings(motion=("flow_speed:8",), appearance=())
Series = NDArray[np.float64]


def speeds(seed: int) -> list[Series]:
    """The fastest patch of every frame, for each clip of a walkway."""
    spec, estimator = ClipSettings(), open_flow(FlowSettings(preset="fine"))
    found = []
    for video in open_dataset(f"synthetic:seed={seed},frames={CLIPS},training={N_CLIPS},size=128x192").training():
        preparation, values = Preparation(spec, estimator), []
        for frame in open_source(video.source):
            flow = preparation.carry(preparation.measure(preparation.look(frame.image)))
            cells = flow.reshape(spec.height // 4, 4, spec.width // 4, 4, 2).mean(axis=(1, 3)).transpose(2, 0, 1)
            means = patch_means(np.ascontiguousarray(cells, np.float32), 2)
            values.append(float(np.sqrt((means**2).sum(axis=0)).max()))
        found.append(np.array(values[N_PAST:]))
    return found


def evidence(values: Series) -> list[dict[str, NDArray[np.float32]]]:
    """Frames whose fastest patch this is."""
    still = {name: np.zeros((1, 1, 4, 4), np.float32) for name in ("flow_error", "frame_error")}
    rest = {**still, "flow_residual": np.zeros((1, 2, 4, 4), np.float32)}
    along = np.zeros((1, 2, 4, 4), np.float32)
    along[0, 0] = 1
    return [{**rest, "flow_mean": along * np.float32(value)} for value in values]


def alarms(clips: Sequence[Series], minutes: float, first: int) -> dict[str, float]:
    """Alarms an hour by budget, of a calibration on minutes from one clip on, counted on the clips that gave none of them."""
    turned = [*clips[first:], *clips[:first]]
    n_frames = int(minutes * 60 * RATE_HZ)
    files = np.array_split(np.concatenate(turned)[:n_frames], N_FILES)
    trained, held = hold_out([len(file) for file in files], 0.2, N_PAST)
    fitted = fit_calibration(
        [evidence(files[i][part]) for i, part in held],
        SPEED,
        RATE_HZ,
        seen=(evidence(files[i][part]) for i, part in trained),
    )
    channel = fitted.scales[SPEED.motion[0]]
    watched = [fitted.scaled(channel(clip)) for clip in turned[-(-n_frames // CLIPS) :]]
    hours = sum(map(len, watched)) / RATE_HZ / 3600
    return {budget: counted(watched, fitted.threshold(budget)) / hours for budget in BUDGETS}


def counted(videos: Sequence[Series], threshold: float) -> int:
    """Events of all videos."""
    n_events = 0
    for values in videos:
        scores = (Score(i, i / RATE_HZ, float(value), 0.0, 0.0) for i, value in enumerate(values))
        n_events += len(list(EventFinder("", threshold, SPEED).run(scores)))
    return n_events


def measure(seeds: Sequence[int], kept: Path | None) -> JSON:
    """Every length of footage at every budget: the mean over all calibrations, the least and the most.

    Args:
        kept: folder of speeds measured before, and to keep them in.
    """
    scenes = []
    for seed in seeds:
        path = None if kept is None else kept / f"speeds-{seed}.npz"
        if path is not None and path.is_file():
            with np.load(path) as file:
                scenes.append([file[name] for name in file.files])
            continue
        scenes.append(speeds(seed))
        if path is not None:
            np.savez(path, *scenes[-1])
    found: JSON = {}
    for minutes in MINUTES:
        all_rates = [alarms(clips, minutes, first) for clips in scenes for first in range(0, N_CLIPS, 2)]
        found[f"{minutes:g} min"] = {
            budget: {
                name: round(float(of([rates[budget] for rates in all_rates])), 1)
                for name, of in (("mean", np.mean), ("least", np.min), ("most", np.max))
            }
            for budget in BUDGETS
        }
    return {"calibrations": 3 * len(seeds), "alarms_per_hour": found, "circumstances": circumstances()}


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the measured speeds; measured before, they are not again")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the walkways")
    asked = parser.parse_args()
    found = measure(asked.seeds, asked.keep)
    for minutes, budgets in found["alarms_per_hour"].items():
        print(f"calibrated on {minutes} of footage, a fifth of it held out")
        for budget, rate in budgets.items():
            print(f"  {budget:>6}: {rate['mean']} alarms an hour, {rate['least']} to {rate['most']}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
