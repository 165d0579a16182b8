"""The matrix of protocols: against SciPy and scikit-learn, and in agreement with the other results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from footage import bright_images, save_frames
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from comemory.cli import app
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.evaluation.evaluate import Evaluation, evaluate
from comemory.evaluation.protocols import SIGMA_FRAMES


@pytest.fixture(scope="module")
def done(nano_bundle: Path, walkway: Path) -> Evaluation:
    return evaluate(Detector.open(nano_bundle, threads=1), open_dataset(f"folder:{walkway}"))


def record(done: Evaluation, score: str, normalisation: str, smoothing: str) -> dict[str, Any]:
    (found,) = [
        one
        for one in done.results["protocols"]
        if (one["score"], one["normalisation"], one["smoothing"]) == (score, normalisation, smoothing)
    ]
    return dict(found)


def test_every_combination_occurs_once(done: Evaluation) -> None:
    matrix = json.loads(json.dumps(done.results["protocols"], allow_nan=False))
    assert len(matrix) == 27
    assert {frozenset(one) for one in matrix} == {
        frozenset({"score", "normalisation", "smoothing", "auc_micro", "auc_macro"})
    }
    assert len({(one["score"], one["normalisation"], one["smoothing"]) for one in matrix}) == 27


def test_protocols_that_look_ahead_are_called_offline(done: Evaluation) -> None:
    names = {one[key] for one in done.results["protocols"] for key in ("normalisation", "smoothing")}
    assert names == {"raw", "none", "causal", "offline_max", "offline_min_max", "offline_gaussian"}


def test_the_matrix_agrees_with_the_other_results(done: Evaluation) -> None:
    results = done.results
    for column, normalisation in (("causal", "raw"), ("paper", "offline_max")):
        cell = record(done, "model", normalisation, "none")
        for key in ("auc_micro", "auc_macro"):
            assert cell[key] == results[column][key]
    assert record(done, "thesis", "raw", "none")["auc_micro"] == results["thesis"]["auc_micro"]
    assert record(done, "thesis", "offline_max", "none")["auc_micro"] == results["thesis"]["auc_micro_paper"]
    assert record(done, "motion_baseline", "raw", "none")["auc_micro"] == results["motion_baseline"]["auc_micro"]


@pytest.mark.parametrize("score", ["model", "thesis", "motion_baseline"])
def test_smoothing_and_normalisation_equal_those_of_other_libraries(done: Evaluation, score: str) -> None:
    labels = [video.scored_labels for video in done.videos if video.scored_labels is not None]
    raw = [video.score if score == "model" else getattr(video, score) for video in done.videos]
    smooth = [gaussian_filter1d(values, SIGMA_FRAMES) for values in raw]
    scaled = [(values - values.min()) / np.ptp(values) for values in smooth]
    cell = record(done, score, "offline_min_max", "offline_gaussian")
    assert cell["auc_micro"] == pytest.approx(roc_auc_score(np.concatenate(labels), np.concatenate(scaled)), abs=1e-9)
    each = [roc_auc_score(y, values) for y, values in zip(labels, smooth, strict=True)]
    assert cell["auc_macro"] == pytest.approx(np.mean(each), abs=1e-9)


def test_normalising_a_video_does_not_change_its_auc(done: Evaluation) -> None:
    for score in ("model", "thesis", "motion_baseline"):
        for smoothing in ("none", "causal", "offline_gaussian"):
            macro = {
                round(record(done, score, normalisation, smoothing)["auc_macro"], 9)
                for normalisation in ("raw", "offline_max", "offline_min_max")
            }
            assert len(macro) == 1


def test_each_video_has_its_own_record(done: Evaluation) -> None:
    lines = done.results["per_video"]
    assert [line["name"] for line in lines] == [video.name for video in done.videos]
    for line, video in zip(lines, done.videos, strict=True):
        assert video.labels is not None
        assert video.scored_labels is not None
        assert line["auc"] == pytest.approx(roc_auc_score(video.scored_labels, video.score), abs=1e-12)
        assert line["auc_motion_baseline"] == pytest.approx(
            roc_auc_score(video.scored_labels, video.motion_baseline), abs=1e-12
        )
        abnormal = video.score[video.scored_labels]
        against = [abnormal, *(one.score[~one.scored_labels] for one in done.videos if one.scored_labels is not None)]
        among = np.arange(sum(map(len, against))) < len(abnormal)
        assert line["auc_against_all"] == pytest.approx(roc_auc_score(among, np.concatenate(against)), abs=1e-12)
        assert line["n_frames"] == len(video.labels) == line["n_scored"] + 4
        assert line["n_abnormal"] == video.labels.sum()
    assert sum(line["missed_anomalies"] for line in lines) == done.results["missed_anomalies"]
    assert np.mean([line["auc"] for line in lines]) == pytest.approx(done.results["causal"]["auc_macro"])


def test_without_labels_every_auc_is_null(nano_bundle: Path, tmp_path: Path) -> None:
    save_frames(tmp_path / "testing" / "01", bright_images([False] * 12))
    results = evaluate(Detector.open(nano_bundle, threads=1), open_dataset(f"folder:{tmp_path}")).results
    assert {one[key] for one in results["protocols"] for key in ("auc_micro", "auc_macro")} == {None}
    (line,) = results["per_video"]
    assert {line[key] for key in ("auc", "auc_against_all", "n_abnormal", "missed_anomalies")} == {None}


def test_the_command_prints_the_matrix_and_writes_the_scores(nano_bundle: Path, walkway: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "scores.npz"
    line = ["evaluate", str(nano_bundle), "--data", f"folder:{walkway}", "--threads", "1", "--matrix"]
    said = CliRunner().invoke(app, [*line, "--scores", str(file)])
    assert said.exit_code == 0, said.output
    assert "AUC, micro / macro, by normalisation and smoothing" in said.output
    for name in ("model, raw", "thesis, offline_max", "motion_baseline, offline_min_max", "offline_gaussian"):
        assert name in said.output
    with np.load(file, allow_pickle=False) as saved:
        assert saved["videos"].tolist() == ["01", "02"]
