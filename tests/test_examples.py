"""The scripts in `examples/` work when they are run as a reader would run them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from comemory.cli.demo import BUNDLE, shipped_bundle
from comemory.errors import BundleError

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LONGEST = 30


def run(name: str, *arguments: object) -> str:
    """The output of an example."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What `train_tiny.py` made: its bundle, and what it printed."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs the train extra: pip install '.[train]'")
    folder = tmp_path_factory.mktemp("examples")
    return folder / "tiny", run("train_tiny", folder)


@pytest.fixture(scope="module")
def tiny(training: tuple[Path, str]) -> Path:
    return training[0]


def shipped() -> Path:
    try:
        return shipped_bundle(BUNDLE)
    except BundleError as error:
        pytest.skip(f"needs the bundle models/{BUNDLE}: {error}")


def test_train_tiny_writes_a_bundle(training: tuple[Path, str]) -> None:
    bundle, printed = training
    assert (bundle / "manifest.json").is_file()
    assert re.search(r"^tiny: 72 frames calibrated it, sha256 [0-9a-f]{12}$", printed, re.MULTILINE)


def test_score_a_file_prints_what_it_found(tiny: Path) -> None:
    first, *events = run("score_a_file", tiny).splitlines()
    assert re.match(r"56 frames scored, the highest [\d.]+, threshold [\d.]+$", first)
    assert all(re.match(r"walk: [\d.]+ to [\d.]+ s, peak [\d.]+ at \(", event) for event in events)


def test_watch_frames_waits_and_then_scores(tiny: Path) -> None:
    lines = run("watch_frames", tiny).splitlines()
    assert len(lines) == 12
    assert all("no score yet" in line for line in lines[:4])
    assert all(" score " in line and " box (" in line for line in lines[4:])


def test_own_source_is_scored(tiny: Path) -> None:
    assert run("own_source", tiny).startswith("16 of 20 frames scored, mean ")


def test_evaluate_scores_needs_no_bundle() -> None:
    printed = run("evaluate_scores")
    assert re.search(r"^micro AUC 0\.\d{3}, 95 % interval over videos 0\.\d{3} to 0\.\d{3}$", printed, re.MULTILINE)
    assert "DetectionDelay(median_s=" in printed


def test_evaluate_released_scores_says_which_frames_were_dropped(tmp_path: Path) -> None:
    lines = run("evaluate_released_scores").splitlines()
    assert re.match(r"micro AUC 0\.\d{3}$", lines[0])
    assert lines[1] == "12 of 240 frames have no score and are left out: the first 4 of every video."
    command = [sys.executable, str(EXAMPLES / "evaluate_released_scores.py"), "synthetic:seed=2", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert refused.stderr.startswith(f"error: {tmp_path} has no .npy or .npz file")


@pytest.mark.parametrize("name", ["score_a_file", "watch_frames", "own_source"])
def test_without_arguments_the_shipped_bundle_is_used(name: str) -> None:
    shipped()
    assert run(name)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_tested(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < LONGEST
    assert f'"{path.stem}"' in Path(__file__).read_text(encoding="utf-8")
