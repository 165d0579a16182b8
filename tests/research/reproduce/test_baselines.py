"""The baseline's scores are computed once for each video, and again when the video changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from footage import save_frames
from moving_disc import disc_images

from comemory.evaluation.motion_baseline import motion_baseline_scores
from comemory.research.pseudo_anomalies.dataset import open_any_dataset
from comemory.research.reproduce import baselines
from comemory.research.reproduce.baselines import cached_motion_baseline


def test_cached_scores_equal_the_baseline_and_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_frames(tmp_path / "data" / "testing" / "01", disc_images(6))
    (video,) = open_any_dataset(f"folder:{tmp_path / 'data'}").testing()
    expected = dict(motion_baseline_scores(video.source, 10.0, 10.0))
    assert dict(cached_motion_baseline(tmp_path / "cache", "folder:x")(video, 10.0, 10.0)) == expected
    monkeypatch.setattr(baselines, "motion_baseline_scores", lambda *_: pytest.fail("computed again"))
    assert dict(cached_motion_baseline(tmp_path / "cache", "folder:x")(video, 10.0, 10.0)) == expected


def test_changed_video_gets_new_scores(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "testing" / "01"
    save_frames(folder, disc_images(6))
    scores_of = cached_motion_baseline(tmp_path / "cache", "folder:x")
    (video,) = open_any_dataset(f"folder:{tmp_path / 'data'}").testing()
    before = dict(scores_of(video, 10.0, 10.0))
    shutil.rmtree(folder)
    save_frames(folder, disc_images(12)[::2])
    assert dict(scores_of(video, 10.0, 10.0)) == dict(motion_baseline_scores(video.source, 10.0, 10.0)) != before


def test_derived_video_is_cached_by_the_video_it_is_made_of(tmp_path: Path) -> None:
    data = "pseudo:synthetic:seed=3,frames=80,training=10,testing=1,size=60x96,crowd=2"
    video = open_any_dataset(data).testing()[1]
    assert dict(cached_motion_baseline(tmp_path, data)(video, 10.0, 10.0)) == dict(
        motion_baseline_scores(video.source, 10.0, 10.0)
    )
    assert dict(cached_motion_baseline(tmp_path, data.replace("seed=3", "seed=4"))(video, 10.0, 10.0))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_truncated_file_is_computed_again(tmp_path: Path) -> None:
    save_frames(tmp_path / "data" / "testing" / "01", disc_images(6))
    (video,) = open_any_dataset(f"folder:{tmp_path / 'data'}").testing()
    scores_of = cached_motion_baseline(tmp_path / "cache", "folder:x")
    before = dict(scores_of(video, 10.0, 10.0))
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(file.read_text()[:20])
    assert dict(scores_of(video, 10.0, 10.0)) == before
    assert {int(k): v for k, v in json.loads(file.read_text()).items()} == before
