"""The benchmark scripts on the networks to compare with: a short run of each says all that it promises."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.research.reproduce.costs import network_settings_key
from comemory.research.reproduce.experiment import read_experiment
from comemory.research.reproduce.grid import list_runs

SCRIPTS = Path(__file__).resolve().parent.parent / "benchmarks"
EXPERIMENT = """
title = "Two"
preset = "nano"
settings.clips = { height = 32, width = 48 }
[data.scene]
train = "synthetic:seed=1"
[[variants]]
name = "motion-baseline"
settings.model = "motion-baseline"
[[variants]]
name = "autoencoder"
settings.model = "autoencoder"
"""


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    """A script's `main` with arguments."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    module.main()


def test_the_costs_of_every_network_by_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, file = tmp_path / "two.toml", tmp_path / "two-costs.json"
    experiment.write_text(EXPERIMENT, encoding="utf-8")
    run(monkeypatch, "network_costs", experiment, "--rounds", 3, "--json", file)
    said = json.loads(file.read_text(encoding="utf-8"))
    assert list(said["networks"]) == ["motion-baseline", "autoencoder"]
    cost = said["networks"]["autoencoder"]
    assert cost["parameters"] > 1000
    assert 0 <= cost["lowest_cpu_ms"] <= cost["cpu_ms"]
    (settings,) = {
        network_settings_key(one.config.model_dump(mode="json"))
        for one in list_runs("two", read_experiment(experiment), 1)
        if one.variant.name == "autoencoder"
    }
    assert cost["settings"] == settings
    assert {"cpu", "commit", "load_average"} <= said.keys()


def test_the_error_of_an_autoencoder_beside_the_foreground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "found.json"
    data = "synthetic:seed=2,frames=24,training=1,testing=2,size=60x90"
    run(monkeypatch, "error_and_foreground", "--data", data, "--epochs", 2, "--width", 4, "--json", file)
    epochs = json.loads(file.read_text(encoding="utf-8"))["epochs"]
    assert list(epochs) == ["1 of 2 epochs", "2 of 2 epochs"]
    for found in epochs.values():
        assert list(found["scores"]) == ["whole frame, -PSNR", "window of 16", "window of 32", "foreground alone"]
        assert -1 <= found["spearman_of_error_and_foreground"] <= 1
        assert all(0 <= score["auc_micro"] <= 1 for score in found["scores"].values())
