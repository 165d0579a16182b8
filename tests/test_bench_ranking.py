"""The benchmark scripts that rank: what they draw and what they conclude."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

from comemory.datasets import open_dataset
from comemory.detector import Detector

SCRIPTS = Path(__file__).resolve().parent.parent / "benchmarks"
SCENE = "synthetic:seed=3,frames=20,training=1,testing=1,size=96x144"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class TestPareto:
    def test_the_front_has_the_points_that_none_beats_in_both(self) -> None:
        points = {
            "slow": (4.0, 0.99),
            "fast": (1.0, 0.9),
            "beaten": (2.0, 0.89),
            "tied": (4.0, 0.98),
            "dear": (5.0, 0.99),
        }
        assert script("pareto").front(points) == ["fast", "slow"]

    def test_the_plot_names_every_point(self, tmp_path: Path) -> None:
        points = {
            "w8": {"int8_ms": 2.0, "auc": 0.98, "auc_learned": 0.95},
            "w16": {"int8_ms": 3.0, "auc": 0.99, "auc_learned": None},
        }
        script("pareto").draw(points, tmp_path / "plot" / "pareto.svg")
        drawn = ElementTree.parse(tmp_path / "plot" / "pareto.svg").getroot()
        texts = [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
        assert (texts.count("1"), texts.count("2")) == (2, 1)
        assert [text.split() for text in texts if text and "w8" in text] == [["1", "w8", "2", "w16"]]

    def test_an_experiment_that_was_not_run_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = tmp_path / "rows.jsonl"
        monkeypatch.setattr(sys, "argv", ["pareto.py", f"--bundles={tmp_path}", f"--table={table}", "--train=ped2:x"])
        with pytest.raises(SystemExit, match="has no row of pareto on ped2: run it first"):
            script("pareto").main()


class TestRankByPseudo:
    def test_a_novelty_is_ranked_only_where_its_usual_levels_are_known(self, nano_bundle: Path) -> None:
        module = script("rank_by_pseudo")
        channels = module.channels_of(Detector.open(nano_bundle, threads=1))
        assert channels == [name for name in module.CHANNELS if "novelty" not in name]

    def test_every_channel_of_every_scored_frame(self, nano_bundle: Path) -> None:
        module, detector = script("rank_by_pseudo"), Detector.open(nano_bundle, threads=1)
        videos = open_dataset(SCENE).testing()
        values, labels, names = module.peaks(detector, videos, ["flow_speed:8", "frame_error:16"])
        scored = sum(1 for video in videos for _ in detector.run(video.source))
        assert values.shape == (scored, 2)
        assert len(labels) == len(names) == scored
        assert set(names) == {video.name for video in videos}

    def test_each_kind_has_an_auc_and_one_without_both_labels_has_none(self) -> None:
        values = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
        found = script("rank_by_pseudo").by_kind(
            values, np.array([False, True, True]), ["fast-01", "fast-01", "glide-02"]
        )
        assert found == {"fast": [1.0, 0.0]}
