"""Another scoring for a trained network: the same weights, the same held-out video, or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from bundles import copied, read, write

from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.errors import BundleError, ConfigError, TrainingError
from comemory.scoring import ScoringSettings
from comemory.training.recalibrate import bundle_training_config, recalibrate
from comemory.types import Frame

DATA = "synthetic:seed=1,frames=60,training=3,testing=1,size=96x144"
"""What `nano_bundle` was trained on."""


def test_the_same_scoring_gives_the_same_calibration(nano_bundle: Path, cache: Path, tmp_path: Path) -> None:
    before = open_bundle(nano_bundle)
    trained = recalibrate(nano_bundle, DATA, before.calibration.settings, tmp_path / "same", cache=cache)
    assert trained.problems == []
    after = open_bundle(trained.bundle)
    assert after.calibration == before.calibration
    assert after.config == before.config


def test_another_scoring_changes_the_calibration_only(
    nano_bundle: Path, cache: Path, tmp_path: Path, scene_frames: list[Frame]
) -> None:
    before = open_bundle(nano_bundle)
    scoring = ScoringSettings(motion=("motion_distance:8",), appearance=("frame_error:8",), appearance_penalty=2.0)
    recalibrate(nano_bundle, DATA, scoring, tmp_path / "other", cache=cache)
    after = open_bundle(tmp_path / "other")
    assert after.calibration.settings == scoring
    assert set(after.calibration.scales) == {"motion_distance:8", "frame_error:8", "score"}
    assert after.config["scoring"] == scoring.model_dump(mode="json")
    assert {**after.config, "scoring": 0} == {**before.config, "scoring": 0}
    for member in ("weights.safetensors", "items.safetensors", "model.onnx"):
        assert (tmp_path / "other" / member).read_bytes() == (nano_bundle / member).read_bytes()
    assert after.provenance["recalibrated"]["from"] == before.digest[:16]
    assert after.provenance["held_out"] == before.provenance["held_out"]
    assert open_bundle(nano_bundle).digest == before.digest
    detector = Detector(after, threads=1)
    scores = [scored for frame in scene_frames if (scored := detector.step(frame)) is not None]
    assert len(scores) == len(scene_frames) - after.clips.n_past


def test_other_video_is_refused(nano_bundle: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is not the video that .* was trained with \(its content differs\)"):
        recalibrate(nano_bundle, DATA.replace("seed=1", "seed=2"), ScoringSettings(), tmp_path / "x", cache=cache)
    assert not (tmp_path / "x").exists()


def test_another_split_of_the_same_video_is_refused(nano_bundle: Path, cache: Path, tmp_path: Path) -> None:
    provenance = {**read(nano_bundle, "provenance.json"), "held_out": {"01": 7}}
    changed = write(copied(nano_bundle, tmp_path), "provenance.json", provenance)
    with pytest.raises(TrainingError, match=r"held out \{'01': 7\} .* this version holds out"):
        recalibrate(changed, DATA, ScoringSettings(), tmp_path / "x", cache=cache)


def test_settings_of_another_version_are_refused(nano_bundle: Path, tmp_path: Path) -> None:
    config = read(nano_bundle, "config.json")
    config["train"]["warmth"] = 3
    changed = write(copied(nano_bundle, tmp_path), "config.json", config)
    with pytest.raises(BundleError, match=r"unknown config key 'train\.warmth'.* train it again"):
        bundle_training_config(open_bundle(changed))


def test_a_channel_whose_memory_is_off_is_refused(nano_bundle: Path, tmp_path: Path) -> None:
    config = read(nano_bundle, "config.json")
    config["network"]["motion_items"] = 0
    changed = write(copied(nano_bundle, tmp_path), "config.json", config)
    with pytest.raises(ConfigError, match=r"'motion_distance:8' needs a memory, but network\.motion_items is 0"):
        bundle_training_config(open_bundle(changed), ScoringSettings(motion=("motion_distance:8",)))
