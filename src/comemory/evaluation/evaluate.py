"""One evaluation: every test video scored, the figures, and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from comemory.bundle import Bundle
from comemory.datasets import open_dataset
from comemory.datasets.recorded import RecordedDataset
from comemory.detector import Detector
from comemory.errors import ComemoryError, EvaluationError
from comemory.evaluation.localisation import place_reasons
from comemory.evaluation.motion_baseline import TEXT
from comemory.evaluation.report import ClipCurve, Finding, Report, write_report
from comemory.evaluation.results import BUDGETS, figures, roc_curves
from comemory.evaluation.video_scores import Control, VideoScores, score_video
from comemory.research.pseudo_anomalies.dataset import Pseudo
from comemory.types import JSON, Dataset, LabelledSource

PROTOCOLS = ("causal", "paper")
N_FINDINGS = 6


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out.

    Attributes:
        figures: the object of `evaluate --json`.
        videos: the scores behind it.
        problems: one line for each video or frame that could not be used; the figures leave these out.
        notes: sentences on the data, as `Dataset.check` would say them.
    """

    figures: JSON
    videos: Sequence[VideoScores]
    problems: Sequence[str]
    notes: Sequence[str]


def evaluate(
    detector: Detector,
    data: str,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    false_alarms: str = "1/h",
    pictures: bool = False,
    workers: int = 1,
    control: Control | None = None,
    on_video: Callable[[str, int | None], None] = lambda name, n_frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score the test videos of a data set and take the figures.

    Args:
        data: `KIND:PATH`.
        pictures: keep pictures of the worst errors, for the report.
        workers: cores to score on; see `pipeline.watch`.
        control: where the control's scores come from, for who has them already; None takes them anew.

    Raises:
        DatasetError: the data set cannot be opened. EvaluationError: no video of it could be scored.
    """
    dataset = open_dataset(data)
    calibration = detector.bundle.calibration
    rate_hz = float(dataset.rate_hz or calibration.rate_hz)
    thresholds = {budget: calibration.threshold(budget) for budget in (*BUDGETS, false_alarms)}
    videos: list[VideoScores] = []
    testing, problems = _testing(dataset)
    for video in testing:
        on_video(video.name, video.n_frames)
        try:
            scored = score_video(
                detector,
                video,
                thresholds,
                rate_hz,
                pictures=pictures,
                workers=workers,
                control=control,
                on_frame=on_frame,
            )
        except ComemoryError as error:
            problems.append(f"{video.name}: {error}")
            continue
        problems += scored.problems
        if len(scored.frames):
            videos.append(scored)
        else:
            problems.append(f"{video.name}: {scored.n_frames} frames are too few for a score")
    if not videos:
        raise EvaluationError(f"no test video of {data} could be scored: {'; '.join(problems[:3]) or 'it lists none'}")
    taken = figures(videos, dataset.name, protocols, thresholds, false_alarms)
    return Evaluation(taken, videos, problems, _notes(dataset, videos, detector.bundle))


def _notes(dataset: Dataset, videos: Sequence[VideoScores], bundle: Bundle) -> list[str]:
    """What to know of the figures beside them."""
    notes = [
        f"The first {bundle.clips.n_past} frames of every video have no score and are left out, "
        "for the model and the control alike."
    ]
    if unlabelled := [video.name for video in videos if video.labels is None]:
        notes.append(
            f"{len(unlabelled)} of {len(videos)} videos have no labels and no part in the figures: {_listed(unlabelled)}."
        )
    if 0 < (n_masked := sum(video.places is not None for video in videos)) < len(videos):
        notes.append(
            f"{n_masked} of {len(videos)} videos have pixel masks; pixel AUC, RBDC and TBDC are over these alone."
        )
    if isinstance(dataset, Pseudo) and (known := _trained_on(dataset, bundle)):
        notes.append(
            f"It is made of video that this model was trained on, so that its figures are too good: {_listed(known)}; "
            "it fits models that held out a fifth of all of the video."
        )
    return notes


def _testing(dataset: Dataset) -> tuple[Sequence[LabelledSource], list[str]]:
    """The test videos whose labels can be read, and one line for each of the others."""
    if isinstance(dataset, RecordedDataset):
        return dataset.usable_testing()
    return dataset.testing(), []


def _trained_on(dataset: Pseudo, bundle: Bundle) -> list[str]:
    """The videos behind pseudo-anomalies that the model has learned from, as far as its provenance says."""
    provenance = bundle.provenance
    if str(provenance.get("dataset")).partition(":")[0] != dataset.below:
        return []
    trained, held = provenance.get("trained_on") or {}, provenance.get("held_out") or {}
    return [name for name in dataset.made_of if name in trained and name not in held]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def report(evaluation: Evaluation, bundle: Bundle, runtime: str, path: Path) -> None:
    """Write the HTML report of an evaluation made with `pictures`."""
    model_roc, control_roc = roc_curves(evaluation.videos)
    threshold, budget = evaluation.figures["threshold"], evaluation.figures["false_alarm_budget"]
    provenance = bundle.provenance
    document = Report(
        title=f"{bundle.path.name} on {evaluation.figures['dataset']}",
        dataset=evaluation.figures["dataset"],
        model={
            "bundle": bundle.path.name,
            "sha256": bundle.digest[:16],
            "trained on": provenance.get("dataset"),
            "trained at": provenance.get("date"),
            "seed": bundle.config["train"]["seed"],
            "score": bundle.calibration.settings.score,
            "runtime": runtime,
        },
        figures=evaluation.figures,
        clips=[
            ClipCurve(
                video.name,
                video.time_s,
                video.score,
                video.scored_labels,
                video.control,
                threshold,
                video.alarms[budget].events,
            )
            for video in evaluation.videos
        ],
        findings=_worst([finding for video in evaluation.videos for finding in video.findings]),
        model_roc=model_roc,
        control_roc=control_roc,
        reasons=place_reasons(evaluation.figures["n_masked"]),
        notes=[*evaluation.notes, *evaluation.problems],
        control=TEXT,
    )
    write_report(path, document)


def _worst(findings: Sequence[Finding]) -> list[Finding]:
    alarms = sorted((found for found in findings if found.kind == "false alarm"), key=lambda found: -found.score)
    misses = sorted((found for found in findings if found.kind == "miss"), key=lambda found: found.score)
    return [*alarms[:N_FINDINGS], *misses[:N_FINDINGS]]
