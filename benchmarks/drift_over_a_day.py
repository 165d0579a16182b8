"""What test-time updates of the memory do to the score over a long day: light, shadows and the crowd change slowly.

    python benchmarks/drift_over_a_day.py --work day --json drift.json --plot drift.svg

A nano network is trained on the first hour of a synthetic day and then scores all of it, 7 to 19 o'clock, as one source.
Every hour holds one cart and one cyclist. Modes:
    off        the trained memory
    gated      items are replaced by their update after frames that score below the median of normal frames
    always     items are replaced after every frame
    followed   items move slowly, within a cone around the trained ones: `bounded` without its bound
    bounded    `followed`, with every score within `stages.BOUND` of that of the trained memory
    recentred  no update: the median of the last `MEMORY_FRAMES` scores is subtracted from the score
All modes have the same network and the same clips.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory import stages
from comemory.bench import measurement_environment
from comemory.clips.config import ClipSettings
from comemory.clips.preparation import FramePair
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.metrics.alarm import intervals
from comemory.metrics.frame import auc
from comemory.scoring import EventFinder, Scorer, normalise
from comemory.stages import BOUND, FrameInProgress
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.config import TrainingConfig, read_training_config
from comemory.training.train import train
from comemory.types import JSON, Clip, Frame, Score

PLACE = "seed=11,size=200x300,crowd=8,light=0.2"
LEARNED = f"synthetic:{PLACE},hours=7-8,frames=300,training=6"
FIRST, LAST = 7, 19
CLIPS_PER_HOUR = 2
MODES = ("off", "gated", "always", "followed", "bounded", "recentred")
MEMORY_FRAMES = 600
BUDGET = "1/min"
N_FIXED = 40
"""Number of normal frames of the first clip that are scored again at the end of every hour."""


def config_of(epochs: int) -> TrainingConfig:
    """The nano preset with the score of Eq. (16): the default score depends on speed, which memory updates do not change."""
    chosen = [
        "clips.flow_height=200",
        "clips.flow_width=300",
        "train.threads=1",
        f"train.epochs={epochs}",
        "scoring.score=thesis",
    ]
    return read_training_config("nano", None, chosen)


def day(frames: int) -> str:
    """The data set of the day, with `frames` frames per clip."""
    clips = CLIPS_PER_HOUR * (LAST - FIRST)
    return f"synthetic:{PLACE},hours={FIRST}-{LAST},frames={frames},testing={clips},kinds=cart+cyclist"


class Fixed:
    """Fixed normal frames that are scored again every hour, so that only the memory changes."""

    def __init__(self, detector: Detector, clips: Sequence[Clip]) -> None:
        self.detector, self.clips = detector, clips
        self.first = self._scores(detector.bundle.items)

    def moved(self, detector: Detector, bound: float = math.inf) -> list[float]:
        """Change of each score since the memory was trained."""
        change = self._scores(detector.items) - self.first
        return [float(value) for value in np.clip(change, -bound, bound)]

    def _scores(self, items: object) -> NDArray[np.float64]:
        values = []
        for clip in self.clips:
            inputs = {"frames": clip.frames[None], "flow": clip.flow[None], **dict(items)}  # type: ignore[call-overload]
            calibration = self.detector.bundle.calibration
            evidence = normalise(self.detector.stages.runtime.run(inputs), calibration.spatial_baselines)
            values.append(Scorer(calibration).update(evidence).value)
        return np.array(values)


def clip_of(video: PreparedVideo, newest: int, settings: ClipSettings) -> Clip:
    """A clip of prepared video, ten frames per second."""
    return Clip.from_arrays(
        *video.clip(newest, settings), newest, newest / 10, video.input_maps[newest].astype(np.float32)
    )


def score_clip(detector: Detector, clip: Clip) -> float:
    """The score of a prepared clip: the stages after `append`."""
    spec = detector.bundle.clips
    image = np.zeros((spec.height, spec.width, 3), np.uint8)
    frame = Frame(image, clip.time_s, clip.index)
    work = FrameInProgress(frame, FramePair(image, None), True, None, clip=clip, is_scored=True)
    detector.stages.infer(work)
    scored = detector.stages.score(work)
    assert scored is not None, "it is to be scored"
    return scored.score.value


def score_day(
    detectors: dict[str, Detector], videos: Sequence[PreparedVideo], labels: Sequence[NDArray[np.bool_]]
) -> tuple[dict[str, list[list[float]]], list[NDArray[np.bool_]], dict[str, list[list[float]]]]:
    """Scores of every clip by mode, the labels of the scored frames, and the changes on the fixed frames by hour."""
    clips = detectors["off"].bundle.clips
    scores: dict[str, list[list[float]]] = {name: [] for name in detectors}
    truth: list[NDArray[np.bool_]] = []
    moved: dict[str, list[list[float]]] = {name: [] for name in (*detectors, "bounded")}
    normal = [t for t in videos[0].clip_ends(clips.n_past) if not labels[0][t]]
    chosen = [normal[k] for k in np.linspace(0, len(normal) - 1, N_FIXED).astype(int)]
    fixed = Fixed(detectors["off"], [clip_of(videos[0], t, clips) for t in chosen])
    for number, (video, label) in enumerate(zip(videos, labels, strict=True), 1):
        newest = video.clip_ends(clips.n_past)
        truth.append(label[newest])
        for name in detectors:
            scores[name].append([])
        for t in newest:
            clip = clip_of(video, t, clips)
            for name, detector in detectors.items():
                scores[name][-1].append(score_clip(detector, clip))
        if number % CLIPS_PER_HOUR == 0:
            for name, detector in detectors.items():
                moved[name].append(fixed.moved(detector))
            moved["bounded"].append(fixed.moved(detectors["followed"], BOUND))
            print(f"hour {FIRST + number // CLIPS_PER_HOUR - 1} done", flush=True)
    return scores, truth, moved


def derived(scores: dict[str, list[list[float]]]) -> dict[str, list[NDArray[np.float64]]]:
    """The scores of all modes, including those that are computed from others."""
    values = {name: [np.array(clip) for clip in clips] for name, clips in scores.items()}
    bound = BOUND
    values["bounded"] = [
        np.clip(followed, off - bound, off + bound)
        for followed, off in zip(values["followed"], values["off"], strict=True)
    ]
    flat = np.concatenate(values["off"])
    level = math.log10(2)
    middle = [float(np.median(flat[max(0, t - MEMORY_FRAMES) : t])) if t else level for t in range(len(flat))]
    ends = np.cumsum([len(clip) for clip in values["off"]])[:-1]
    values["recentred"] = np.split(flat - np.array(middle) + level, ends)
    return values


def alarms(
    detector: Detector, clips: Sequence[NDArray[np.float64]], labels: Sequence[NDArray[np.bool_]]
) -> tuple[int, int]:
    """Events without an abnormal frame, and anomalies within an event, at the threshold of `BUDGET`."""
    fitted = detector.bundle.calibration
    threshold, false, found = fitted.threshold(BUDGET), 0, 0
    for values, truth in zip(clips, labels, strict=True):
        frames = (Score(t, t / fitted.rate_hz, float(value), 0.0, 0.0) for t, value in enumerate(values))
        events = list(EventFinder("day", threshold, fitted.settings).run(frames))
        false += sum(not truth[event.start_frame : event.end_frame + 1].any() for event in events)
        for first, last in intervals(truth):
            found += any(event.start_frame <= last and event.end_frame >= first for event in events)
    return false, found


def hours(detector: Detector, values: Sequence[NDArray[np.float64]], truth: Sequence[NDArray[np.bool_]]) -> list[JSON]:
    """The results of one mode for each hour, and for the whole day at the end."""
    parts = [slice(k, k + CLIPS_PER_HOUR) for k in range(0, len(values), CLIPS_PER_HOUR)]
    rows: list[JSON] = []
    for number, part in enumerate([*parts, slice(None)]):
        scores, labels = np.concatenate(list(values[part])), np.concatenate(list(truth[part]))
        calm = scores[~labels]
        false, found = alarms(detector, values[part], truth[part])
        rows.append(
            {
                "hour": FIRST + number if number < len(parts) else "all",
                "normal": {
                    "frames": len(calm),
                    "mean": round(float(calm.mean()), 4),
                    **{f"q{q}": round(float(np.percentile(calm, q)), 4) for q in (50, 90, 99)},
                },
                "auc": round(auc(scores, labels) or 0.0, 4),
                "false_alarms": false,
                "anomalies": sum(len(intervals(labels)) for labels in truth[part]),
                "anomalies_found": found,
            }
        )
    return rows


def plot(report: JSON, path: Path) -> None:
    """Three panels over the hours: scores of normal frames, AUC, and the score of the fixed frames."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    mpl.rcParams["svg.hashsalt"] = "comemory"
    from matplotlib import pyplot as plt

    colours = dict(zip(MODES, ("black", "#d98200", "#c22f2f", "#7b52ab", "#1f6fb4", "#8a8a8a"), strict=True))
    figure, panels = plt.subplots(3, 1, figsize=(7.2, 8.4), sharex=True, layout="constrained")
    for name in MODES:
        rows = report["modes"][name]["hours"][:-1]
        at = [row["hour"] + 0.5 for row in rows]
        style = {"color": colours[name], "label": name, "marker": ".", "linestyle": ":" if name == "recentred" else "-"}
        panels[0].plot(at, [row["normal"]["q90"] for row in rows], **style)
        panels[1].plot(at, [row["auc"] for row in rows], **style)
        if name in report["fixed_frames"]:
            panels[2].plot(at, [row["q90_of_size"] for row in report["fixed_frames"][name]], **style)
    panels[0].set_ylabel("90th percentile of the score\non normal frames")
    panels[0].axhline(1, color="#bbbbbb", linewidth=0.8)
    panels[1].set_ylabel("AUC of the hour")
    panels[2].set_ylabel("change of the score on the\nsame frames, 90th percentile")
    panels[2].set_xlabel("hour of the day")
    panels[0].legend(ncols=3, frameon=False, fontsize="small")
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def measured(work: Path, frames: int, epochs: int) -> JSON:
    """Train if there is no bundle yet, score the day, and collect the results."""
    spec = config_of(epochs)
    if not (work / "bundle").is_dir():
        train(LEARNED, spec, work / "bundle", cache=work / "cache", resume=True)
    sources = open_dataset(day(frames)).testing()
    known = {clip.name: clip.labels for clip in sources}
    videos, _ = prepare_videos(sources, work / "cache", spec.clips, spec.flow, dataset=f"{day(frames)}/testing")
    labels = [found for video in videos if (found := known[video.name]) is not None]
    gated = Detector.open(work / "bundle", threads=1, update="gated", skip_static=False)
    off = Detector(gated.bundle, runtime=gated.stages.runtime, skip_static=False)
    detectors = {"off": off, "gated": gated}
    for name, update in (("always", "always"), ("followed", "bounded")):
        detectors[name] = Detector(off.bundle, runtime=off.stages.runtime, update=update, skip_static=False)  # type: ignore[arg-type]
    stages.BOUND = math.inf  # only `followed` has a bound: here it has none
    scores, truth, moved = score_day(detectors, videos, labels)
    values = derived(scores)
    return {
        "learned_on": LEARNED,
        "epochs": epochs,
        "day": day(frames),
        "frames": sum(len(video.indices) for video in videos),
        "false_alarm_budget": BUDGET,
        "hours_of_footage": round(sum(len(v.indices) for v in videos) / 36000, 4),
        "bound": BOUND,
        "rate": stages.RATE,
        "max_angle": stages.MAX_ANGLE,
        "gate": stages.LEARN_BELOW,
        "modes": {
            name: {
                "hours": hours(off, values[name], truth),
                "farthest_from_off": round(_farthest(values[name], values["off"]), 4),
            }
            for name in MODES
        },
        "fixed_frames": {
            name: [
                {
                    "mean": round(float(np.mean(hour)), 4),
                    "q90_of_size": round(float(np.percentile(np.abs(hour), 90)), 4),
                    "largest_size": round(float(np.max(np.abs(hour))), 4),
                }
                for hour in by_hour
            ]
            for name, by_hour in moved.items()
        },
        **measurement_environment(),
    }


def _farthest(one: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> float:
    return float(np.abs(np.concatenate(list(one)) - np.concatenate(list(other))).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the bundle and the prepared frames")
    parser.add_argument("--frames", type=int, default=430, help="of each of the 24 clips")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--plot", type=Path, help="where the plot goes, .svg or .png")
    args = parser.parse_args()
    report = measured(args.work, args.frames, args.epochs)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(report, args.plot)
    for name in MODES:
        row = report["modes"][name]["hours"][-1]
        print(
            f"{name:10} AUC {row['auc']:.4f}  normal frames {row['normal']}  false alarms {row['false_alarms']}  "
            f"found {row['anomalies_found']} of {row['anomalies']}  farthest {report['modes'][name]['farthest_from_off']}"
        )


if __name__ == "__main__":
    main()
