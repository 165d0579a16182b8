"""A bundle with OpenVINO's own files in it: the same detector, and never half of one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from footage import clip, save_frames

from comemory import export as module
from comemory.bundle import open_bundle
from comemory.detect import Detector
from comemory.errors import BundleError
from comemory.export import export


@pytest.fixture
def bundle(nano_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano_bundle, tmp_path / "bundle"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_openvino_files_are_added_and_give_the_same_scores(bundle: Path, tmp_path: Path) -> None:
    source = save_frames(tmp_path / "clip", clip(0)[0][:24])
    before = [score.value for score in Detector.open(bundle, threads=1).run(source)]
    kept = contents(bundle)
    assert open_bundle(bundle).network.ir is None
    assert export(bundle, "openvino") == [bundle / "model.xml", bundle / "model.bin"]
    opened = open_bundle(bundle)
    assert opened.network.ir == bundle / "model.xml"
    after = [score.value for score in Detector(opened, threads=1).run(source)]
    np.testing.assert_allclose(after, before, atol=1e-4)
    now = contents(bundle)
    assert now.keys() - kept.keys() == {"model.xml", "model.bin"}
    assert {name for name in kept if kept[name] != now[name]} == {"manifest.json"}
    assert json.loads(now["manifest.json"])["members"].keys() == now.keys() - {"manifest.json"}


def test_exported_twice_is_as_good_as_once(bundle: Path) -> None:
    export(bundle, "openvino")
    once = contents(bundle).keys()
    export(bundle, "openvino")
    assert contents(bundle).keys() == once
    assert open_bundle(bundle).network.ir is not None
    assert list(bundle.parent.iterdir()) == [bundle]


def test_onnx_is_there_already(bundle: Path) -> None:
    before = contents(bundle)
    assert export(bundle, "onnx") == [bundle / "model.onnx"]
    assert contents(bundle) == before


def test_a_form_that_answers_otherwise_is_refused_and_the_old_bundle_stays(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = contents(bundle), module._write_openvino

    def write_worse(graph: Path, folder: Path) -> Path:
        written = write(graph, folder)
        weights = np.fromfile(folder / "model.bin", np.float32)
        weights[(np.abs(weights) > 1e-3) & (np.abs(weights) < 1)] *= 1.5
        weights.tofile(folder / "model.bin")
        return written

    monkeypatch.setattr(module, "_write_openvino", write_worse)
    with pytest.raises(BundleError, match=r"differs by .*nothing was changed"):
        export(bundle, "openvino")
    assert contents(bundle) == before
    assert list(bundle.parent.iterdir()) == [bundle]


def test_a_graph_that_openvino_cannot_read_is_one_line(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"OpenVINO cannot read .*damaged\.onnx") as error:
        module._write_openvino(tmp_path / "damaged.onnx", tmp_path)
    assert "\n" not in str(error.value)
