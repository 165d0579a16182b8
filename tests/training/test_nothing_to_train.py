"""Models without a network, without a trainable parameter, or whose settings and evidence do not fit together."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory import models  # noqa: E402
from comemory.bundle import Bundle, open_bundle  # noqa: E402
from comemory.cli import main  # noqa: E402
from comemory.detector import Detector  # noqa: E402
from comemory.errors import ConfigError, TrainingError  # noqa: E402
from comemory.export import export  # noqa: E402
from comemory.live.config import LearnSettings  # noqa: E402
from comemory.live.learning import learn  # noqa: E402
from comemory.live.learning.progress import LearningProgress  # noqa: E402
from comemory.models.contract import Model  # noqa: E402
from comemory.models.evidence import cell_means  # noqa: E402
from comemory.models.settings import ModelSettings  # noqa: E402
from comemory.training.config import TrainingConfig, read_training_config  # noqa: E402
from comemory.training.cost import network_cost  # noqa: E402
from comemory.training.train import train  # noqa: E402
from comemory.types import Frame  # noqa: E402

DATA = "synthetic:seed=1,frames=60,training=3,testing=1,size=96x144"
SIZES = (
    *("clips.height=32", "clips.width=48", "clips.flow_height=64", "clips.flow_width=96"),
    *("train.threads=1", "train.accelerator=cpu", "train.devices=1"),
)


class ChangeSettings(ModelSettings):
    """Names its evidence, and no channel."""

    def evidence(self) -> tuple[str, ...]:
        return ("change",)


class Change(Model):
    """How much a frozen convolution of the newest frame differs from that of the frame before."""

    Settings = ChangeSettings

    def __init__(self, settings: ModelSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.filter = torch.nn.Conv2d(channels, 1, 1).requires_grad_(False)

    def load_frozen(self) -> None:
        torch.nn.init.ones_(self.filter.weight)

    def infer(self, frames: Any, flow: Any, *items: Any) -> dict[str, Any]:
        difference = self.filter(frames[:, -1] - frames[:, -2])
        return {"change": cell_means(difference**2 + 0 * flow[:, :1])}


class Detached(Change):
    """Has a parameter that its loss does not depend on."""

    def __init__(self, settings: ModelSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.extra = torch.nn.Parameter(torch.zeros(()))

    def loss(self, frames: Any, flow: Any) -> Any:
        return flow.sum(), {}


class Promised(Change):
    """Names evidence that it does not give."""

    class Settings(ChangeSettings):
        appearance_channels = ("changes:16",)

        def evidence(self) -> tuple[str, ...]:
            return ("changes",)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("comemory.models.made_for_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for one in (Change, Detached, Promised):
        setattr(module, one.__name__, one)
        monkeypatch.setitem(models.MODELS, one.__name__.lower(), f"{module.__name__}:{one.__name__}")


def config(preset: str, *settings: str) -> TrainingConfig:
    return read_training_config(preset, settings=[*SIZES, *settings])


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("motion") / "bundle"
    words = [word for setting in SIZES for word in ("--set", setting)]
    with redirect_stdout(StringIO()) as said, pytest.raises(SystemExit, match=r"^0$"):
        main(["train", "--data", DATA, "--preset", "motion", *words, "--out", str(out)])
    assert "\nno network: the score is measured on the frames and their optical flow\n" in said.getvalue()
    return open_bundle(out)


def test_a_model_without_a_network_is_calibrated(motion: Bundle, scene_frames: list[Frame]) -> None:
    assert not motion.has_network
    assert motion.provenance["cost"] == {"parameters": 0, "frozen_parameters": 0, "macs": 0}
    assert (motion.provenance["epochs"], motion.provenance["loss"]) == (0, {})
    run = motion.path.with_name("bundle.run")
    assert not (run / "training.png").exists()
    assert not (run / "log.jsonl").exists()
    outputs = []
    for runtime in ("openvino", "pytorch"):
        detector = Detector(motion, runtime=runtime, threads=1, all_evidence=True)
        outputs.append([step for frame in scene_frames if (step := detector.step(frame)) is not None][-1])
    found = [step.evidence.maps["flow_length"] for step in outputs]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_there_is_nothing_to_convert(motion: Bundle, precision: str) -> None:
    with pytest.raises(ConfigError, match=f"has no network: there is nothing to convert to {precision}$"):
        export(motion.path, "openvino", precision, data=DATA)


def test_learn_does_not_convert_it(motion: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "train_in_subprocess", lambda *_: None)
    monkeypatch.setattr(learn, "is_faster_in", lambda _: True)
    monkeypatch.setattr(learn, "find_spec", lambda name: name)
    converted: list[object] = []
    monkeypatch.setattr(learn, "export_in_subprocess", lambda *_: converted.append(_))
    said: list[str] = []
    progress = LearningProgress(tmp_path, "gate")
    learn._train(tmp_path, motion.path, LearnSettings(preset="motion"), 1, progress, said.append, "")
    assert (converted, said) == ([], [])


def test_info_says_that_there_is_no_network(motion: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["info", str(motion.path), "--time"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "training none: the model has nothing to train" in lines
    assert "model motion-baseline" in lines
    assert "network no network: the score is measured on the frames and their optical flow" in lines
    assert not [line for line in lines if line.startswith("loss")]


def test_a_model_with_frozen_weights_alone_is_calibrated(tmp_path: Path) -> None:
    train(DATA, config("small", "model=change", 'scoring.motion=["change:16"]'), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.has_network
    assert bundle.provenance["epochs"] == 0
    assert bundle.provenance["cost"]["frozen_parameters"] == 2
    assert bundle.calibration.scales["change:16"]


def test_a_loss_without_a_gradient_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^the model's loss depends on none of its trainable parameters: .*$"):
        train(DATA, config("small", "model=detached", 'scoring.motion=["change:16"]'), tmp_path / "bundle")


def test_evidence_that_no_channel_uses_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"no channel uses the evidence of this model \(change\): name channels such as"
    ):
        config("small", "model=change")
    assert config("small", "model=change", 'scoring.appearance=["change:16"]').scoring.appearance == ("change:16",)


def test_evidence_that_infer_does_not_give_is_refused_before_any_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comemory.training.train.prepare_videos", lambda *_, **__: pytest.fail("prepared"))
    with pytest.raises(
        TrainingError, match=r"'promised': its settings name the evidence 'changes', .* did you mean 'change'"
    ):
        train(DATA, config("small", "model=promised"), tmp_path / "bundle")


@pytest.mark.parametrize("name", sorted({*models.MODELS} - {"change", "detached", "promised"}))
def test_every_model_gives_the_evidence_that_it_names(name: str) -> None:
    assert network_cost(read_training_config("small", settings=[f"model={name}"]))["parameters"] >= 0
