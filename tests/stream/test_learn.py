"""Learning from a camera: what is recorded, calibrated, put in force and taken back; drift; the doctor."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest
from footage import comemory
from stream.conftest import until

from comemory.bundle import open_bundle
from comemory.errors import ConfigError, SourceError, TrainingError
from comemory.stream.doctor import examine
from comemory.stream.drift import DriftGuard
from comemory.stream.engine import Engine
from comemory.stream.learn import Recorder, recalibrated, train_apart
from comemory.stream.minutes import PARTS, MinuteScores
from comemory.stream.models import CameraModels
from comemory.stream.settings import DriftSettings, LiveSettings

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


@pytest.fixture
def settings(clips: list[Path], live: Live) -> LiveSettings:
    return live({"gate": {"url": str(clips[1]), "loop": True, "realtime": False}})


def test_record_calibrate_hand_over_and_back(settings: LiveSettings, engines: Engines, tmp_path: Path) -> None:
    recorder = Recorder(settings, "gate", tmp_path / "recorded")
    data = recorder.run(3, lambda _: None)
    counts = []
    for clip in sorted(data.iterdir()):
        with av.open(str(clip)) as container:
            counts.append(sum(1 for _ in container.decode(video=0)))
            assert container.streams.video[0].average_rate == 10
    assert sum(counts) <= recorder.n_frames
    old = open_bundle(settings.bundle_of("gate"))
    place = recalibrated(old.path, data, tmp_path / "new")
    new = open_bundle(place)
    assert new.digest != old.digest
    assert new.calibration.settings == old.calibration.settings
    assert new.calibration.n_frames <= sum(counts)

    models = CameraModels(settings, "gate")
    with pytest.raises(ConfigError, match="nothing to go back to"):
        models.roll_back()
    engine = engines(settings)
    until(lambda: engine.status()[0].scored > 2)
    models.put(place)
    assert models.current == place
    until(lambda: engine.status()[0].model_sha256 == new.digest)
    assert models.roll_back() == old.path
    until(lambda: engine.status()[0].model_sha256 == old.digest)


def test_the_quota_ends_the_recording(settings: LiveSettings, tmp_path: Path) -> None:
    tiny = settings.model_copy(update={"learn": settings.learn.model_copy(update={"gigabytes": 1e-9})})
    data = tmp_path / "recorded"
    data.mkdir()
    (data / "before.mp4").write_bytes(b"full")
    with pytest.raises(SourceError, match="only 0 usable frames"):
        Recorder(tiny, "gate", data).run(1, lambda _: None)


def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the training failed: error"):
        train_apart(tmp_path / "nothing", tmp_path / "out", "small", 0.9, lambda _: None)


class TestDrift:
    def feed(self, shift: float, hours: int) -> DriftGuard:
        guard = DriftGuard(DriftSettings(hours=3, least_frames=100))
        rng = np.random.default_rng(0)
        for k in range(hours * 360 + 1):
            guard.push(k * 10.0, float(-np.log10(1 - rng.random())) + shift)
        return guard

    def test_scores_as_calibrated_are_no_drift(self) -> None:
        guard = self.feed(0.0, 4)
        assert guard.passed == pytest.approx(1, abs=0.15)
        assert guard.message is None

    @pytest.mark.parametrize(("shift", "word"), [(0.8, "more"), (-0.9, "less")])
    def test_moved_scores_are_told_with_the_cure(self, shift: float, word: str) -> None:
        message = self.feed(shift, 4).message
        assert message is not None
        assert f"score {word} than calibrated" in message
        assert "--recalibrate" in message

    def test_a_few_hours_are_not_enough(self) -> None:
        assert self.feed(2.0, 2).message is None


def test_minutes_keep_the_highest_of_each_part() -> None:
    minutes, at = MinuteScores(), 60_000_000.0
    assert minutes.push(at, 1.0) is None
    assert minutes.push(at + 1, 3.0) is None
    assert minutes.push(at + 59.9, 2.0) is None
    done = minutes.push(at + 60, 0.5)
    assert done == (datetime.fromtimestamp(at, UTC), [3.0, *[2.0] * (PARTS - 1)])
    assert minutes.finish() is not None
    assert minutes.finish() is None


def test_the_doctor_finds_what_is_wrong_and_its_cure(clips: list[Path], live: Live) -> None:
    told = live(
        {
            "gate": {"url": str(clips[0])},
            "dead": {"url": "rtsp://user:hidden@127.0.0.1:9/live"},
            "none": {"url": "env:NO_SUCH"},
        },
        store={"enabled": False},
    )
    found = {check.what: check for check in examine(told)}
    assert found["camera gate"].well
    assert "144x96" in found["camera gate"].found
    assert found["camera dead"].well is False
    assert "address and port" in found["camera dead"].cure
    assert "hidden" not in repr(found)
    assert "NO_SUCH" in found["camera none"].found
    assert found["disk"].well is not None
    assert all(check.cure for check in found.values() if check.well is False)


def test_the_doctor_on_the_command_line(clips: list[Path], quick_bundle: Path, tmp_path: Path) -> None:
    asked = ["--camera", f"gate={clips[0]}", "--model", quick_bundle, "--store", "none", "--out", tmp_path, "--json"]
    done = comemory("doctor", *asked, "--set", "retention.gigabytes=0.001")
    checks = json.loads(done.stdout)
    assert {check["what"] for check in checks} >= {"camera gate", "disk", "store", "time", "port", "processor"}
    assert done.returncode == any(check["well"] is False for check in checks)


@pytest.mark.parametrize("time", ["soon", "", "5", "-3h", "0h"])
def test_times_that_are_none(time: str) -> None:
    from comemory.cli.live import _seconds

    with pytest.raises(ConfigError, match="24h, 90m or 600s"):
        _seconds(time)
