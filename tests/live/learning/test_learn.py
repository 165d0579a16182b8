"""Training on a camera: recording, calibration, activation and rollback; drift; the doctor."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from footage import comemory, save_video
from live.conftest import REPOSITORY, until
from live.test_live import seconds
from moving_disc import disc_images

from comemory.bundle import open_bundle
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import ConfigError, RuntimeMissing, SourceError, TrainingError
from comemory.live.config import LearnSettings, LiveSettings, read_live
from comemory.live.doctor import run_checks
from comemory.live.engine import Engine
from comemory.live.learning.learn import learn, recalibrate_bundle, train_in_subprocess
from comemory.live.learning.models import CameraModels
from comemory.live.learning.progress import LearningProgress
from comemory.live.learning.recorder import CameraRecorder
from comemory.live.monitoring.score_drift import DriftMonitor
from comemory.live.recording.minute_scores import N_PARTS, MinuteScores
from comemory.runtimes import supports

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


@pytest.fixture
def settings(clips: list[Path], live: Live) -> LiveSettings:
    return live({"gate": {"url": str(clips[1]), "loop": True, "realtime": False}})


def test_recorded_recalibrated_activated_and_rolled_back(
    settings: LiveSettings, engines: Engines, tmp_path: Path
) -> None:
    recorder = CameraRecorder(settings, "gate", tmp_path / "recorded")
    data = recorder.run(4, lambda _: None)
    counts = []
    for clip in sorted(data.iterdir()):
        with av.open(str(clip)) as container:
            counts.append(sum(1 for _ in container.decode(video=0)))
            assert container.streams.video[0].average_rate == 10
    assert sum(counts) == recorder.n_frames
    old = open_bundle(settings.bundle_of("gate"))
    place = recalibrate_bundle(old.path, data, tmp_path / "new")
    new = open_bundle(place)
    assert new.digest != old.digest
    assert new.calibration.settings == old.calibration.settings
    assert new.calibration.n_frames <= sum(counts)

    models = CameraModels(settings, "gate")
    with pytest.raises(ConfigError, match="nothing to go back to"):
        models.roll_back()
    engine = engines(settings)
    until(lambda: engine.status()[0].scored > 2)
    models.activate(place)
    assert models.current == place
    until(lambda: engine.status()[0].model_sha256 == new.digest)
    assert models.roll_back() == old.path
    until(lambda: engine.status()[0].model_sha256 == old.digest)


def test_every_precision_is_calibrated_on_its_own_outputs(clips: list[Path], tmp_path: Path) -> None:
    shipped = open_bundle(REPOSITORY / "models" / "ped2-small")
    if not supports("int8"):
        pytest.skip("this CPU does not compute in int8")
    new = open_bundle(recalibrate_bundle(shipped.path, clips[1].parent, tmp_path / "new"))
    assert set(new.variants) == set(shipped.variants) == {("openvino", "int8")}
    record, before = new.variants["openvino", "int8"].record, shipped.variants["openvino", "int8"].record
    assert record.calibration.scales != before.calibration.scales
    assert (record.calibration.w_flow, record.calibration.w_frame) != (new.calibration.w_flow, new.calibration.w_frame)
    assert not record.calibration.settings.appearance, (
        "the score has no output of the network, so the scales are the same"
    )
    assert record.calibration.scales == new.calibration.scales
    assert record.held_out.n_frames == new.calibration.n_frames
    assert record.held_out.spearman > 0.9
    assert Detector(new, threads=1).bundle.precision == "int8"


def test_disk_quota_ends_the_recording(settings: LiveSettings, tmp_path: Path) -> None:
    tiny = settings.model_copy(update={"learn": settings.learn.model_copy(update={"max_gb": 1e-9})})
    data = tmp_path / "recorded"
    data.mkdir()
    (data / "before.mp4").write_bytes(b"full")
    said: list[str] = []
    recorder = CameraRecorder(tiny, "gate", data)
    with pytest.raises(SourceError, match="usable frames"):
        recorder.run(3600, said.append)
    assert re.fullmatch(r"the recording ends: the disk quota learn.max_gb is used up after \d+ minutes", said[0])
    assert len(said) == 1
    assert not (data / "before.mp4").exists()
    assert 1 <= len(list(data.iterdir())) <= 2, "a gap within the frames of one read ends a clip and starts another"


def test_failed_training_gives_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the training failed: error"):
        train_in_subprocess(tmp_path / "nothing", tmp_path / "out", LearnSettings(cpu_share=0.9), lambda _: None)


@pytest.mark.parametrize("name", ["typer", "comemory"])
def test_training_imports_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("open('taken', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="the training failed: error"):
        train_in_subprocess(tmp_path / "nothing", tmp_path / "out", LearnSettings(cpu_share=0.9), lambda _: None)
    assert not (tmp_path / "taken").exists()


def test_nothing_is_recorded_without_torch(
    settings: LiveSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    progress = LearningProgress(tmp_path, "gate")
    with pytest.raises(RuntimeMissing, match=r"learning needs torch.*pip install '\.\[train\]'"):
        learn(settings, "gate", 3600, recalibrate=False, progress=progress, say=pytest.fail)
    assert not (settings.out / "cameras").exists()


TINY = ("clips.height=32", "clips.width=48", "network.base_width=4", "train.epochs=1")


def test_trained_on_the_camera_and_swapped_without_a_gap(
    quick_bundle: Path, live: Live, engines: Engines, tmp_path: Path
) -> None:
    """The command beside a running engine: records, trains with a share of a core, activates; and rolls back."""
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    walkway = open_dataset("synthetic:seed=9,frames=250,training=1,testing=1,size=96x144").training()[0].source
    clip = save_video(tmp_path / "gate.mp4", 12 * [frame.image for frame in walkway])  # type: ignore[union-attr]
    config = tmp_path / "live.toml"
    settings = ", ".join(f'"{one}"' for one in TINY)
    config.write_text(
        f'model = "{quick_bundle}"\nout = "live"\nworkers = 1\n[cameras.gate]\nurl = "{clip}"\n'
        f'[learn]\npreset = "nano"\ncpu_share = 0.95\nsettings = [{settings}]\n'
    )
    engine = Engine(read_live(config))

    def wait_for_scores(sha256: str) -> None:
        until(lambda: engine.status()[0].model_sha256 == sha256)
        scored = engine.status()[0].scored
        until(lambda: engine.status()[0].scored > scored + 5)

    with engine.subscribe() as messages:
        engine.start()
        until(lambda: engine.status()[0].scored > 2)
        before = engine.status()[0].model_sha256
        done = comemory("learn", "gate", "--config", config, "--for", "17s", timeout=270)
        assert done.returncode == 0, done.stderr
        assert re.search(r"gate: the normal video gave only \d+ alarms? to fit thresholds on", done.stderr)
        made = next((tmp_path / "live" / "cameras" / "gate" / "models").glob("*/manifest.json")).parent
        wait_for_scores(open_bundle(made).digest)
        back = comemory("learn", "gate", "--config", config, "--rollback")
        assert back.returncode == 0, back.stderr
        wait_for_scores(before)
        dropped = engine.status()[0].dropped
        engine.stop()
        seen = list(messages.queue)
    assert open_bundle(made).provenance["dataset"] == "folder"
    assert not (made.with_name(f"{made.name}.run") / "cache").exists()
    assert [message["model"] for message in seen if message["kind"] == "model"] == [
        open_bundle(made).digest[:16],
        before[:16],
    ]
    if dropped == 0:
        times = [seconds(message["time"]) for message in seen if message["kind"] == "score"]
        assert max(np.diff(times)) == pytest.approx(0.1, abs=0.02)


def test_training_ends_with_its_parent_process(tmp_path: Path) -> None:
    """Even while it is stopped, and even if the parent was killed."""
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    save_video(tmp_path / "data" / "training" / "gate.mp4", disc_images(150, 96, 144))
    code = (
        "import sys; from pathlib import Path; from comemory.live.learning.learn import train_in_subprocess;"
        "from comemory.live.config import LearnSettings; place = Path(sys.argv[1]);"
        "chosen = LearnSettings(preset='nano', cpu_share=0.2, settings=('train.epochs=1000',));"
        "train_in_subprocess(place / 'data', place / 'made', chosen, print)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    try:
        until(lambda: bool(children.read_text().split()))
        child = Path(f"/proc/{children.read_text().split()[0]}")
        until(lambda: "comemory.cli" in (child / "cmdline").read_text())
        time.sleep(1.5)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not child.exists() or "(Z" in (child / "stat").read_text().replace(") ", "("))


@pytest.mark.parametrize("delay_s", [0.02, 0.1])
def test_training_whose_parent_is_killed_in_its_first_moments_is_not_left_behind(
    tmp_path: Path, delay_s: float
) -> None:
    """It is stopped only once the kernel ends it with its parent; here a tiny share stops it at once."""
    code = (
        "import sys; from pathlib import Path; from comemory.live.learning import learn;"
        "learn._run_throttled(['--version'], Path(sys.argv[1]) / 'log', 1e-6, print)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    try:
        until(lambda: bool(children.read_text().split()))
        child = Path(f"/proc/{children.read_text().split()[0]}")
        time.sleep(delay_s)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not child.exists() or "(Z" in (child / "stat").read_text().replace(") ", "("))


class TestDrift:
    def feed(self, shift: float, hours: int) -> DriftMonitor:
        monitor = DriftMonitor(hours=3, min_frames=100)
        rng = np.random.default_rng(0)
        for k in range(hours * 360 + 1):
            monitor.add(k * 10.0, float(-np.log10(1 - rng.random())) + shift)
        return monitor

    def test_scores_that_follow_the_calibration_are_no_drift(self) -> None:
        monitor = self.feed(0.0, 4)
        assert monitor.top_decile == pytest.approx(1, abs=0.15)
        assert monitor.message is None

    @pytest.mark.parametrize(
        ("shift", "factor"),
        [(0.8, r"about [67] times"), (-0.9, r"about 1/[78]")],
    )
    def test_shifted_scores_are_reported_with_a_hint(self, shift: float, factor: str) -> None:
        message = self.feed(shift, 4).message
        assert message is not None
        assert re.search(f"normal hours have {factor} as many high scores as calibrated", message)
        assert "--recalibrate" in message

    def test_a_few_hours_are_not_enough(self) -> None:
        assert self.feed(2.0, 2).message is None


def test_minute_has_the_maximum_of_each_part() -> None:
    minutes, at = MinuteScores(), 60_000_000.0
    assert minutes.add(at, 1.0) is None
    assert minutes.add(at + 1, 3.0) is None
    assert minutes.add(at + 59.9, 2.0) is None
    done = minutes.add(at + 60, 0.5)
    assert done == (datetime.fromtimestamp(at, UTC), [3.0, *[2.0] * (N_PARTS - 1)])
    assert minutes.finish() is not None
    assert minutes.finish() is None


def test_doctor_finds_problems_and_gives_hints(clips: list[Path], live: Live) -> None:
    settings = live(
        {
            "gate": {"url": str(clips[0])},
            "dead": {"url": "rtsp://user:hidden@127.0.0.1:9/live"},
            "none": {"url": "env:NO_SUCH"},
        },
        store={"enabled": False},
    )
    found = {check.name: check for check in run_checks(settings)}
    assert found["camera gate"].ok
    assert "144x96" in found["camera gate"].found
    assert found["camera dead"].ok is False
    assert "address and port" in found["camera dead"].hint
    assert "hidden" not in repr(found)
    assert "NO_SUCH" in found["camera none"].found
    assert found["disk"].ok is not None
    assert all(check.hint for check in found.values() if check.ok is False)


def test_doctor_finds_what_watch_would_refuse(
    clips: list[Path], live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.pem").write_text("no certificate")
    monkeypatch.setenv("KNOWN", "a known secret")

    def failures(**changes: Any) -> dict[str, str]:
        settings = live({"gate": {"url": str(clips[0])}}, **changes)
        found = [check for check in run_checks(settings) if check.name.split()[0] in ("model", "alert", "page")]
        assert all(check.hint for check in found if check.ok is False)
        assert "a known secret" not in repr(found)
        return {check.name.split()[0]: check.found for check in found if check.ok is False}

    hook = {"kind": "webhook", "url": "https://desk.lan/hook"}
    sent = {"kind": "command", "argv": ["/bin/sh", "-c", f"cat > {tmp_path}/alert.json"]}
    assert failures(alerts={"desk": sent}, web={"password": "env:KNOWN"}) == {}
    assert json.loads((tmp_path / "alert.json").read_text())["kind"] == "test"
    assert "did not arrive" in failures(alerts={"desk": {"kind": "command", "argv": ["/bin/false"]}})["alert"]
    closed = {"kind": "webhook", "url": "http://127.0.0.1:9/hook", "secret": "env:KNOWN"}
    assert "did not arrive" in failures(alerts={"desk": closed})["alert"]
    assert "did not arrive" in failures(alerts={"desk": {"kind": "mqtt", "host": "127.0.0.1", "port": 9}})["alert"]
    assert "bf16" in failures(precision="bf16")["model"]
    assert "'NOPE'" in failures(alerts={"desk": {**hook, "secret": "env:NOPE"}})["alert"]
    assert "'NOPE2'" in failures(web={"password": "env:NOPE2"})["page"]
    assert "page.pem" in failures(web={"certificate": str(tmp_path / "page.pem")})["page"]
    assert "without a store" in failures(alerts={"desk": hook}, store={"enabled": False})["alert"]


def test_doctor_says_how_many_cameras_fit(clips: list[Path], live: Live) -> None:
    """The whole pipeline is measured: reading, decoding, optical flow and network."""
    cameras = {f"gate{k}": {"url": str(clips[0]), "loop": True} for k in range(2)}
    found = {check.name: check for check in run_checks(live(cameras, store={"enabled": False}))}
    match = re.fullmatch(
        r"2 cameras with decoding, optical flow and network need ([\d.]+) of 2 cores; about (\d+) such cameras fit on this "
        r"machine",
        found["processor"].found,
    )
    assert match is not None, found["processor"].found
    load, n_fit = float(match[1]), int(match[2])
    assert load > 0
    assert n_fit == pytest.approx(0.8 * 2 / (load / 2), rel=0.3, abs=1)
    assert found["processor"].ok is (load <= 1.6)


def test_doctor_on_the_command_line(clips: list[Path], quick_bundle: Path, tmp_path: Path) -> None:
    asked = ["--camera", f"gate={clips[0]}", "--model", quick_bundle, "--store", "none", "--out", tmp_path, "--json"]
    done = comemory("doctor", *asked, "--set", "retention.max_gb=0.001")
    checks = json.loads(done.stdout)
    assert {check["name"] for check in checks} >= {"camera gate", "disk", "store", "time", "port", "processor"}
    assert done.returncode == any(check["ok"] is False for check in checks)


@pytest.mark.parametrize("time", ["soon", "", "5", "-3h", "0h", "²h", "٣h", f"{'9' * 400}h"])
def test_invalid_durations_are_refused(time: str) -> None:
    from comemory.cli.live import _parse_duration

    with pytest.raises(ConfigError, match="24h, 90m or 600s"):
        _parse_duration(time)
