"""One file and one line add a data set, a flow estimator, a runtime or a sink: shown with entries that only this test has."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from comemory.datasets import DATASETS, open_dataset
from comemory.detector import Detector
from comemory.errors import ConfigError
from comemory.flow import FLOWS, FlowSettings, open_flow
from comemory.registry import Registry
from comemory.runtimes import RUNTIMES, Network
from comemory.types import DataCheck, Dataset, FlowEstimator, Frame, LabelledSource, Runtime


def add(patch: pytest.MonkeyPatch, registry: Registry, name: str, entry: type) -> None:
    """Put a class into a module of its own, and its line into the registry."""
    module = ModuleType(f"comemory.added_{name}")
    setattr(module, entry.__name__, entry)
    patch.setitem(sys.modules, module.__name__, module)
    patch.setitem(registry._entries, name, f"{module.__name__}:{entry.__name__}")


class Yard:
    """A data set of two videos in one folder."""

    name = "yard"
    rate_hz = None

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def training(self) -> Sequence[LabelledSource]:
        return [LabelledSource("day", str(self.path / "day.mp4"))]

    def testing(self) -> Sequence[LabelledSource]:
        labels = np.load(self.path / "night.npy")  # bool, True where abnormal: one label a frame
        return [LabelledSource("night", str(self.path / "night.mp4"), len(labels), labels)]

    def check(self) -> DataCheck:
        return DataCheck({"training videos": 1})


class NoFlow:
    """A flow estimator that sees no motion."""

    name = "none"

    def __init__(self, settings: FlowSettings) -> None:
        self.settings = settings

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros((*previous.shape[:2], 2), np.float32)


class Doubled:
    """A runtime that runs another one."""

    name = "doubled"

    def __init__(self, network: Network, threads: int | None = None) -> None:
        self.inner: Runtime = RUNTIMES.load("onnx")(network, threads)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        return self.inner.run(inputs)


def test_a_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add(monkeypatch, DATASETS, "yard", Yard)
    np.save(tmp_path / "night.npy", np.arange(12) >= 8)
    opened = open_dataset(f"yard:{tmp_path}")
    assert isinstance(opened, Dataset)
    (night,) = opened.testing()
    assert night.source == str(tmp_path / "night.mp4")
    assert night.labels is not None
    assert (night.n_frames, night.labels.sum()) == (12, 4)


def test_a_flow_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, FLOWS, "none", NoFlow)
    estimator = open_flow(FlowSettings(name="none"))
    assert isinstance(estimator, FlowEstimator)
    image = np.zeros((8, 8, 3), np.uint8)
    assert not estimator.estimate(image, image).any()


def test_a_runtime(monkeypatch: pytest.MonkeyPatch, nano_bundle: Path, scene_frames: list[Frame]) -> None:
    pytest.importorskip("onnxruntime")
    add(monkeypatch, RUNTIMES, "doubled", Doubled)
    scores = [
        [scored.score.value for frame in scene_frames if (scored := detector.step(frame)) is not None]
        for detector in (Detector.open(nano_bundle, runtime=name, threads=1) for name in ("doubled", "onnx"))
    ]
    assert scores[0] == scores[1]
    with pytest.raises(ConfigError, match="finds no device 'GPU' here: expected CPU"):
        Detector.open(nano_bundle, runtime="doubled", device="GPU")


def test_a_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.alerts import SINKS
    from comemory.alerts.config import SinkSettings
    from comemory.alerts.sink import Notification, StatelessSink, open_sink
    from comemory.live.config import read_live

    class BellSettings(SinkSettings):
        """How often a bell rings."""

        kind: Literal["bell"] = "bell"
        times: int = 1

    class Bell(StatelessSink):
        """Rings for each alert."""

        Settings = BellSettings

        def __init__(self, name: str, settings: BellSettings) -> None:
            self.name, self.settings, self.rung = name, settings, 0

        def deliver(self, notification: Notification) -> None:
            self.rung += self.settings.times

        def close(self) -> None:
            """Nothing is open."""

    add(monkeypatch, SINKS, "bell", Bell)
    settings = read_live(None, {"alerts": {"door": {"kind": "bell", "times": 3}}}).alerts["door"]
    sink = open_sink("door", settings)
    sink.deliver(Notification("1", "test", "gate", {}))
    assert isinstance(sink, Bell)
    assert sink.rung == 3
    with pytest.raises(ConfigError, match=r"\[alerts\.door\]: .*loud"):
        read_live(None, {"alerts": {"door": {"kind": "bell", "loud": True}}})
