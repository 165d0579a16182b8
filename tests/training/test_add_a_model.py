"""The documented example of a model in one file: it trains, calibrates, exports, scores and evaluates like a shipped one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory import models  # noqa: E402
from comemory.bundle import Bundle, open_bundle  # noqa: E402
from comemory.cli import main  # noqa: E402
from comemory.detector import Detector  # noqa: E402
from comemory.errors import ConfigError  # noqa: E402
from comemory.export import export  # noqa: E402
from comemory.runtimes import supports  # noqa: E402
from comemory.training.config import TrainingConfig, read_training_config  # noqa: E402
from comemory.training.train import train  # noqa: E402
from comemory.types import Frame  # noqa: E402

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "extend" / "add_a_model.py"
DATA = "synthetic:seed=1,frames=60,training=3,testing=1,size=96x144"
SETTINGS = (
    *("model=patch-code", "network.width=4", "clips.height=32", "clips.width=48", "clips.flow_height=64"),
    *("clips.flow_width=96", "train.epochs=2", "train.threads=1", "train.accelerator=cpu", "train.devices=1"),
)
CHANNELS = ("reconstruction_error:16", "mean_error")
"""A map and a number, neither of which any other model gives."""


@pytest.fixture(scope="module", autouse=True)
def _registered() -> object:
    """The example as a module of the package, with its line in the registry."""
    name = "comemory.models.patch_code"
    spec = importlib.util.spec_from_file_location(name, EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        patch.setitem(models.MODELS, "patch-code", f"{name}:PatchCode")
        yield


@pytest.fixture(scope="module")
def config(_registered: object) -> TrainingConfig:
    return read_training_config("small", settings=SETTINGS)


@pytest.fixture(scope="module")
def bundle(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("models") / "patch-code"
    train(DATA, config, out)
    return open_bundle(out)


def test_the_example_is_one_short_file() -> None:
    code = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) <= 50


def test_the_model_brings_its_settings_and_channels(config: TrainingConfig) -> None:
    assert config.network.model_dump() == {"width": 4}
    assert (config.scoring.motion, config.scoring.appearance) == ((), CHANNELS)
    with pytest.raises(ConfigError, match=r"unknown config key 'network\.widht': did you mean 'width'"):
        read_training_config("small", settings=[*SETTINGS, "network.widht=4"])
    with pytest.raises(ConfigError, match="needs the evidence 'flow_mean', which this model does not give"):
        read_training_config("small", settings=[*SETTINGS, 'scoring.motion=["flow_speed:8"]'])


def test_training_lowers_its_loss(bundle: Bundle) -> None:
    log = bundle.path.with_name("patch-code.run") / "log.jsonl"
    first, last = (json.loads(line)["loss"]["reconstruction"] for line in log.read_text().splitlines())
    assert last < first


def test_calibration_fits_a_scale_for_each_channel(bundle: Bundle) -> None:
    assert set(bundle.calibration.scales) == {*CHANNELS, "score"}
    assert not bundle.calibration.has_thesis_score


@pytest.mark.parametrize("runtime", ["openvino", "onnx", "pytorch"])
def test_every_runtime_gives_the_same_scores(bundle: Bundle, runtime: str, scene_frames: list[Frame]) -> None:
    scores = [
        [scored.score.value for frame in scene_frames if (scored := detector.step(frame)) is not None]
        for detector in (Detector(bundle, runtime=name, threads=1) for name in (runtime, "pytorch"))
    ]
    assert len(scores[0]) == len(scene_frames) - bundle.clips.n_past
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)


def test_it_exports_to_openvino(bundle: Bundle) -> None:
    assert [path.name for path in export(bundle.path, "openvino").files] == ["model.xml", "model.bin"]


@pytest.mark.skipif(not supports("int8"), reason="this CPU has no dot products of bytes")
def test_it_exports_in_int8(bundle: Bundle) -> None:
    pytest.importorskip("onnxruntime")
    exported = export(bundle.path, "onnx", "int8", data=DATA, min_correlation=0.0)
    assert exported.record is not None
    assert exported.record.held_out.n_frames > 0


def test_it_evaluates_from_the_command_line(bundle: Bundle, tmp_path: Path) -> None:
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    data = "synthetic:seed=3,frames=30,training=1,testing=1,size=96x144"
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(bundle.path), "--data", data, "--json", str(numbers), "--report", str(page)])
    assert ended.value.code in (0, None)
    found = json.loads(numbers.read_text())
    assert 0 <= found["causal"]["auc_micro"] <= 1
    assert found["thesis"] == {"auc_micro": None, "auc_micro_paper": None}
    assert page.stat().st_size > 10_000
