"""What `comemory score` says on the false-alarm budget: the default, and what to do where there is no event."""

from __future__ import annotations

from pathlib import Path

import pytest
from footage import clip, comemory, save_video

from comemory.batch import score_sources
from comemory.detector import Detector
from comemory.scoring.budgets import BUDGETS


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_video(tmp_path_factory.mktemp("gate") / "gate.mp4", clip(0)[0])


def test_budget_at_which_there_would_be_an_event(nano_bundle: Path, gate: Path, tmp_path: Path) -> None:
    detector = Detector.open(nano_bundle, threads=1)
    found = score_sources(detector, [str(gate)], tmp_path / "0", false_alarms="1e-9/h").event_at
    assert found is not None
    assert score_sources(detector, [str(gate)], tmp_path / "1", false_alarms=found).events
    fewer_alarms = BUDGETS[: BUDGETS.index(found)]
    if fewer_alarms:
        assert not score_sources(detector, [str(gate)], tmp_path / "2", false_alarms=fewer_alarms[-1]).events


def test_default_budget_is_that_of_the_model(nano_bundle: Path, gate: Path, tmp_path: Path) -> None:
    detector = Detector.open(nano_bundle, threads=1)
    assert score_sources(detector, [str(gate)], tmp_path / "out").false_alarms == detector.bundle.default_budget


def test_without_an_event_the_output_says_what_to_do(nano_bundle: Path, gate: Path, tmp_path: Path) -> None:
    done = comemory("score", nano_bundle, gate, "--false-alarms", "1e-6/h", "--threads", 1, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "of normal footage: budgets down to" in text
    assert text.startswith("0 events")
    assert "there would be one at --false-alarms" in text
    assert "1e-6/h needs about" in text
    assert "of training footage" in text
