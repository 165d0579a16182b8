"""Score files: written row by row, readable without pickle, and evaluated whoever wrote them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comemory import metrics
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import EvaluationError, SourceError
from comemory.evaluation.evaluate import Evaluation, evaluate
from comemory.evaluation.released_scores import evaluate_released_scores, read_released_scores
from comemory.evaluation.scores_file import write_scores
from comemory.scoring import TailScale, fuse_channels, fuse_parts
from comemory.types import LabelledSource


@pytest.fixture(scope="module")
def detector(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def done(detector: Detector, walkway: Path) -> Evaluation:
    return evaluate(detector, open_dataset(f"folder:{walkway}"))


def test_every_array_has_a_row_for_each_scored_frame(done: Evaluation, detector: Detector, tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.npz", done.videos)
    decision = detector.bundle.calibration.settings
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as saved:
        assert saved["videos"].tolist() == ["01", "02"]
        assert saved["channels"].tolist() == [*decision.motion, *decision.appearance]
        for video in done.videos:
            for what in ("frames", "time_s", "score", "thesis", "motion_baseline", "raw"):
                np.testing.assert_array_equal(saved[f"{video.name}/{what}"], getattr(video, what))
            np.testing.assert_array_equal(saved[f"{video.name}/labels"], video.scored_labels)
            assert {len(saved[key]) for key in saved.files if key.startswith(video.name)} == {len(video.frames)}
        scores = [saved[f"{name}/score"] for name in saved["videos"]]
        labels = [saved[f"{name}/labels"] for name in saved["videos"]]
    assert metrics.micro_auc(scores, labels) == done.results["causal"]["auc_micro"]


def test_raw_values_calibrated_and_fused_give_the_score(done: Evaluation, detector: Detector) -> None:
    calibration = detector.bundle.calibration
    decision = calibration.settings
    assert decision.score == "comemory"
    assert not decision.smoothing_s

    def scaled(channels: tuple[str, ...], raw: np.ndarray) -> np.ndarray:
        scales: list[TailScale] = [calibration.scales[channel] for channel in channels]
        return fuse_channels([scale(column) for scale, column in zip(scales, raw.T, strict=True)], channels, decision)

    n_motion = len(decision.motion)
    for video in done.videos:
        motion = scaled(decision.motion, video.raw[:, :n_motion])
        appearance = scaled(decision.appearance, video.raw[:, n_motion:])
        whole = calibration.calibrated(fuse_parts(motion, appearance, decision))
        np.testing.assert_allclose(whole, video.score, rtol=1e-9)


def test_unknown_labels_are_left_out(done: Evaluation, tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.npz", [replace(done.videos[0], labels=None)])
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as saved:
        assert "01/labels" not in saved.files
        assert "01/score" in saved.files


def test_a_path_that_cannot_be_written_is_named(done: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SourceError, match="cannot write"):
        write_scores(tmp_path / "file" / "scores.npz", done.videos)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_written_file_is_evaluated_to_the_same_results(done: Evaluation, walkway: Path, tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.npz", done.videos)
    dataset = open_dataset(f"folder:{walkway}")
    results, notes = evaluate_released_scores(tmp_path / "scores.npz", dataset.name, dataset.testing())
    for column in ("causal", "paper"):
        for name, value in results[column].items():
            assert value == done.results[column][name], name
    assert results["motion_baseline"] == done.results["motion_baseline"]
    assert notes == ["8 of 100 frames have no score and are left out: the first 4 of every video."]


def test_the_paper_column_of_a_network_is_computed_again_from_its_file(
    autoencoder_bundle: Path, walkway: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(f"folder:{walkway}")
    done = evaluate(Detector.open(autoencoder_bundle, threads=1), dataset)
    write_scores(tmp_path / "scores.npz", done.videos)
    results, _ = evaluate_released_scores(tmp_path / "scores.npz", dataset.name, dataset.testing())
    assert results["paper_score"] == done.results["paper_score"] == "own"
    for name, value in results["paper"].items():
        assert value == done.results["paper"][name], name
    assert results["paper"]["auc_micro"] != results["causal"]["auc_micro"]


LABELS = np.array([False, False, True, True])
VIDEOS = [LabelledSource(name, "nowhere", 4, LABELS) for name in ("01", "02")]


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **{name.replace("__", "/").strip("v"): np.asarray(values) for name, values in arrays.items()})  # type: ignore[arg-type]
    return path


def test_one_array_for_each_video_is_enough(tmp_path: Path) -> None:
    file = write(tmp_path / "scores.npz", v01=[0.1, 0.2, 0.9, 0.8], v02=[np.nan, 0.1, 0.7, 0.05])
    results, notes = evaluate_released_scores(file, "folder", VIDEOS)
    assert (results["n_frames"], results["n_scored"]) == (8, 7)
    assert results["causal"]["auc_micro"] == 9 / 12
    assert results["motion_baseline"]["auc_micro"] is None
    assert notes == ["1 of 8 frames have no score and are left out: the first 1 of 02."]
    assert {one["score"] for one in results["protocols"]} == {"model"}


def test_a_file_without_any_score_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "scores.npz", v01=[np.nan] * 4, v02=[np.nan] * 4)
    with pytest.raises(EvaluationError, match="no score of any labelled frame, only nan"):
        evaluate_released_scores(file, "folder", VIDEOS)


def test_fewer_scores_than_frames_are_read_as_in_other_files(tmp_path: Path) -> None:
    file = write(tmp_path / "scores.npz", v01=[0.0, 0.5, 1.0], v02=[0.0, 0.5, 1.0])
    scored, notes = read_released_scores(file, VIDEOS)
    assert [video.frames.tolist() for video in scored] == [[1, 2, 3]] * 2
    assert notes[0] == "2 of 8 frames have no score and are left out: the first 1 of every video."
    assert "scaled within the whole video" in notes[1]


def test_scores_of_some_frames_name_their_frames(tmp_path: Path) -> None:
    file = write(tmp_path / "scores.npz", v01__score=[0.2, 0.9], v01__frames=[1, 3], v02=[0.0, 0.0, 1.0, 1.0])
    scored, _ = read_released_scores(file, VIDEOS)
    assert [video.frames.tolist() for video in scored] == [[1, 3], [0, 1, 2, 3]]
    assert scored[0].scored_labels is not None
    assert scored[0].scored_labels.tolist() == [False, True]


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"v01": [0.0] * 4}, "has no scores of video '02'"),
        ({"vother": [0.0], "vmore": [0.0]}, "has no scores of video '01' (and 1 more)"),
        ({"vother": [0.0]}, "has 1 scores for 8 frames of 2 videos"),
        ({"v01": [0.0] * 5, "v02": [0.0] * 4}, "video '01' has 5 scores for 4 frames"),
        ({"v01": [0.0, 1.0, np.inf, 0.0], "v02": [0.0] * 4}, "a score that is not finite"),
        ({"v01": [[0.0] * 2] * 2, "v02": [0.0] * 4}, "expected one real number for each frame"),
        ({"v01": ["a"] * 4, "v02": [0.0] * 4}, "expected one real number for each frame"),
        ({"v01__score": [0.0, 1.0], "v01__frames": [0], "v02": [0.0] * 4}, "expected one for each"),
        (
            {"v01__score": [0.0], "v01__frames": [2.0], "v02": [0.0] * 4},
            "01/frames holds float64: expected whole numbers",
        ),
        ({"v01": [0.0] * 4, "v01__own": [1.0], "v02": [0.0] * 4}, "01/own has 1 numbers for 4 scores"),
        ({"v01": [0.0] * 4, "v01__own": [np.nan] * 4, "v02": [0.0] * 4}, "a score that is not finite in own"),
        ({"v01__score": [0.0, 1.0], "v01__frames": [2, 4], "v02": [0.0] * 4}, "frames beyond 0 to 3"),
        ({"v01__score": [0.0, 1.0], "v01__frames": [2, 1], "v02": [0.0] * 4}, "out of order"),
    ],
)
def test_scores_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, object], reason: str) -> None:
    file = write(tmp_path / "scores.npz", **arrays)
    with pytest.raises(EvaluationError) as refused:
        read_released_scores(file, VIDEOS)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scores.npz").write_bytes(content)
    with pytest.raises(EvaluationError, match=r"is not a \.npz of plain arrays|is neither a \.npy nor a \.npz file"):
        read_released_scores(tmp_path / "scores.npz", VIDEOS)
    with pytest.raises(EvaluationError, match="cannot read the scores"):
        read_released_scores(tmp_path / "none.npz", VIDEOS)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "scores.npz", **{"01": np.array([{}], object)})  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="plain arrays"):
        read_released_scores(tmp_path / "scores.npz", VIDEOS)


def test_data_without_labels_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "scores.npz", v01=[0.0] * 4)
    with pytest.raises(EvaluationError, match="no test video has labels"):
        evaluate_released_scores(file, "folder", [LabelledSource("01", "nowhere", 4)])
