"""The results of an evaluation: their keys, their values against scikit-learn, and what labels do not allow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from footage import FixedScores, bright_images, clip, save_frames, save_labels, save_video

from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import EvaluationError
from comemory.evaluation.evaluate import Evaluation, _trained_on, evaluate, write_evaluation_report
from comemory.evaluation.results import frame_results
from comemory.evaluation.video_scores import FrameScores
from comemory.scoring import EventFinder
from comemory.types import LabelledSource

COLUMN = {
    "auc_micro",
    "auc_micro_ci95",
    "auc_macro",
    "ap",
    "eer",
    "fpr95",
    "pixel_auc",
    "rbdc",
    "tbdc",
    "false_alarms_per_hour",
    "detection_delay_s",
    "detection_delay_in_view_s",
    "anomalies_in_view",
}
KEYS = {"dataset", "n_videos", "n_frames", "n_scored", "causal", "paper", "motion_baseline", "frames_per_second"}


@pytest.fixture(scope="module")
def detector(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def done(detector: Detector, walkway: Path) -> Evaluation:
    return evaluate(detector, open_dataset(f"folder:{walkway}"), false_alarms="100/h", images=True)


def data_set(folder: Path, videos: dict[str, Sequence[bool] | None], n_frames: int = 30) -> str:
    """A `folder` data set of brightness videos; None for one without a label file."""
    for name, labels in videos.items():
        save_frames(folder / "testing" / name, bright_images([False] * n_frames if labels is None else labels))
        if labels is not None:
            save_labels(folder / "testing" / "labels" / f"{name}.csv", labels)
    return f"folder:{folder}"


def flat(done: Evaluation, what: str = "score") -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of all scored frames, joined without the code under test."""
    scores = np.concatenate([getattr(video, what) for video in done.videos])
    labels = np.concatenate([video.labels[video.frames] for video in done.videos if video.labels is not None])
    return scores, labels.astype(int)


def test_the_json_has_the_documented_keys(done: Evaluation) -> None:
    results = json.loads(json.dumps(done.results, allow_nan=False))
    assert results.keys() >= KEYS
    assert results["causal"].keys() == results["paper"].keys() == COLUMN
    assert results["motion_baseline"].keys() == {"auc_micro"}
    assert (results["dataset"], results["n_videos"], results["n_frames"]) == ("folder", 2, 100)
    assert results["n_scored"] == 100 - 2 * 4
    assert results["frames_per_second"] > 0
    assert results["causal"]["detection_delay_s"] is None or results["causal"]["detection_delay_s"] >= 0
    assert results["paper"]["false_alarms_per_hour"] is None, "no live system can normalise by the whole video"


def test_values_agree_with_scikit_learn(done: Evaluation) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    causal, (scores, labels) = done.results["causal"], flat(done)
    assert causal["auc_micro"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert causal["ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert causal["fpr95"] == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-12)
    assert causal["eer"] == pytest.approx(np.interp(1.0, false + true, false), abs=1e-12)
    each = [roc_auc_score(video.scored_labels, video.score) for video in done.videos]
    assert causal["auc_macro"] == pytest.approx(np.mean(each), abs=1e-12)
    low, high = causal["auc_micro_ci95"]
    assert low <= causal["auc_micro"] <= high
    control, _ = flat(done, "motion_baseline")
    assert done.results["motion_baseline"]["auc_micro"] == pytest.approx(roc_auc_score(labels, control), abs=1e-12)
    thesis, _ = flat(done, "thesis")
    assert done.results["thesis"]["auc_micro"] == pytest.approx(roc_auc_score(labels, thesis), abs=1e-12)


def test_the_paper_column_divides_each_video_by_its_maximum(done: Evaluation) -> None:
    from sklearn.metrics import roc_auc_score

    _, labels = flat(done)
    lowest = min(0.0, *(video.score.min() for video in done.videos))
    scaled = [(video.score - lowest) / (video.score.max() - lowest) for video in done.videos]
    assert done.results["paper"]["auc_micro"] == pytest.approx(roc_auc_score(labels, np.concatenate(scaled)), abs=1e-12)


def test_the_same_command_twice_gives_the_same_results(done: Evaluation, detector: Detector, walkway: Path) -> None:
    again = evaluate(detector, open_dataset(f"folder:{walkway}"), false_alarms="100/h")
    assert {**again.results, "frames_per_second": 0} == {**done.results, "frames_per_second": 0}


def test_alarms_are_counted_at_other_budgets_too(done: Evaluation, detector: Detector, walkway: Path) -> None:
    budgets = {one["false_alarm_budget"]: one for one in done.results["budgets"]}
    assert list(budgets) == ["1/day", "1/h", "10/h", "1/min"]
    thresholds = [one["threshold"] for one in budgets.values()]
    assert thresholds == sorted(thresholds, reverse=True)
    for budget, one in budgets.items():
        asked = evaluate(detector, open_dataset(f"folder:{walkway}"), false_alarms=budget).results
        assert one["threshold"] == asked["threshold"]
        assert one["missed_anomalies"] == asked["missed_anomalies"]
        for key in ("false_alarms_per_hour", "detection_delay_s", "detection_delay_in_view_s"):
            assert one[key] == asked["causal"][key], (budget, key)


@pytest.mark.parametrize("protocol", ["causal", "paper"])
def test_one_protocol_leaves_the_other_column_out(detector: Detector, tmp_path: Path, protocol: str) -> None:
    data = data_set(tmp_path, {"01": [False] * 10 + [True] * 10})
    results = evaluate(detector, open_dataset(data), protocols=(protocol,)).results
    assert {name for name in ("causal", "paper") if results[name] is not None} == {protocol}


LABELS = {"01": [False] * 12 + [True] * 8 + [False] * 10, "02": [False] * 7 + [True] * 11 + [False] * 12}


@pytest.mark.parametrize("late", [0, 1, 3])
def test_labels_and_scores_of_a_frame_are_aligned(nano_bundle: Path, tmp_path: Path, late: int) -> None:
    fixed = FixedScores.open(nano_bundle, threads=1)
    fixed.late = late
    done = evaluate(fixed, open_dataset(data_set(tmp_path, LABELS)))
    expected = [np.array(labels)[4 - late : 30 - late] for labels in LABELS.values()]
    for video, bright in zip(done.videos, expected, strict=True):
        np.testing.assert_array_equal(video.frames, np.arange(4, 30))
        np.testing.assert_array_equal(video.score > video.score.mean(), bright)
    assert (done.results["causal"]["auc_micro"] == 1.0) == (late == 0)
    assert (done.results["causal"]["auc_macro"] == 1.0) == (late == 0)


def test_a_frame_that_cannot_be_read_does_not_shift_the_labels(nano_bundle: Path, tmp_path: Path) -> None:
    data = data_set(tmp_path, LABELS)
    (tmp_path / "testing" / "01" / "006.png").write_bytes(b"not a picture")
    done = evaluate(FixedScores.open(nano_bundle, threads=1), open_dataset(data))
    assert done.results["causal"]["auc_micro"] == 1.0
    assert done.videos[0].frames.tolist() == [4, 5, *range(11, 30)]
    assert any("006.png" in problem for problem in done.problems)


def test_data_of_one_class_has_false_alarms_but_no_auc(detector: Detector, tmp_path: Path) -> None:
    done = evaluate(detector, open_dataset(data_set(tmp_path, {"01": [False] * 20, "02": [False] * 20})))
    causal = done.results["causal"]
    nothing = {"auc_micro", "auc_micro_ci95", "auc_macro", "ap", "eer", "fpr95", "detection_delay_s"}
    assert {key for key in nothing if causal[key] is not None} == set()
    assert causal["false_alarms_per_hour"] >= 0
    assert done.results["motion_baseline"]["auc_micro"] is None


def test_videos_of_one_class_are_skipped_in_the_macro_auc_only(nano_bundle: Path, tmp_path: Path) -> None:
    done = evaluate(
        FixedScores.open(nano_bundle, threads=1), open_dataset(data_set(tmp_path, {**LABELS, "03": [True] * 20}))
    )
    assert done.results["causal"]["auc_micro"] == 1.0
    assert done.results["causal"]["auc_macro"] == 1.0
    assert done.results["n_videos"] == 3


def test_without_normal_frames_there_is_no_false_alarm_rate(detector: Detector, tmp_path: Path) -> None:
    causal = evaluate(detector, open_dataset(data_set(tmp_path, {"01": [True] * 20}))).results["causal"]
    assert causal["auc_micro"] is None
    assert causal["false_alarms_per_hour"] is None


def test_without_labels_every_metric_is_null(detector: Detector, tmp_path: Path) -> None:
    done = evaluate(detector, open_dataset(data_set(tmp_path, {"01": None})), images=True)
    results = done.results
    assert set(results["causal"].values()) == set(results["paper"].values()) == {None}
    assert (
        results["motion_baseline"]["auc_micro"] is results["thesis"]["auc_micro"] is results["missed_anomalies"] is None
    )
    assert results["n_scored"] == 26
    write_evaluation_report(done, detector.bundle, "openvino", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_videos_without_labels_are_no_part_of_the_metrics(nano_bundle: Path, tmp_path: Path) -> None:
    fixed = FixedScores.open(nano_bundle, threads=1)
    alone = evaluate(fixed, open_dataset(data_set(tmp_path / "alone", LABELS))).results
    mixed = evaluate(fixed, open_dataset(data_set(tmp_path / "mixed", {**LABELS, "03": None})))
    assert mixed.results["causal"] == alone["causal"]
    assert mixed.results["motion_baseline"] == alone["motion_baseline"]
    assert (mixed.results["n_videos"], mixed.results["n_labelled"], alone["n_labelled"]) == (3, 2, 2)
    assert any("03" in note for note in mixed.notes)


def test_labels_that_are_numbers_give_the_same_results_as_bool() -> None:
    flags = np.arange(8) > 5
    found = []
    for labels in (flags, flags.astype(np.int64), flags.tolist()):
        video = LabelledSource("01", "nowhere", 8, labels)  # type: ignore[arg-type]
        assert video.labels is not None
        scored = FrameScores(
            name="01", n_frames=8, frames=np.arange(1, 8), score=np.arange(7.0) % 6, labels=video.labels
        )
        found.append(frame_results([scored], "folder")["per_video"])
    assert found[0][0]["auc_against_all"] == pytest.approx(0.55)
    assert found[1] == found[2] == found[0]


@pytest.mark.parametrize(("rate", "n_scored"), [(5, 26), (10, 26), (20, 22)])
def test_rates_per_hour_use_the_frame_rate_of_the_video(
    nano_bundle: Path, tmp_path: Path, rate: int, n_scored: int
) -> None:
    """The first four samples have no score: eight frames of a video at twice the rate of the training."""
    labels = [False] * 30
    fixed = FixedScores.open(nano_bundle, threads=1)
    fixed.values = [9.0 if 10 <= i < 15 else 0.0 for i in range(30)]
    save_video(tmp_path / "testing" / "01.mp4", bright_images(labels), rate=rate)
    save_labels(tmp_path / "testing" / "labels" / "01.csv", labels)
    done = evaluate(fixed, open_dataset(f"folder:{tmp_path}"))
    assert done.results["causal"]["false_alarms_per_hour"] == pytest.approx(3600 / (n_scored / rate))
    assert done.notes[0].startswith(f"The first {30 - n_scored} frames of every video have no score")


@pytest.mark.parametrize(("n_high", "n_events"), [(1, 0), (2, 1)])
def test_frames_between_two_samples_do_not_make_an_alarm_longer(
    nano_bundle: Path, tmp_path: Path, n_high: int, n_events: int
) -> None:
    """A video at twice the rate of the training has the alarms that the product has."""
    labels = [False] * 40
    fixed = FixedScores.open(nano_bundle, threads=1)
    fixed.values = [9.0 if 10 <= i < 10 + n_high else 0.0 for i in range(40)]
    path = save_video(tmp_path / "testing" / "01.mp4", bright_images(labels), rate=20)
    save_labels(tmp_path / "testing" / "labels" / "01.csv", labels)
    (video,) = evaluate(fixed, open_dataset(f"folder:{tmp_path}")).videos
    alarms, calibration = video.alarms["1/h"], fixed.bundle.calibration
    fixed.reset()
    finder = EventFinder("01", calibration.threshold("1/h"), calibration.settings)
    expected = [(event.start_frame, event.end_frame) for event in finder.run(fixed.run(path))]
    assert [(event.start_frame, event.end_frame) for event in alarms.events] == expected
    assert len(expected) == n_events
    assert alarms.above_threshold.sum() == 2 * n_high, "the frame after a sample is as the sample"
    assert alarms.alarm_open.sum() == 2 * n_events


def test_a_video_too_short_for_a_score_is_named(detector: Detector, tmp_path: Path) -> None:
    data = data_set(tmp_path, {"01": LABELS["01"], "02": [False] * 3})
    done = evaluate(detector, open_dataset(data))
    assert done.results["n_videos"] == 1
    assert any(problem.startswith("02: 3 frames are too few") for problem in done.problems)


def test_nothing_to_score_is_an_error_with_the_reasons(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"01: 2 frames are too few"):
        evaluate(detector, open_dataset(data_set(tmp_path / "short", {"01": [False] * 2})))
    save_frames(tmp_path / "other" / "training" / "01", clip(0)[0][:2])
    with pytest.raises(EvaluationError, match="it lists none"):
        evaluate(detector, open_dataset(f"folder:{tmp_path / 'other'}"))


def test_the_worst_errors_are_stored_with_their_images(done: Evaluation) -> None:
    for video in done.videos:
        labels = video.scored_labels
        assert labels is not None
        found = {finding.kind: finding for finding in video.findings}
        assert found["miss"].score == video.score[labels].min()
        assert found["false alarm"].score == video.score[~labels].max()
        assert all(finding.image.dtype == np.uint8 for finding in video.findings)


def test_an_alarm_is_open_once_its_event_is_long_enough_and_not_in_frames_that_only_join_it(
    nano_bundle: Path, tmp_path: Path
) -> None:
    """An anomaly that lies between the two halves of one event, and in which nothing was high, is missed."""
    fixed = FixedScores.open(nano_bundle, threads=1)
    fixed.values = [9.0 if i in (8, 9, 10, 16, 17, 18) else 0.0 for i in range(30)]
    rate = float(fixed.bundle.calibration.rate_hz)
    labels = [12 <= i < 15 for i in range(30)]
    results = evaluate(fixed, open_dataset(data_set(tmp_path / "between", {"01": labels}))).results
    assert results["missed_anomalies"] == 1
    assert results["causal"]["false_alarms_per_hour"] == pytest.approx(3600 / (23 / rate))
    results = evaluate(fixed, open_dataset(data_set(tmp_path / "late", {"01": [i >= 8 for i in range(30)]}))).results
    assert results["causal"]["detection_delay_s"] == pytest.approx(1 / rate), "two high scores make an alarm"
    assert results["causal"]["anomalies_in_view"] == 1


def test_training_videos_behind_a_derived_data_set_are_named(detector: Detector) -> None:
    data = SimpleNamespace(base="synthetic", source_videos=("01", "02"))
    for trained, held_out, known in (
        ({"01": 80}, {"02": 80}, ["01"]),
        ({"01": 64, "02": 64}, {"01": 16, "02": 16}, []),
        ({}, {}, []),
    ):
        provenance = {"dataset": "synthetic:frames=80", "trained_on": trained, "held_out": held_out}
        assert _trained_on(data, replace(detector.bundle, provenance=provenance)) == known
    other = {"dataset": "ped2", "trained_on": {"01": 80}, "held_out": {}}
    assert _trained_on(data, replace(detector.bundle, provenance=other)) == []
