"""The file of scores: what was measured, row by row, readable without pickle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comemory import metrics
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import SourceError
from comemory.evaluation.evaluate import Evaluation, evaluate
from comemory.evaluation.scores_file import write_scores
from comemory.scoring import TailScale, fuse_channels, fuse_parts


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


def test_raw_values_scaled_and_joined_are_the_score(done: Evaluation, detector: Detector) -> None:
    calibration = detector.bundle.calibration
    decision = calibration.settings
    assert decision.score == "comemory"
    assert not decision.smoothing

    def scaled(channels: tuple[str, ...], raw: np.ndarray) -> np.ndarray:
        scales: list[TailScale] = [calibration.scales[channel] for channel in channels]
        return fuse_channels([scale(column) for scale, column in zip(scales, raw.T, strict=True)], channels, decision)

    n_motion = len(decision.motion)
    for video in done.videos:
        motion = scaled(decision.motion, video.raw[:, :n_motion])
        appearance = scaled(decision.appearance, video.raw[:, n_motion:])
        whole = calibration.calibrated(fuse_parts(motion, appearance, decision))
        np.testing.assert_allclose(whole, video.score, rtol=1e-9)


def test_labels_that_are_not_known_are_left_out(done: Evaluation, tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.npz", [replace(done.videos[0], labels=None)])
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as saved:
        assert "01/labels" not in saved.files
        assert "01/score" in saved.files


def test_a_place_that_cannot_be_written_is_said(done: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SourceError, match="cannot write"):
        write_scores(tmp_path / "file" / "scores.npz", done.videos)
    assert (tmp_path / "file").read_text() == "kept"
