"""The control's scores are taken once for each video, and anew when the video is another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from footage import save_frames
from moving_disc import pictures

from comemory.datasets import open_dataset
from comemory.evaluation.motion_baseline import control_scores
from comemory.research.reproduce import baselines as controls
from comemory.research.reproduce.baselines import kept_control


def test_kept_scores_are_those_of_the_control_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_frames(tmp_path / "data" / "testing" / "01", pictures(6))
    (video,) = open_dataset(f"folder:{tmp_path / 'data'}").testing()
    expected = dict(control_scores(video.source, 10.0))
    assert dict(kept_control(tmp_path / "kept", "folder:x")(video, 10.0)) == expected
    monkeypatch.setattr(controls, "control_scores", lambda *asked: pytest.fail("taken again"))
    assert dict(kept_control(tmp_path / "kept", "folder:x")(video, 10.0)) == expected


def test_other_video_has_other_scores(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "testing" / "01"
    save_frames(folder, pictures(6))
    control = kept_control(tmp_path / "kept", "folder:x")
    (video,) = open_dataset(f"folder:{tmp_path / 'data'}").testing()
    before = dict(control(video, 10.0))
    shutil.rmtree(folder)
    save_frames(folder, pictures(12)[::2])
    assert dict(control(video, 10.0)) == dict(control_scores(video.source, 10.0)) != before


def test_video_made_of_other_video_is_told_by_that(tmp_path: Path) -> None:
    data = "pseudo:synthetic:seed=3,frames=80,training=10,testing=1,size=120x180"
    video = open_dataset(data).testing()[1]
    assert dict(kept_control(tmp_path, data)(video, 10.0)) == dict(control_scores(video.source, 10.0))
    assert dict(kept_control(tmp_path, data.replace("seed=3", "seed=4"))(video, 10.0))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_torn_file_is_made_again(tmp_path: Path) -> None:
    save_frames(tmp_path / "data" / "testing" / "01", pictures(6))
    (video,) = open_dataset(f"folder:{tmp_path / 'data'}").testing()
    control = kept_control(tmp_path / "kept", "folder:x")
    before = dict(control(video, 10.0))
    (file,) = (tmp_path / "kept").iterdir()
    file.write_text(file.read_text()[:20])
    assert dict(control(video, 10.0)) == before
    assert {int(k): v for k, v in json.loads(file.read_text()).items()} == before
