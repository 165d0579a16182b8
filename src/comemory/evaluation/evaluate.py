"""One evaluation: every test video scored, the results computed, and the report filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from comemory.bundle import Bundle
from comemory.datasets.recorded import RecordedDataset
from comemory.detector import Detector
from comemory.errors import ComemoryError, EvaluationError
from comemory.evaluation.comparison import BaselineComparison, compare_with_baseline
from comemory.evaluation.localisation import NO_SCORE_MAP, missing_reasons
from comemory.evaluation.motion_baseline import DESCRIPTION
from comemory.evaluation.report import ClipCurve, EvaluationReport, WorstFrame, write_report
from comemory.evaluation.results import BUDGETS, PROTOCOLS, compute_results, roc_curves
from comemory.evaluation.video_scores import MotionBaseline, VideoScores, score_video
from comemory.scoring import DEFAULT_FALSE_ALARMS
from comemory.types import JSON, Dataset, LabelledSource

N_FINDINGS = 6
"""Images of each kind in the report: one screen."""


@runtime_checkable
class DerivedDataset(Protocol):
    """A data set whose test videos are made of the training videos of another one.

    Attributes:
        base: name of that data set.
        source_videos: names of the training videos that the test videos were made of; empty until `testing` was called.
    """

    base: str
    source_videos: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        results: the object of `evaluate --json`.
        videos: the scores behind it.
        problems: one line for each video or frame that could not be used; the results leave these out.
        notes: sentences on the data, such as which frames have no score.
    """

    results: JSON
    videos: Sequence[VideoScores]
    problems: Sequence[str]
    notes: Sequence[str]

    @property
    def comparison(self) -> BaselineComparison:
        """The model compared with the motion baseline, in words."""
        return compare_with_baseline(self.results)


def evaluate(
    detector: Detector,
    dataset: Dataset,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    false_alarms: str = DEFAULT_FALSE_ALARMS,
    images: bool = False,
    workers: int = 1,
    motion_baseline: MotionBaseline | None = None,
    on_video: Callable[[str, int | None], None] = lambda name, n_frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score the test videos of a data set and compute the results.

    Args:
        detector: opened.
        dataset: opened; see `comemory.datasets.open_dataset`.
        protocols: `causal`, `paper` or both.
        false_alarms: the budget of the alarms, such as `2/day`.
        images: store images of the worst errors, for the report.
        workers: cores to score on; see `comemory.parallel`.
        motion_baseline: where the motion baseline's scores come from, if they are stored somewhere; None computes them.
        on_video: called with the name and the number of frames (if known) of each video before it is scored.
        on_frame: called after each frame.

    Raises:
        DatasetError: the data set cannot be read.
        EvaluationError: no video of it could be scored.
    """
    calibration = detector.bundle.calibration
    rate_hz = float(dataset.rate_hz or calibration.rate_hz)
    thresholds = {budget: calibration.threshold(budget) for budget in (*BUDGETS, false_alarms)}
    videos: list[VideoScores] = []
    testing, problems = _test_videos(dataset)
    for video in testing:
        on_video(video.name, video.n_frames)
        try:
            scored = score_video(
                detector,
                video,
                thresholds,
                rate_hz,
                images=images,
                workers=workers,
                motion_baseline=motion_baseline,
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
        reason = "; ".join(problems[:3]) or "it lists none"
        raise EvaluationError(f"no test video of {dataset.name} could be scored: {reason}")
    results = compute_results(videos, dataset.name, protocols, thresholds, false_alarms)
    return Evaluation(results, videos, problems, _notes(dataset, videos, detector.bundle))


def write_evaluation_report(evaluation: Evaluation, bundle: Bundle, runtime: str, path: Path) -> None:
    """Write the HTML report of an evaluation made with `images`.

    Args:
        evaluation: what was found.
        bundle: the model that was evaluated.
        runtime: what executed it, in words.
        path: of the HTML file.

    Raises:
        EvaluationError: the file cannot be written.
    """
    model_roc, baseline_roc = roc_curves(evaluation.videos)
    threshold, budget = evaluation.results["threshold"], evaluation.results["false_alarm_budget"]
    provenance = bundle.provenance
    document = EvaluationReport(
        title=f"{bundle.path.name} on {evaluation.results['dataset']}",
        dataset=evaluation.results["dataset"],
        model={
            "bundle": bundle.path.name,
            "sha256": bundle.digest[:16],
            "trained on": provenance.get("dataset"),
            "trained at": provenance.get("date"),
            "seed": bundle.config["train"]["seed"],
            "score": bundle.calibration.settings.score,
            "runtime": runtime,
        },
        results=evaluation.results,
        clips=[
            ClipCurve(
                video.name,
                video.time_s,
                video.score,
                video.scored_labels,
                video.motion_baseline,
                threshold,
                video.alarms[budget].events,
            )
            for video in evaluation.videos
        ],
        findings=_worst([finding for video in evaluation.videos for finding in video.findings]),
        model_roc=model_roc,
        baseline_roc=baseline_roc,
        reasons=missing_reasons(evaluation.results["n_masked"], has_score_map=_have_score_maps(evaluation.videos)),
        notes=[*evaluation.notes, *evaluation.problems],
        baseline_description=DESCRIPTION,
    )
    write_report(path, document)


def _test_videos(dataset: Dataset) -> tuple[Sequence[LabelledSource], list[str]]:
    """The test videos whose labels can be read, and one line for each of the others."""
    if isinstance(dataset, RecordedDataset):
        return dataset.usable_testing()
    return dataset.testing(), []


def _notes(dataset: Dataset, videos: Sequence[VideoScores], bundle: Bundle) -> list[str]:
    """Remarks on the data that a reader of the results needs."""
    notes = [_unscored(videos)]
    if unlabelled := [video.name for video in videos if video.labels is None]:
        notes.append(
            f"{len(unlabelled)} of {len(videos)} videos have no labels and are left out of the results: "
            f"{_first_names(unlabelled)}."
        )
    notes += [note for video in videos for note in video.notes]
    if not _have_score_maps(videos):
        notes.append(NO_SCORE_MAP)
    if 0 < (n_masked := sum(video.localisation is not None for video in videos)) < len(videos):
        notes.append(
            f"{n_masked} of {len(videos)} videos have pixel masks; pixel AUC, RBDC and TBDC are over these only."
        )
    if isinstance(dataset, DerivedDataset) and (known := _trained_on(dataset, bundle)):
        notes.append(
            f"The test videos are made of videos that this model was trained on ({_first_names(known)}), so the results "
            "are too good. Use a model that was trained with a fifth of all video held out."
        )
    return notes


def _unscored(videos: Sequence[VideoScores]) -> str:
    """How many frames pass before the first score: more than the clip's past where frames are left out between samples."""
    first = [int(video.frames[0]) for video in videos]
    count = f"{min(first)}" if len(set(first)) == 1 else f"{min(first)} to {max(first)}"
    return (
        f"The first {count} frames of every video have no score and are left out, "
        "for the model and the motion baseline alike."
    )


def _have_score_maps(videos: Sequence[VideoScores]) -> bool:
    return all(video.has_score_map for video in videos)


def _trained_on(dataset: DerivedDataset, bundle: Bundle) -> list[str]:
    """The source videos of a derived data set that the model was trained on, as far as its provenance says."""
    provenance = bundle.provenance
    if str(provenance.get("dataset")).partition(":")[0] != dataset.base:
        return []
    trained, held_out = provenance.get("trained_on") or {}, provenance.get("held_out") or {}
    return [name for name in dataset.source_videos if name in trained and name not in held_out]


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _worst(findings: Sequence[WorstFrame]) -> list[WorstFrame]:
    normal = sorted((found for found in findings if found.kind == "false alarm"), key=lambda found: -found.score)
    abnormal = sorted((found for found in findings if found.kind == "miss"), key=lambda found: found.score)
    return [*normal[:N_FINDINGS], *abnormal[:N_FINDINGS]]
