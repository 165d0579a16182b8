"""Precision variants of a bundle's network: their own calibration, close scores, and complete or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
from footage import clip, comemory, save_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.bundle import VARIANT_MEMBERS, open_bundle
from comemory.detector import Detector
from comemory.errors import BundleError, ConfigError, DatasetError
from comemory.export import MIN_CORRELATION, export, openvino
from comemory.export.agreement import compare_scores
from comemory.export.videos import prepare_labelled_videos, prepare_training_videos
from comemory.runtimes import PRECISIONS, RUNTIMES, is_faster_in, processor, supports
from comemory.scoring import ScoringSettings
from comemory.training.recalibrate import recalibrate
from comemory.types import Frame

DATA = "synthetic:seed=1,frames=60,training=3,testing=1,size=96x144"
"""What `nano_bundle` was trained on."""

needs_int8 = pytest.mark.skipif(not supports("int8"), reason="this CPU has no dot products of bytes")


@pytest.fixture
def bundle(nano_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def small_bundles(nano_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Copies of `nano_bundle` with an int8 variant, by runtime."""
    if not supports("int8"):
        pytest.skip("this CPU has no dot products of bytes")
    made = {}
    for runtime, package in (("openvino", "nncf"), ("onnx", "onnxruntime")):
        pytest.importorskip(package, reason="needs comemory[export]")
        made[runtime] = bundles.copied(nano_bundle, tmp_path_factory.mktemp(runtime))
        export(made[runtime], runtime, "int8", data=DATA, checks=[DATA], min_correlation=0.3)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestFp32:
    def test_openvino_files_are_added_and_give_the_same_scores(self, bundle: Path, tmp_path: Path) -> None:
        source = save_frames(tmp_path / "clip", clip(0)[0][:24])
        before = [score.value for score in Detector.open(bundle, threads=1).run(source)]
        before_export = contents(bundle)
        assert open_bundle(bundle).network.ir is None
        assert export(bundle).files == [bundle / "model.xml", bundle / "model.bin"]
        opened = open_bundle(bundle)
        assert opened.network.ir == bundle / "model.xml"
        after = [score.value for score in Detector(opened, threads=1).run(source)]
        np.testing.assert_allclose(after, before, atol=1e-4)
        now = contents(bundle)
        assert now.keys() - before_export.keys() == {"model.xml", "model.bin"}
        assert {name for name in before_export if before_export[name] != now[name]} == {"manifest.json"}
        assert json.loads(now["manifest.json"])["members"].keys() == now.keys() - {"manifest.json"}

    def test_a_second_export_changes_nothing(self, bundle: Path) -> None:
        export(bundle)
        once = contents(bundle).keys()
        export(bundle)
        assert contents(bundle).keys() == once
        assert open_bundle(bundle).network.ir is not None
        assert list(bundle.parent.iterdir()) == [bundle]

    def test_onnx_in_fp32_needs_no_file(self, bundle: Path) -> None:
        before = contents(bundle)
        assert export(bundle, "onnx").files == [bundle / "model.onnx"]
        assert contents(bundle) == before

    def test_files_with_other_outputs_are_refused_and_the_old_bundle_stays(
        self, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, write = contents(bundle), openvino.write_fp32

        def write_worse(graph: Path, ir: Path) -> None:
            write(graph, ir)
            weights = np.fromfile(ir.with_suffix(".bin"), np.float32)
            weights[(np.abs(weights) > 1e-3) & (np.abs(weights) < 1)] *= 1.5
            weights.tofile(ir.with_suffix(".bin"))

        monkeypatch.setattr(openvino, "write_fp32", write_worse)
        with pytest.raises(BundleError, match=r"differ by .*nothing was changed"):
            export(bundle)
        assert contents(bundle) == before
        assert list(bundle.parent.iterdir()) == [bundle]

    def test_an_unreadable_graph_is_reported_in_one_line(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "damaged.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:1000])
        with pytest.raises(BundleError, match=r"OpenVINO cannot read .*damaged\.onnx") as error:
            openvino.write_fp32(tmp_path / "damaged.onnx", tmp_path / "model.xml")
        assert "\n" not in str(error.value)


class TestInt8:
    @pytest.mark.parametrize("runtime", ["openvino", "onnx"])
    def test_it_has_a_calibration_of_its_own_and_close_scores(
        self, small_bundles: Mapping[str, Path], nano_bundle: Path, runtime: str
    ) -> None:
        opened = open_bundle(small_bundles[runtime])
        variant = opened.variants[runtime, "int8"]
        assert opened.precision == "fp32"
        assert opened.calibration == open_bundle(nano_bundle).calibration
        assert variant.record.calibration != opened.calibration
        assert variant.record.calibration.n_frames == opened.calibration.n_frames == variant.record.held_out.n_frames
        found = variant.record.checks[DATA]
        assert 0.3 <= min(found.spearman, found.pearson) < 1
        assert variant.record.held_out.spearman > 0.9
        assert found.auc is not None
        assert found.auc_fp32 is not None
        assert abs(found.auc - found.auc_fp32) < 0.2
        assert set(contents(small_bundles[runtime])) - set(contents(nano_bundle)) == {
            name for name in VARIANT_MEMBERS if name.startswith(f"{runtime}-int8")
        }

    @needs_int8
    @pytest.mark.parametrize("extra", [(), ("flow_residual:8",)])
    def test_what_needs_no_network_is_as_in_fp32(
        self, nano_bundle: Path, scene_frames: Sequence[Frame], tmp_path: Path, extra: tuple[str, ...]
    ) -> None:
        pytest.importorskip("nncf", reason="needs comemory[export]")
        motion = ("directional_speed:8", "agitation:12", "object_distance:4")
        scoring = ScoringSettings(fusion="sum", motion=(*motion, *extra), appearance=())
        path, cache = tmp_path / "scene", tmp_path / "cache"
        recalibrate(nano_bundle, DATA, scoring, path, cache=cache)
        export(path, "openvino", "int8", data=DATA, cache=cache, min_correlation=0.3)
        opened = open_bundle(path)
        calibration, fp32 = opened.variants["openvino", "int8"].record.calibration, opened.calibration
        for channel in motion:
            assert (calibration.scales[channel], calibration.weights[channel]) == (
                fp32.scales[channel],
                fp32.weights[channel],
            )
        assert calibration.static_threshold == fp32.static_threshold is not None
        scores = {
            precision: [step.score for frame in scene_frames if (step := detector.step(frame)) is not None]
            for precision in ("fp32", "int8")
            if (detector := Detector(opened, precision=precision, threads=1, all_evidence=True))
        }
        values = {precision: [score.value for score in found] for precision, found in scores.items()}
        assert len(values["fp32"]) == 26
        assert (values["int8"] == values["fp32"]) == (not extra)
        if not extra:
            assert calibration.scales["score"] == fp32.scales["score"]
            assert calibration.w_flow != fp32.w_flow

    def test_auto_uses_it_with_its_own_runtime(self, small_bundles: Mapping[str, Path]) -> None:
        opened = open_bundle(small_bundles["openvino"])
        detector = Detector(opened, threads=1)
        runtime: Any = detector.stages.runtime
        assert detector.bundle.precision == runtime.precision == "int8"
        assert detector.bundle.calibration == opened.variants["openvino", "int8"].record.calibration
        assert Detector(opened, precision="fp32", threads=1).bundle.calibration == opened.calibration
        assert Detector(opened, runtime="onnx", threads=1).bundle.precision == "fp32"
        assert Detector(opened, runtime=runtime).bundle.precision == "int8"

    def test_a_cpu_without_int8_uses_fp32_and_refuses_int8(
        self, small_bundles: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processor, "processor_flags", lambda: frozenset({"sse4_2", "GenuineIntel"}))
        opened = open_bundle(small_bundles["openvino"])
        assert opened.in_precision("openvino").precision == "fp32"
        with pytest.raises(ConfigError, match="this CPU does not support int8"):
            opened.in_precision("openvino", "int8")

    @pytest.mark.parametrize("change", ["gone", "byte", "record", "scoring"])
    def test_a_damaged_variant_is_refused(self, small_bundles: Mapping[str, Path], tmp_path: Path, change: str) -> None:
        path = bundles.copied(small_bundles["openvino"], tmp_path)
        record = bundles.read(path, "openvino-int8.json")
        if change == "gone":
            (path / "openvino-int8.bin").unlink()
            bundles.sign(path)
        elif change == "byte":
            content = bytearray((path / "openvino-int8.bin").read_bytes())
            content[len(content) // 2] ^= 1
            (path / "openvino-int8.bin").write_bytes(bytes(content))
        elif change == "record":
            bundles.write(path, "openvino-int8.json", {**record, "held_out": {"spearman": 2}})
        else:
            record["calibration"]["settings"]["min_frames"] = 77
            bundles.write(path, "openvino-int8.json", record)
        said = {"gone": "but not", "byte": "is damaged", "record": "held_out", "scoring": "other scoring settings"}
        with pytest.raises(BundleError, match=said[change]):
            open_bundle(path)

    @needs_int8
    def test_too_low_a_correlation_is_refused_and_the_old_bundle_stays(self, bundle: Path) -> None:
        before = contents(bundle)
        with pytest.raises(BundleError, match=r"does not score like fp32: correlation .* expected at least 2; nothing"):
            export(bundle, "onnx", "int8", data=DATA, min_correlation=2)
        assert contents(bundle) == before
        assert list(bundle.parent.iterdir()) == [bundle]

    def test_the_command_line_names_the_precision(self, small_bundles: Mapping[str, Path], tmp_path: Path) -> None:
        source = save_frames(tmp_path / "clip", clip(0)[0][:12])
        done = comemory("score", small_bundles["openvino"], source, "--out", tmp_path / "out", "--json", "--threads", 1)
        assert done.returncode == 0, done.stderr
        assert "runs in int8" in done.stderr
        assert json.loads(done.stdout)["precision"] == "int8"
        assert json.loads((tmp_path / "out" / "events.json").read_text())["precision"] == "int8"
        done = comemory("info", small_bundles["openvino"], "--json")
        assert [one["precision"] for one in json.loads(done.stdout)["precisions"]] == ["int8"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("openvino", "int8"), "give it with --data"),
            (("openvino", "int4"), "no precision 'int4'"),
            (("onnx", "bf16"), "no precision 'bf16'"),
            (("pytorch", "fp32"), "nothing to export"),
            (("tpu", "fp32"), "nothing to export"),
        ],
    )
    def test_unknown_runtimes_and_precisions(self, bundle: Path, arguments: tuple[str, str], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            export(bundle, *arguments)

    @needs_int8
    @pytest.mark.parametrize("data", [DATA.replace("seed=1", "seed=2"), DATA.replace("training=3", "training=2")])
    def test_video_other_than_that_of_the_training(self, bundle: Path, data: str) -> None:
        before = contents(bundle)
        with pytest.raises(DatasetError, match=r"is not the video that .* was trained on"):
            export(bundle, "openvino", "int8", data=data)
        assert contents(bundle) == before

    @needs_int8
    @pytest.mark.parametrize("counts", [None, [], {}, {"01": -1}, {"01": "many"}])
    def test_a_provenance_without_the_held_out_video(self, bundle: Path, counts: Any) -> None:
        bundles.write(bundle, "provenance.json", {**bundles.read(bundle, "provenance.json"), "held_out": counts})
        with pytest.raises(BundleError, match=r"does not say which video was held_out|key .held_out. does not accept"):
            export(bundle, "openvino", "int8", data=DATA)

    @pytest.mark.parametrize("precision", ["int8", "bf16", "int4"])
    @pytest.mark.parametrize("runtime", RUNTIMES)
    def test_a_precision_that_the_bundle_does_not_have(self, nano_bundle: Path, runtime: str, precision: str) -> None:
        with pytest.raises(ConfigError, match=r"has no \w+ network|has no precision"):
            open_bundle(nano_bundle).in_precision(runtime, precision)


def test_the_held_out_part_is_that_of_the_training(nano_bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(nano_bundle)
    videos = prepare_training_videos(opened, DATA, tmp_path, None, lambda: None)
    assert {video.name: len(video.indices) for video in videos.held_out} == opened.provenance["held_out"]
    for held_out in videos.held_out:
        trained = [video for video in videos.trained if video.name == held_out.name]
        assert all(video.indices[-1] < held_out.indices[0] for video in trained)


def test_a_check_is_on_the_test_videos(nano_bundle: Path, tmp_path: Path) -> None:
    """The training and the test videos of a rendered data set have the same names."""
    opened = open_bundle(nano_bundle)
    trained = prepare_training_videos(opened, DATA, tmp_path, None, lambda: None).trained
    ((video, labels),), _ = prepare_labelled_videos(opened, DATA, tmp_path, None, lambda: None)
    ((alone, _),), _ = prepare_labelled_videos(opened, DATA, tmp_path / "alone", None, lambda: None)
    np.testing.assert_array_equal(video.images, alone.images)
    assert all(not np.array_equal(video.images[:20], other.images[:20]) for other in trained)
    assert labels.any()


@pytest.mark.parametrize(
    ("flags", "int8", "bf16"),
    [
        ({"GenuineIntel", "avx2"}, False, False),
        ({"GenuineIntel", "avx512_vnni", "avx512_bf16"}, True, False),
        ({"GenuineIntel", "avx_vnni", "amx_bf16", "amx_int8"}, True, True),
        ({"AuthenticAMD", "avx512_vnni", "avx512_bf16"}, True, True),
    ],
)
def test_which_precisions_are_faster_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], int8: bool, bf16: bool
) -> None:
    monkeypatch.setattr(processor, "processor_flags", lambda: frozenset(flags))
    assert (is_faster_in("int8"), is_faster_in("bf16"), is_faster_in("fp32")) == (int8, bf16, True)


def test_every_runtime_has_fp32() -> None:
    assert set(PRECISIONS) <= set(RUNTIMES)
    assert all("fp32" in known for known in PRECISIONS.values())


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=40))
@settings(deadline=None, max_examples=60)
def test_correlations_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    one, other = np.array(pairs, np.float64).T
    found = compare_scores(one, other)
    assert compare_scores(one, one).spearman == compare_scores(one, one).pearson == 1
    if one.std() and other.std():
        assert found.pearson == pytest.approx(stats.pearsonr(one, other)[0], abs=1e-5)
        assert found.spearman == pytest.approx(stats.spearmanr(one, other)[0], abs=1e-5)
    assert MIN_CORRELATION == 0.99
