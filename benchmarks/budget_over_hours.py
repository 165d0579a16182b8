"""Does a false-alarm budget hold over hours? Counts alarms on normal video that the calibration has not seen.

    python benchmarks/budget_over_hours.py --json FILE

Each of four synthetic walkways shows walking people for an hour. Some minutes of one are the training footage, in ten files:
a fifth is held out, as a training does, and the score is calibrated. Alarms are then counted on the clips that were not used,
at several budgets. The score is that of the hand-designed default channels, so no
network is needed: only the calibration is measured. Each length has twelve calibrations: four walkways, three start clips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bench import environment
from comemory.clips.config import ClipSettings
from comemory.clips.preparation import FramePreparer
from comemory.datasets import open_dataset
from comemory.flow import FlowSettings, open_flow
from comemory.scoring import (
    HAND_DESIGNED,
    EventFinder,
    Scorer,
    ScoringSettings,
    fit_calibration,
    normalise,
    parse_channel,
)
from comemory.training.calibrate import MAX_BASELINE_FRAMES
from comemory.training.split import split_frames
from comemory.types import CELL, JSON, Score, named_input_maps
from comemory.video.source import open_source

BUDGETS = ("1/h", "10/h", "60/h", "360/h")
MINUTES = (2.5, 10.0, 30.0)
SEEDS = (101, 102, 103, 104)
RATE_HZ, CLIPS, N_CLIPS, N_FILES, N_PAST = 10.0, 6000, 6, 10, 4
MOTION = tuple(channel for channel in ScoringSettings().motion if parse_channel(channel)[0] in HAND_DESIGNED)
HAND_DESIGNED_ONLY = ScoringSettings(motion=MOTION, appearance=())
SPEC = ClipSettings()
CELLS = (SPEC.height // CELL, SPEC.width // CELL)
ClipMaps = NDArray[np.float16]
"""The input maps of a clip's frames: (n, 2 + S, h, w), the flow of each cell and the maps of `types.INPUT_MAPS`."""


def measure_walkway(seed: int) -> list[ClipMaps]:
    """Measure every frame that has a score, for each clip of a walkway."""
    estimator = open_flow(FlowSettings(preset="fine"))
    found = []
    for video in open_dataset(f"synthetic:seed={seed},frames={CLIPS},training={N_CLIPS},size=128x192").training():
        preparation, frames = FramePreparer(SPEC, estimator, RATE_HZ), []
        for frame in open_source(video.source):
            flow = preparation.filter_flow(preparation.compute_features(preparation.pair(frame.image)))
            cells = flow.reshape(CELLS[0], CELL, CELLS[1], CELL, 2).mean(axis=(1, 3)).transpose(2, 0, 1)
            frames.append(np.concatenate([cells, preparation.input_maps]).astype(np.float16))
        found.append(np.stack(frames[N_PAST:]))
    return found


def evidence(frames: Iterable[ClipMaps]) -> Iterable[Mapping[str, NDArray[np.float32]]]:
    """The evidence of frames, as a network without errors would give it."""
    nothing = {name: np.zeros((1, 1, *CELLS), np.float32) for name in ("flow_error", "frame_error")}
    for frame in frames:
        cells = frame.astype(np.float32)
        yield {**nothing, "flow_mean": cells[None, :2], **named_input_maps(cells[2:])}


def alarms(clips: Sequence[ClipMaps], minutes: float, first: int) -> dict[str, float]:
    """Alarms an hour by budget, for a calibration on some minutes from clip `first` on, counted on the unused clips."""
    turned = [*clips[first:], *clips[:first]]
    n_frames = int(minutes * 60 * RATE_HZ)
    files = np.array_split(np.concatenate(turned[: -(-n_frames // CLIPS) + 1])[:n_frames], N_FILES)
    trained, held = split_frames([len(file) for file in files], 0.2, N_PAST)
    learned = np.concatenate([files[i][part] for i, part in trained])
    fitted = fit_calibration(
        [list(evidence(files[i][part])) for i, part in held],
        HAND_DESIGNED_ONLY,
        RATE_HZ,
        baseline_frames=list(evidence(learned[:: max(1, -(-len(learned) // MAX_BASELINE_FRAMES))])),
        training_videos=(evidence(files[i][part]) for i, part in trained),
    )
    values = []
    for clip in turned[-(-n_frames // CLIPS) :]:
        scorer = Scorer(fitted)
        found = (normalise(maps, fitted.spatial_baselines) for maps in evidence(clip))
        values.append(np.array([scorer.update(one).value for one in found]))
    hours = sum(map(len, values)) / RATE_HZ / 3600
    return {budget: count_events(values, fitted.threshold(budget)) / hours for budget in BUDGETS}


def count_events(videos: Sequence[NDArray[np.float64]], threshold: float) -> int:
    """Events of all videos."""
    n_events = 0
    for video in videos:
        scores = (Score(i, i / RATE_HZ, float(value), 0.0, 0.0) for i, value in enumerate(video))
        n_events += len(list(EventFinder("", threshold, HAND_DESIGNED_ONLY).run(scores)))
    return n_events


def load_or_measure(seed: int, folder: Path | None) -> list[ClipMaps]:
    """Measure a walkway, or load what was measured before."""
    path = None if folder is None else folder / f"walkway-{seed}.npz"
    if path is not None and path.is_file():
        with np.load(path) as file:
            return [file[name] for name in file.files]
    found = measure_walkway(seed)
    if path is not None:
        np.savez(path, *found)
    return found


def measure(seeds: Sequence[int], folder: Path | None) -> JSON:
    """Every length of footage at every budget: mean, lowest and highest over all calibrations.

    Args:
        seeds: of the walkways.
        folder: where measured walkways are stored.
    """
    rates: dict[float, list[dict[str, float]]] = {minutes: [] for minutes in MINUTES}
    for seed in seeds:
        clips = load_or_measure(seed, folder)
        for minutes in MINUTES:
            rates[minutes] += [alarms(clips, minutes, first) for first in range(0, N_CLIPS, 2)]
        print(f"walkway {seed}: done", flush=True)
    found: JSON = {}
    for minutes, all_rates in rates.items():
        found[f"{minutes:g} min"] = {
            budget: {
                name: round(float(of([one[budget] for one in all_rates])), 1)
                for name, of in (("mean", np.mean), ("lowest", np.min), ("highest", np.max))
            }
            for budget in BUDGETS
        }
    return {
        "channels": MOTION,
        "calibrations": 3 * len(seeds),
        "alarms_per_hour": found,
        "environment": environment(),
    }


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="stores measured walkways for the next run, 550 MB each")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the walkways")
    args = parser.parse_args()
    found = measure(args.seeds, args.folder)
    for minutes, budgets in found["alarms_per_hour"].items():
        print(f"calibrated on {minutes} of footage, a fifth of it held out")
        for budget, rate in budgets.items():
            print(f"  {budget:>6}: {rate['mean']} alarms an hour, {rate['lowest']} to {rate['highest']}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
