"""The object that `evaluate --json` writes, computed from scored videos. A metric the labels do not allow is None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.evaluation.localisation import NAMES, localisation_metrics
from comemory.evaluation.protocols import protocol_matrix
from comemory.evaluation.video_scores import FrameScores, VideoScores
from comemory.types import JSON

Video = TypeVar("Video", bound=FrameScores)

PROTOCOLS = ("causal", "paper")
BUDGETS = ("1/day", "1/h", "10/h", "1/min")
"""False-alarm budgets at which the alarms are counted, beside the budget that was asked for."""
RANK_METRICS = ("auc_micro", "auc_micro_ci95", "auc_macro", "ap", "eer", "fpr95")
BUDGET_METRICS = ("false_alarms_per_hour", "detection_delay_s", "detection_delay_in_view_s")
ALARM_METRICS = (*BUDGET_METRICS, "anomalies_in_view")


def compute_results(
    videos: Sequence[VideoScores], dataset: str, protocols: Sequence[str], thresholds: Mapping[str, float], budget: str
) -> JSON:
    """Compute the whole object that `evaluate --json` writes.

    - `causal`: the scores as a live system has them.
    - `paper`: the score of the model's authors where they define one, scaled within each video; else each video
      divided by its maximum (the thesis' Eq. 20). No live system can do either. `paper_score` says which it is.
    - `thesis`: the thesis' own score, Eq. (16), under both.
    - `motion_baseline`: the score without training.
    - `protocols`: the AUC under the normalisations and smoothings of published protocols.
    - `budgets`: the alarms at other false-alarm budgets.

    Videos without labels count for the speed only.

    Args:
        videos: as scored.
        dataset: its name.
        protocols: of `PROTOCOLS`, those to compute.
        thresholds: by budget, those of `BUDGETS` among them.
        budget: the one that was asked for.
    """
    seconds = sum(video.wall_s for video in videos)
    n_frames = sum(video.n_frames for video in videos)
    known = labelled(videos)
    columns = {name: _column(known, name, budget) for name in protocols}
    return {
        **_counts(videos, dataset),
        "n_masked": sum(video.localisation is not None for video in videos),
        "causal": columns.get("causal"),
        "paper": columns.get("paper"),
        "paper_score": "own" if _have_authors_scores(known) else "calibrated",
        "thesis": _thesis(known),
        "motion_baseline": _baseline(known),
        "threshold": thresholds[budget],
        "false_alarm_budget": budget,
        "missed_anomalies": _delay(known, budget).n_missed if known else None,
        "budgets": [_at_budget(known, one, thresholds[one]) for one in BUDGETS],
        "frames_per_second": round(n_frames / seconds, 2) if seconds else None,
        "protocols": protocol_matrix(known),
        "per_video": [
            {**record, "missed_anomalies": None if video.labels is None else _delay([video], budget).n_missed}
            for video, record in zip(videos, _per_video(videos, known), strict=True)
        ],
    }


def frame_results(videos: Sequence[FrameScores], dataset: str, protocols: Sequence[str] = PROTOCOLS) -> JSON:
    """Compute the metrics that need only frame scores, with the keys of `compute_results`.

    There is no threshold, so there are no alarms; no score map, so no localisation; and no speed. `paper_score` is `own`,
    or `given` where the scores are taken as they are given.
    """
    known = labelled(videos)
    columns = {name: _rank_metrics(known, name) for name in protocols}
    return {
        **_counts(videos, dataset),
        "causal": columns.get("causal"),
        "paper": columns.get("paper"),
        "paper_score": "own" if _have_authors_scores(known) else "given",
        "motion_baseline": _baseline(known),
        "protocols": protocol_matrix(known),
        "per_video": _per_video(videos, known),
    }


def roc_curves(videos: Sequence[VideoScores]) -> tuple[metrics.RocCurve | None, metrics.RocCurve | None]:
    """Compute the ROC of the model's causal scores and that of the motion baseline."""
    videos = labelled(videos)
    if not videos:
        return None, None
    labels = np.concatenate([_labels(video) for video in videos])
    return (
        metrics.roc_curve(np.concatenate([video.score for video in videos]), labels),
        metrics.roc_curve(np.concatenate([_baseline_of(video) for video in videos]), labels),
    )


def labelled(videos: Sequence[Video]) -> list[Video]:
    """Return the videos whose labels are known."""
    return [video for video in videos if video.labels is not None]


def _counts(videos: Sequence[FrameScores], dataset: str) -> JSON:
    return {
        "dataset": dataset,
        "n_videos": len(videos),
        "n_frames": sum(video.n_frames for video in videos),
        "n_scored": sum(len(video.frames) for video in videos),
        "n_labelled": len(labelled(videos)),
    }


def _thesis(videos: Sequence[VideoScores]) -> JSON:
    """AUC of Eq. (16), causal and after division by the maximum; None where the model does not give its evidence."""
    scores = [video.thesis for video in videos if video.thesis is not None]
    if len(scores) < len(videos):
        return {"auc_micro": None, "auc_micro_paper": None}
    return {
        "auc_micro": _micro_auc(videos, scores),
        "auc_micro_paper": _micro_auc(videos, _max_divided(videos, scores)),
    }


def _baseline(videos: Sequence[FrameScores]) -> JSON:
    """AUC of the motion baseline; None where it was not computed for every video."""
    if any(video.motion_baseline is None for video in videos):
        return {"auc_micro": None}
    return {"auc_micro": _micro_auc(videos, [_baseline_of(video) for video in videos])}


def _column(videos: Sequence[VideoScores], protocol: str, budget: str) -> JSON:
    column: JSON = {**dict.fromkeys((*RANK_METRICS, *NAMES, *ALARM_METRICS)), **_rank_metrics(videos, protocol)}
    if protocol == "causal" and videos:
        delay = _delay(videos, budget)
        alarms = (_false_alarms(videos, budget), delay.median_s, delay.median_in_view_s, delay.n_in_view)
        column |= dict(zip(ALARM_METRICS, alarms, strict=True))
        column |= localisation_metrics([video.localisation for video in videos if video.localisation is not None])
    return column


def _rank_metrics(videos: Sequence[FrameScores], protocol: str) -> JSON:
    """The metrics that depend on the order of the scores only."""
    if not videos:
        return dict.fromkeys(RANK_METRICS)
    scores: Sequence[NDArray[np.float64]] = [video.score for video in videos]
    if protocol == "paper":
        scores = _authors_scores(videos) or _max_divided(videos, scores)
    labels = [_labels(video) for video in videos]
    names = [video.name for video in videos]
    flat, flat_labels = metrics.concatenate_videos(scores, labels, names)
    interval = metrics.micro_auc_ci95(scores, labels, names)
    return {
        "auc_micro": metrics.auc(flat, flat_labels),
        "auc_micro_ci95": None if interval is None else list(interval),
        "auc_macro": metrics.macro_auc(scores, labels, names).value,
        "ap": metrics.average_precision(flat, flat_labels),
        "eer": metrics.equal_error_rate(flat, flat_labels),
        "fpr95": metrics.false_positive_rate_at(flat, flat_labels, 0.95),
    }


def _have_authors_scores(videos: Sequence[FrameScores]) -> bool:
    return bool(_authors_scores(videos))


def _authors_scores(videos: Sequence[FrameScores]) -> list[NDArray[np.float64]]:
    """The scores that the model's authors define; empty unless every video has one."""
    found = [video.own for video in videos if video.own is not None]
    return found if len(found) == len(videos) else []


def _at_budget(videos: Sequence[VideoScores], budget: str, threshold: float) -> JSON:
    """The alarms at one budget: false alarms, delays and misses."""
    record: JSON = {"false_alarm_budget": budget, "threshold": threshold}
    if not videos:
        return {**record, **dict.fromkeys((*BUDGET_METRICS, "missed_anomalies"))}
    delay = _delay(videos, budget)
    values = (_false_alarms(videos, budget), delay.median_s, delay.median_in_view_s)
    return {**record, **dict(zip(BUDGET_METRICS, values, strict=True)), "missed_anomalies": delay.n_missed}


def _per_video(videos: Sequence[FrameScores], known: Sequence[FrameScores]) -> list[JSON]:
    normal = np.concatenate([video.score[~_labels(video)] for video in known] or [np.zeros(0)])
    return [_video_record(video, normal) for video in videos]


def _video_record(video: FrameScores, normal: NDArray[np.float64]) -> JSON:
    """The record of one video; `normal` holds the scores of the normal frames of all videos."""
    labels, baseline = video.scored_labels, video.motion_baseline
    return {
        "name": video.name,
        "auc": None if labels is None else metrics.auc(video.score, labels),
        "auc_against_all": None if labels is None else _auc_against(video.score[labels], normal),
        "auc_motion_baseline": None if labels is None or baseline is None else metrics.auc(baseline, labels),
        "n_frames": video.n_frames,
        "n_scored": len(video.frames),
        "n_abnormal": None if video.labels is None else int(video.labels.sum()),
    }


def _auc_against(abnormal: NDArray[np.float64], normal: NDArray[np.float64]) -> float | None:
    labels = np.arange(len(abnormal) + len(normal)) < len(abnormal)
    return metrics.auc(np.concatenate([abnormal, normal]), labels)


def _delay(videos: Sequence[VideoScores], budget: str) -> metrics.DetectionDelay:
    return metrics.detection_delay(
        [metrics.intervals(video.on_all_frames(video.alarms[budget].alarm_open)) for video in videos],
        [video.labels for video in videos if video.labels is not None],
        [video.rate_hz for video in videos],
        scored=[_scored(video) for video in videos],
    )


def _false_alarms(videos: Sequence[VideoScores], budget: str) -> float | None:
    return metrics.false_alarms_per_hour(
        [[(event.start_frame, event.end_frame) for event in video.alarms[budget].events] for video in videos],
        [video.labels for video in videos if video.labels is not None],
        [video.rate_hz for video in videos],
        scored=[_scored(video) for video in videos],
        above_threshold=[video.on_all_frames(video.alarms[budget].above_threshold) for video in videos],
    )


def _scored(video: FrameScores) -> NDArray[np.bool_]:
    """Which frames have a score: bool (n_frames,)."""
    return video.on_all_frames(np.ones(len(video.frames), np.bool_))


def _labels(video: FrameScores) -> NDArray[np.bool_]:
    labels = video.scored_labels
    return np.zeros(0, np.bool_) if labels is None else labels


def _baseline_of(video: FrameScores) -> NDArray[np.float64]:
    return np.zeros(0) if video.motion_baseline is None else video.motion_baseline


def _micro_auc(videos: Sequence[FrameScores], scores: Sequence[NDArray[np.float64]]) -> float | None:
    if not videos:
        return None
    return metrics.micro_auc(scores, [_labels(video) for video in videos], [video.name for video in videos])


def _max_divided(videos: Sequence[FrameScores], scores: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    return metrics.offline_max_division(scores, [video.name for video in videos])[0]
