"""A complete training: from a data set to a bundle, or to one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from moving_disc import disc_images

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

import safetensors.torch  # noqa: E402
from training import made  # noqa: E402

from comemory.bundle import Bundle, open_bundle  # noqa: E402
from comemory.detector import Detector  # noqa: E402
from comemory.errors import BundleError, ComemoryError, TrainingError  # noqa: E402
from comemory.runtimes import RUNTIMES  # noqa: E402
from comemory.training.checkpoint import CHECKPOINT  # noqa: E402
from comemory.training.config import build_training_config, read_training_config  # noqa: E402
from comemory.training.plot import plot_history  # noqa: E402
from comemory.training.train import train  # noqa: E402
from comemory.types import Clip, Frame  # noqa: E402


class RecordingReporter:
    """A reporter that records name, total and steps of each stage."""

    def __init__(self) -> None:
        self.stages: list[list[Any]] = []

    def stage(self, name: str, total: int | None) -> None:
        self.stages.append([name, total, 0])

    def advance(self, note: str = "") -> None:
        self.stages[-1][2] += 1


@pytest.fixture(scope="module")
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, reporter: RecordingReporter) -> Path:
    """The bundle of the training of this module."""
    out = tmp_path_factory.mktemp("models") / "walkway"
    trained = train(made.DATA, made.config(), out, reporter=reporter)
    assert (trained.bundle, list(trained.problems)) == (out, [])
    return out


@pytest.fixture(scope="module")
def bundle(out: Path) -> Bundle:
    return open_bundle(out)


def test_the_run_folder_holds_the_log_and_the_plot(out: Path) -> None:
    run = out.with_name("walkway.run")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1]
    assert {"loss", "item_usage"} <= set(records[0])
    image = cv2.imread(str(run / "training.png"))
    assert image is not None
    assert image.std() > 10
    assert (run / CHECKPOINT).is_file()
    assert {path.name for path in out.parent.iterdir()} == {"walkway", "walkway.run"}


def test_every_stage_reports_as_many_steps_as_it_announced(out: Path, reporter: RecordingReporter) -> None:
    assert reporter.stages == [
        ["Preparing frames", 90, 90],
        ["Training", made.N_STEPS, made.N_STEPS],
        ["Calibrating on held-out video", 78, 78],
        ["Writing the bundle", None, 0],
    ]


def test_the_bundle_holds_the_trained_weights_and_the_configuration(out: Path, bundle: Bundle) -> None:
    with safetensors.safe_open(out.with_name("walkway.run") / CHECKPOINT, "pt") as file:
        trained = {name.removeprefix("model."): file.get_tensor(name) for name in file.keys() if "model." in name}  # noqa: SIM118
    stored = safetensors.torch.load_file(out / "weights.safetensors")
    assert set(stored) == set(trained)
    assert all(torch.equal(stored[name], trained[name]) for name in trained)
    assert list(bundle.items) == ["motion_items", "appearance_items"]
    for name, items in bundle.items.items():
        np.testing.assert_array_equal(items, stored[f"{name.removesuffix('_items')}_memory.items"].numpy())
    config = made.config()
    network = {name: value for name, value in bundle.config["network"].items() if name not in ("channels", "n_past")}
    rebuilt = build_training_config({**{k: v for k, v in bundle.config.items() if k != "graph"}, "network": network})
    assert rebuilt == config
    assert bundle.clips == config.clips
    assert bundle.calibration.n_frames == 52
    assert bundle.calibration.rate_hz == 10


def test_no_member_is_a_pickle_or_a_zip(out: Path) -> None:
    members = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(members) == {
        *("manifest.json", "config.json", "calibration.json", "provenance.json"),
        *("weights.safetensors", "items.safetensors", "model.onnx"),
    }
    for name, content in members.items():
        assert not content.startswith((b"PK", b"\x80", b"\x1f\x8b")), name
        assert b"__reduce__" not in content
        assert b"\x93NUMPY" not in content


def test_no_member_names_the_machine_that_wrote_it(out: Path) -> None:
    for member in out.iterdir():
        content = member.read_bytes()
        assert b"/comemory/" not in content, member.name
        assert b"stack_trace" not in content, member.name


def test_the_provenance_is_complete(bundle: Bundle) -> None:
    said = bundle.provenance
    assert {
        *("date", "dataset", "data_sha256", "trained_on", "held_out", "epochs", "loss", "dead_items", "wall_s"),
        *("commit", "versions", "hardware"),
    } <= set(said)
    assert said["dataset"] == made.DATA
    assert len(said["data_sha256"]) == 64
    assert (said["trained_on"], said["held_out"]) == ({"01": 30}, {"02": 30, "03": 30})
    assert said["epochs"] == 2
    assert said["wall_s"] > 0
    assert said["versions"]["torch"] == torch.__version__
    assert set(said["dead_items"]) == {"motion", "appearance"}


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "pytorch"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_runtime_computes_what_the_network_computes(bundle: Bundle, runtime: str, seed: int) -> None:
    from comemory.models.comemory import CoMemory

    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino", "pytorch": "torch"}[runtime])
    network = CoMemory.from_kwargs(**bundle.network.model_kwargs).eval()
    network.load_state_dict(safetensors.torch.load_file(bundle.network.weights))
    rng = np.random.default_rng(seed)
    frames = rng.uniform(-1, 1, (5, 1, 32, 48)).astype(np.float32)
    flow = (3 * rng.standard_normal((2, 32, 48))).astype(np.float32)
    with torch.no_grad():
        expected = network.infer(*map(torch.from_numpy, (frames[None], flow[None], *bundle.items.values())))
    inputs = {**bundle.network.layout.build_inputs(Clip.from_arrays(frames, flow)), **bundle.items}
    outputs = RUNTIMES.load(runtime)(bundle.network, 1).run(inputs)
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value.numpy(), atol=1e-5, rtol=1e-5, err_msg=name)


def test_the_bundle_scores_frames(bundle: Bundle) -> None:
    detector = Detector(bundle, threads=1)
    frames = [Frame(image, i / 10, i) for i, image in enumerate(disc_images(8, 64, 96))]
    scores = [detector.step(frame) for frame in frames]
    assert scores[:4] == [None] * 4
    assert all(scored is not None and np.isfinite(scored.score.value) for scored in scores[4:])


def test_a_full_disk_leaves_no_incomplete_bundle_and_the_checkpoint(out: Path, tmp_path: Path) -> None:
    disk, run, reporter = tmp_path / "disk", out.with_name("walkway.run"), RecordingReporter()
    with made.small_disk(disk, 100 * 1024):
        with pytest.raises(BundleError, match=r"cannot write .*nothing was changed") as refused:
            train(made.DATA, made.config(), disk / "walkway", run=run, resume=True, reporter=reporter)
        assert "\n" not in str(refused.value)
        assert list(disk.iterdir()) == []
    assert [stage[0] for stage in reporter.stages] == [
        *("Preparing frames", "Calibrating on held-out video", "Writing the bundle")
    ]
    assert reporter.stages[0] == ["Preparing frames", 90, 90]


def video_folder(folder: Path) -> str:
    """A folder data set: three videos, one of them with a corrupt frame, and a file that is no video."""
    for video in range(3):
        (folder / f"gate{video}").mkdir(parents=True)
        for i, image in enumerate(disc_images(30)):
            assert cv2.imwrite(str(folder / f"gate{video}" / f"{i:03d}.png"), np.roll(image, 5 * video, axis=0))
    (folder / "gate0" / "020.png").write_bytes(b"torn")
    (folder / "gate3.mp4").write_bytes(b"no video at all")
    return f"folder:{folder}"


TWO_DEVICES = """
import json, os, sys
from pathlib import Path
import safetensors.torch
from training import made
from comemory.training.train import train

if __name__ == "__main__":
    cache, data, out, rank = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), os.environ.get("LOCAL_RANK", "0")
    settings = ["train.devices=2", "train.epochs=1"]
    network, _ = made.fit(cache, out.parent, *settings)
    items = {name: memory.items for name, memory in network.memories().items()}
    safetensors.torch.save_file(items, out.parent / f"items-{rank}")
    trained = train(data, made.config(*settings, "network.motion_items=0", "network.appearance_items=0"), out)
    (out.parent / f"problems-{rank}").write_text(json.dumps(list(trained.problems)))
"""


def test_two_devices_train_as_one(cache: Path, tmp_path: Path) -> None:
    """Both devices have the same items. Then a network without memories is trained on video with problems: only the first
    process reports them, because an exit code of another process would end the first one."""
    made.videos(cache)
    (tmp_path / "script.py").write_text(TWO_DEVICES)
    out = tmp_path / "models" / "gate"
    out.parent.mkdir()
    made.run_script(tmp_path / "script.py", cache, video_folder(tmp_path / "videos"), out)
    items = [safetensors.torch.load_file(out.parent / f"items-{rank}") for rank in range(2)]
    for name in ("motion", "appearance"):
        assert torch.equal(items[0][name], items[1][name])
        torch.testing.assert_close(items[0][name].norm(dim=1), torch.ones(3))
    with safetensors.safe_open(out.parent / CHECKPOINT, "pt") as file:
        note = json.loads(file.metadata()["note"])
        assert torch.equal(file.get_tensor("model.motion_memory.items"), items[0]["motion"])
    assert note["step"] == note["n_steps"] == made.N_STEPS // 2
    assert np.isfinite(list(note["history"][0]["loss"].values())).all()
    first, second = (json.loads((out.parent / f"problems-{rank}").read_text()) for rank in range(2))
    assert second == []
    assert [name in problem for name, problem in zip(("020.png", "gate3.mp4"), first, strict=True)] == [True, True]
    bundle = open_bundle(out)
    assert dict(bundle.items) == {}
    assert bundle.provenance["trained_on"] == {"gate0": 29}
    assert bundle.provenance["held_out"] == {"gate1": 30, "gate2": 30}
    assert bundle.provenance["dataset"] == "folder"
    assert str(tmp_path) not in (out / "provenance.json").read_text()
    scores = list(Detector(bundle, threads=1).run(str(tmp_path / "videos" / "gate1")))
    assert len(scores) == 26
    flow = np.random.default_rng(0).standard_normal((2, 32, 48)).astype(np.float32)
    clip = bundle.network.layout.build_inputs(Clip.from_arrays(np.zeros((5, 1, 32, 48), np.float32), flow))
    outputs = [RUNTIMES.load(name)(bundle.network, 1).run(clip) for name in ("openvino", "pytorch")]
    assert set(outputs[0]) == set(outputs[1]) == {"flow_error", "flow_residual", "flow_mean", "frame_error"}
    for name, value in outputs[0].items():
        np.testing.assert_allclose(value, outputs[1][name], atol=1e-5, rtol=1e-5)


def refusal(data: str, out: Path, *settings: str, **options: Any) -> str:
    with pytest.raises(ComemoryError) as refused:
        train(data, made.config(*settings), out, **options)
    assert "\n" not in str(refused.value)
    return f"{type(refused.value).__name__}: {refused.value}"


def test_too_little_video_is_refused_before_training(tmp_path: Path) -> None:
    short = "synthetic:frames=16,training=1,testing=0,size=64x96,crowd=1"
    said = refusal(short, tmp_path / "gate")
    assert said.startswith("TrainingError: too little normal video: 4 clips to train on and 4 held out")
    assert "give more video" in said
    assert not (tmp_path / "gate").exists()
    none = refusal("synthetic:training=0", tmp_path / "gate")
    assert none == "TrainingError: no video to train on (the data set lists none)"


def test_an_output_path_that_is_no_bundle_is_refused_first(tmp_path: Path) -> None:
    folder, file = tmp_path / "photos", tmp_path / "file"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"dear")
    file.write_bytes(b"dear")
    for place in (folder, file):
        assert "is not a bundle" in refusal(made.DATA, place)
    assert (folder / "holiday.jpg").read_bytes() == file.read_bytes() == b"dear"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "file"}


def test_paths_that_cannot_be_written_are_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "gate"
    for run in (out, out / "run", tmp_path / "x" / ".." / "gate" / "run"):
        assert "would lie in the bundle" in refusal(made.DATA, out, run=run)
    (tmp_path / "taken").write_bytes(b"")
    assert "cannot make the run folder" in refusal(made.DATA, out, run=tmp_path / "taken")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert "cannot be the path of a bundle" in refusal(made.DATA, Path())
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "empty"}


def test_unknown_data_sets_are_refused(tmp_path: Path) -> None:
    assert "did you mean 'synthetic'?" in refusal("synthetc:", tmp_path / "gate")


def test_a_log_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "log.jsonl").mkdir(parents=True)
    assert f"cannot write the log into {run}" in refusal(made.DATA, tmp_path / "gate", "train.epochs=1", run=run)


@pytest.mark.parametrize("n_epochs", [1, 3])
@pytest.mark.parametrize("memories", [{}, {"motion": 1}, {"motion": 4, "appearance": 2}])
def test_the_plot_draws_any_history(tmp_path: Path, n_epochs: int, memories: dict[str, int]) -> None:
    """One item has no separateness, whose curve on a logarithmic axis is nothing."""
    use = {name: [1.0, *[0.0] * (n_items - 1)] for name, n_items in memories.items()}
    loss = {"flow": 0.5, "prediction": 0.1, **{f"{name}_separateness": 0.0 for name in memories}}
    history = [{"epoch": epoch, "loss": loss, "item_usage": use} for epoch in range(n_epochs)]
    plot_history(history, tmp_path / "training.png")
    image = cv2.imread(str(tmp_path / "training.png"))
    assert image is not None
    assert image.shape[1] > 450 * (1 + len(memories))


def test_a_bundle_is_replaced_only_by_a_complete_one(out: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(TrainingError, match="the loss became"):
        train(made.DATA, made.config("train.lr=1e20"), out, run=tmp_path / "run")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow  # test_nothing_to_train.py: a model without a network is calibrated
def test_a_model_without_a_network_is_calibrated_like_one_whose_score_needs_none(cache: Path, tmp_path: Path) -> None:
    settings = ["clips.height=32", "clips.width=48", "train.epochs=1"]
    found = {}
    for preset in ("motion", "nano"):
        config = read_training_config(preset, settings=settings)
        data = "synthetic:seed=5,frames=80,training=3,testing=1,size=64x96"
        reporter = RecordingReporter()
        result = train(data, config, tmp_path / preset, cache=cache, reporter=reporter)
        found[preset] = open_bundle(result.bundle).calibration
        assert all(total in (None, steps) for _, total, steps in reporter.stages), reporter.stages
        assert "Learning what moves in the scene" in [name for name, _, _ in reporter.stages]
    one, other = found["motion"], found["nano"]
    assert (one.scales, one.weights, one.n_alarms) == (other.scales, other.weights, other.n_alarms)
