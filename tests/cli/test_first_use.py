"""From footage to an event, as a new user does it: a short recording, the preset without a network, the default budget."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from footage import save_video

from comemory import cli
from comemory.datasets import open_dataset
from comemory.types import LabelledSource

REPOSITORY = Path(__file__).resolve().parents[2]
SCENE = "synthetic:seed=3,frames=360,rate=4,training=1,testing=1,size=64x96"
N_TEST = 150
"""Frames of the test video that are used: the anomaly has left by then."""
SMALL = tuple(f"--set=clips.{key}" for key in ("height=64", "width=96", "flow_height=64", "flow_width=96"))
"""Saves most of the time. The preset is what it is otherwise."""


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[int]]:
    """A folder with 90 s of normal video and a file of notes, a video with an anomaly, and its abnormal frames."""
    folder = tmp_path_factory.mktemp("footage")
    data = open_dataset(SCENE)
    (normal,), (test,) = data.training(), data.testing()
    assert isinstance(test, LabelledSource)
    assert test.labels is not None
    for path, video in ((folder / "yard" / "monday.mp4", normal), (folder / "tuesday.mp4", test)):
        save_video(path, [frame.image for frame in islice(video.source, N_TEST if video is test else None)], rate=4)
    (folder / "yard" / "notes.doc").write_text("rain")
    return folder / "yard", folder / "tuesday.mp4", [int(k) for k in test.labels.nonzero()[0]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that ends well, and gives what it prints in one line."""

    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert left.value.code == 0, said.err
        return " ".join(said.out.split())

    return call


def test_an_anomaly_is_found_after_90_s_of_footage(
    footage: tuple[Path, Path, list[int]], tmp_path: Path, run: Callable[..., str]
) -> None:
    yard, tuesday, abnormal = footage
    bundle, out = tmp_path / "models" / "yard", tmp_path / "results" / "scores"
    said = run("train", "--data", f"folder:{yard}", "--preset", "motion", *SMALL, "--out", bundle)
    held = "1 min 30 s of normal footage: budgets down to 10/h; 1/h needs about "
    assert f"note: {yard}/notes.doc: is not used, because .doc is not the ending of a video" in said
    assert held in said
    umask = os.umask(0o022)
    try:
        told = run("score", bundle, tuesday, "--out", out)
    finally:
        os.umask(umask)
    assert held in told
    assert "at most 10/h false alarms on normal video" in told, "the default is the smallest budget that it can hold"
    found = json.loads((out / "events.json").read_text(encoding="utf-8"))
    (event,) = found["events"]
    overlap = set(range(event["start_frame"], event["end_frame"] + 1)) & set(abnormal)
    assert len(overlap) > 0.8 * len(abnormal)
    assert event["start_frame"] - abnormal[0] <= 4, "it is found within a second"
    _require_private(out)


def _require_private(out: Path) -> None:
    """What the command made shows what a camera saw: only its owner may read it."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [out.parent, out, *out.rglob("*")]}
    assert len(modes) > 5
    assert not [path for path, mode in modes.items() if mode & 0o077], modes


def test_a_folder_that_exists_keeps_its_rights(tmp_path: Path, run: Callable[..., str]) -> None:
    umask = os.umask(0o022)
    try:
        (tmp_path / "shared").mkdir()
        still = save_video(tmp_path / "still.mp4", [np.zeros((64, 96, 3), np.uint8)] * 8)
        run("score", REPOSITORY / "models" / "synthetic-nano", still, "--out", tmp_path / "shared")
    finally:
        os.umask(umask)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "shared", *(tmp_path / "shared").iterdir()]
    }
    assert (modes["shared"], modes["scores.csv"]) == (0o755, 0o644)
