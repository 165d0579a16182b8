"""The numbers of `evaluate --json`, from scored videos. Null where the labels do not allow one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.evaluation.localisation import NAMES, place_figures
from comemory.evaluation.protocols import protocol_matrix
from comemory.evaluation.video_scores import VideoScores
from comemory.types import JSON

BUDGETS = ("1/day", "1/h", "10/h", "1/min")
"""At which the alarms are counted beside the budget that was asked for."""
ALARMS = ("false_alarms_per_hour", "detection_delay_s", "detection_delay_in_view_s", "anomalies_in_view")


def figures(
    videos: Sequence[VideoScores], dataset: str, protocols: Sequence[str], thresholds: Mapping[str, float], budget: str
) -> JSON:
    """The whole object that `evaluate --json` writes.

    `causal` takes the scores as a live system has them. `paper` divides each video's by its maximum (the seed's
    Eq. 20), which no live system can. `thesis` is the seed's own score, Eq. (16), under both. `protocols` holds what
    other protocols would make of the scores, `budgets` what other budgets would make of the alarms. Videos without labels count
    for the speed alone.

    Args:
        thresholds: by budget, with those of `BUDGETS` among them.
        budget: the one that was asked for.
    """
    seconds = sum(video.wall_s for video in videos)
    n_frames = sum(video.n_frames for video in videos)
    judged = with_labels(videos)
    columns, ordinary = {name: _column(judged, name, budget) for name in protocols}, _ordinary(judged)
    return {
        "dataset": dataset,
        "n_videos": len(videos),
        "n_frames": n_frames,
        "n_scored": sum(len(video.frames) for video in videos),
        "n_labelled": len(judged),
        "n_masked": sum(video.places is not None for video in videos),
        "causal": columns.get("causal"),
        "paper": columns.get("paper"),
        "thesis": {
            "auc_micro": _micro(judged, [video.thesis for video in judged]),
            "auc_micro_paper": _micro(judged, _by_maximum(judged, [video.thesis for video in judged])),
        },
        "control": {"auc_micro": _micro(judged, [video.control for video in judged])},
        "threshold": thresholds[budget],
        "false_alarm_budget": budget,
        "missed_anomalies": _delay(judged, budget).n_missed if judged else None,
        "budgets": [_at_budget(judged, one, thresholds[one]) for one in BUDGETS],
        "frames_per_second": round(n_frames / seconds, 2) if seconds else None,
        "protocols": protocol_matrix(judged),
        "per_video": [_of_one(video, ordinary, budget) for video in videos],
    }


def roc_curves(videos: Sequence[VideoScores]) -> tuple[metrics.RocCurve | None, metrics.RocCurve | None]:
    """ROC of the model's causal scores and of the control."""
    videos = with_labels(videos)
    if not videos:
        return None, None
    labels = np.concatenate([_labels(video) for video in videos])
    return (
        metrics.roc_curve(np.concatenate([video.score for video in videos]), labels),
        metrics.roc_curve(np.concatenate([video.control for video in videos]), labels),
    )


def with_labels(videos: Sequence[VideoScores]) -> list[VideoScores]:
    """The videos whose labels are known."""
    return [video for video in videos if video.labels is not None]


def _column(videos: Sequence[VideoScores], protocol: str, budget: str) -> JSON:
    keys = ("auc_micro", "auc_micro_ci95", "auc_macro", "ap", "eer", "fpr95", *NAMES)
    empty: JSON = dict.fromkeys((*keys, *ALARMS))
    if not videos:
        return empty
    scores = [video.score for video in videos]
    if protocol == "paper":
        scores = _by_maximum(videos, scores)
    labels = [_labels(video) for video in videos]
    names = [video.name for video in videos]
    flat, flat_labels = metrics.join(scores, labels, names)
    interval = metrics.micro_auc_ci95(scores, labels, names)
    column = {
        "auc_micro": metrics.auc(flat, flat_labels),
        "auc_micro_ci95": None if interval is None else list(interval),
        "auc_macro": metrics.macro_auc(scores, labels, names).value,
        "ap": metrics.average_precision(flat, flat_labels),
        "eer": metrics.equal_error_rate(flat, flat_labels),
        "fpr95": metrics.false_positive_rate_at(flat, flat_labels, 0.95),
    }
    if protocol == "causal":
        delay = _delay(videos, budget)
        alarms = (_false_alarms(videos, budget), delay.median_s, delay.median_in_view_s, delay.n_in_view)
        column |= dict(zip(ALARMS, alarms, strict=True))
        column |= place_figures([video.places for video in videos if video.places is not None])
    return {**empty, **column}


def _at_budget(videos: Sequence[VideoScores], budget: str, threshold: float) -> JSON:
    """What an operator feels at one budget."""
    at: JSON = {"false_alarm_budget": budget, "threshold": threshold}
    if not videos:
        return {**at, **dict.fromkeys((*ALARMS[:3], "missed_anomalies"))}
    delay = _delay(videos, budget)
    felt = (_false_alarms(videos, budget), delay.median_s, delay.median_in_view_s)
    return {**at, **dict(zip(ALARMS[:3], felt, strict=True)), "missed_anomalies": delay.n_missed}


def _ordinary(videos: Sequence[VideoScores]) -> NDArray[np.float64]:
    """The scores of all ordinary frames."""
    return np.concatenate([video.score[~_labels(video)] for video in videos] or [np.zeros(0)])


def _of_one(video: VideoScores, ordinary: NDArray[np.float64], budget: str) -> JSON:
    labels = video.scored_labels
    return {
        "name": video.name,
        "auc": None if labels is None else metrics.auc(video.score, labels),
        "auc_against_all": None if labels is None else _against(video.score[labels], ordinary),
        "auc_control": None if labels is None else metrics.auc(video.control, labels),
        "n_frames": video.n_frames,
        "n_scored": len(video.frames),
        "n_abnormal": None if video.labels is None else int(video.labels.sum()),
        "missed_anomalies": None if video.labels is None else _delay([video], budget).n_missed,
    }


def _against(abnormal: NDArray[np.float64], ordinary: NDArray[np.float64]) -> float | None:
    labels = np.arange(len(abnormal) + len(ordinary)) < len(abnormal)
    return metrics.auc(np.concatenate([abnormal, ordinary]), labels)


def _delay(videos: Sequence[VideoScores], budget: str) -> metrics.DetectionDelay:
    return metrics.detection_delay(
        [metrics.intervals(video.of_all_frames(video.alarms[budget].up)) for video in videos],
        [video.labels for video in videos if video.labels is not None],
        [video.rate_hz for video in videos],
        watched=[_watched(video) for video in videos],
    )


def _false_alarms(videos: Sequence[VideoScores], budget: str) -> float | None:
    return metrics.false_alarms_per_hour(
        [[(event.start_frame, event.end_frame) for event in video.alarms[budget].events] for video in videos],
        [video.labels for video in videos if video.labels is not None],
        [video.rate_hz for video in videos],
        watched=[_watched(video) for video in videos],
        high=[video.of_all_frames(video.alarms[budget].high) for video in videos],
    )


def _watched(video: VideoScores) -> NDArray[np.bool_]:
    return video.of_all_frames(np.ones(len(video.frames), np.bool_))


def _labels(video: VideoScores) -> NDArray[np.bool_]:
    labels = video.scored_labels
    return np.zeros(0, np.bool_) if labels is None else labels


def _micro(videos: Sequence[VideoScores], scores: Sequence[NDArray[np.float64]]) -> float | None:
    if not videos:
        return None
    return metrics.micro_auc(scores, [_labels(video) for video in videos], [video.name for video in videos])


def _by_maximum(videos: Sequence[VideoScores], scores: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    return metrics.offline_max_division(scores, [video.name for video in videos])[0]
