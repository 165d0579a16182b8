"""Bundles: written whole or not at all, opened only when they are what they say, and safe to open whoever made them."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.bundle import (
    MANIFEST,
    OPTIONAL,
    REQUIRED,
    Bundle,
    bundle_writer,
    open_bundle,
    require_replaceable,
    write_json,
)
from comemory.detector import Detector
from comemory.errors import BundleError
from comemory.runtimes import RUNTIMES
from comemory.types import Frame

MEMBERS = (MANIFEST, *REQUIRED)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "bundle.md"


def refused(path: str | Path, match: str = ".") -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleError, match=match) as caught:
        open_bundle(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def opened_or_refused(path: Path) -> Bundle | None:
    """The bundle, or None where it is refused in one short line."""
    try:
        return open_bundle(path)
    except BundleError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            raise AssertionError(f"not a short line: {error}") from error
        return None


@pytest.fixture
def bundle(nano_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return bundles.copied(nano_bundle, tmp_path)


@pytest.fixture(scope="module")
def worn(nano_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to damage again and again, for properties."""
    return bundles.copied(nano_bundle, tmp_path_factory.mktemp("worn"))


class TestOpening:
    def test_it_has_what_was_written(self, nano_bundle: Path) -> None:
        opened = open_bundle(nano_bundle)
        assert opened.clips.height == 32
        assert opened.flow.name == "dis"
        assert opened.config["train"]["epochs"] == 1
        assert opened.provenance["dataset"].startswith("synthetic:")
        assert opened.calibration.model_dump(mode="json") == bundles.read(nano_bundle, "calibration.json")
        assert list(opened.items) == ["motion_items", "appearance_items"]
        for items in opened.items.values():
            assert items.dtype == np.float32
            assert np.linalg.norm(items, axis=1) == pytest.approx(1, abs=1e-5)
        assert opened.network.ir is None
        assert opened.network.model_kwargs["base_width"] == 4

    def test_the_digest_depends_on_every_member(self, nano_bundle: Path, bundle: Path) -> None:
        assert open_bundle(bundle).digest == open_bundle(nano_bundle).digest
        bundles.write(bundle, "provenance.json", {})
        assert open_bundle(bundle).digest != open_bundle(nano_bundle).digest

    def test_a_string_and_a_path_are_the_same(self, nano_bundle: Path) -> None:
        assert open_bundle(str(nano_bundle)).digest == open_bundle(nano_bundle).digest

    @pytest.mark.parametrize("make", ["nothing", "file", "empty", "other"])
    def test_a_path_that_is_no_bundle_is_refused(self, tmp_path: Path, make: str) -> None:
        path = tmp_path / "x"
        if make == "file":
            path.write_text("{}")
        elif make in ("empty", "other"):
            path.mkdir()
        if make == "other":
            (path / "readme.txt").write_text("hello")
        refused(path, "is not a bundle")

    @pytest.mark.parametrize("path", ["", "\0", "x" * 5000, "/dev/null", "/dev/zero"])
    def test_odd_paths_are_refused(self, path: str) -> None:
        refused(path)

    def test_another_format_is_refused(self, bundle: Path) -> None:
        manifest = bundles.read(bundle, MANIFEST)
        for version in (2, 0, "1", None, [1], {"a": 1}):
            (bundle / MANIFEST).write_text(json.dumps({**manifest, "format": version}))
            refused(bundle, "bundle format .* this version reads 1")

    def test_is_current_while_the_folder_is_unchanged(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        assert opened.is_current()
        bundles.write(bundle, "provenance.json", {"new": True})
        assert not opened.is_current()
        shutil.rmtree(bundle)
        assert not opened.is_current()


class TestDamage:
    @pytest.mark.parametrize("member", REQUIRED)
    def test_a_flipped_byte_is_refused(self, bundle: Path, member: str) -> None:
        content = (bundle / member).read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            damaged = bytearray(content)
            damaged[place] ^= 1
            (bundle / member).write_bytes(bytes(damaged))
            refused(bundle, f"{member} is damaged .*copy the bundle again")

    @settings(deadline=None, max_examples=150)
    @given(data=st.data())
    def test_a_flipped_bit_in_the_manifest_is_refused_or_harmless(
        self, nano_bundle: Path, worn: Path, data: st.DataObject
    ) -> None:
        content = bytearray((nano_bundle / MANIFEST).read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        shutil.rmtree(worn)
        shutil.copytree(nano_bundle, worn)
        (worn / MANIFEST).write_bytes(bytes(content))
        if opened_or_refused(worn) is not None:
            listed = json.loads(content)["members"]
            assert listed == bundles.read(nano_bundle, MANIFEST)["members"], "only the spaces are not needed"

    @pytest.mark.parametrize("member", MEMBERS)
    @pytest.mark.parametrize("n_bytes", [0, 10])
    def test_a_truncated_member_is_refused(self, bundle: Path, member: str, n_bytes: int) -> None:
        (bundle / member).write_bytes((bundle / member).read_bytes()[:n_bytes])
        refused(bundle, "damaged|not valid JSON")

    @pytest.mark.parametrize("member", ["weights.safetensors", "model.onnx", "config.json"])
    def test_a_sparse_file_of_6_tib_is_refused_unread(self, bundle: Path, member: str) -> None:
        """Hashing it would take hours."""
        os.truncate(bundle / member, 6 * 2**40)
        refused(bundle, f"{member} has more than 2048 MiB, which no bundle needs: refused")

    def test_the_size_is_compared_first(self, bundle: Path) -> None:
        size = (bundle / "weights.safetensors").stat().st_size
        os.truncate(bundle / "weights.safetensors", 2 * 2**30)
        refused(bundle, rf"is damaged \(it has 2147483648 bytes, and the manifest says {size}\)")

    @pytest.mark.parametrize("member", MEMBERS)
    def test_a_missing_member_is_refused(self, bundle: Path, member: str) -> None:
        (bundle / member).unlink()
        refused(bundle, "is not a bundle" if member == MANIFEST else f"has no {member}: copy the whole bundle again")

    @pytest.mark.parametrize("member", REQUIRED)
    def test_a_member_that_is_not_in_the_manifest_is_refused(self, bundle: Path, member: str) -> None:
        (bundle / member).unlink()
        refused(bundles.sign(bundle), f"does not list {member}")

    @pytest.mark.parametrize("member", MEMBERS)
    def test_members_that_are_no_plain_files_are_refused(self, bundle: Path, member: str) -> None:
        moved = bundle.parent / "moved"
        (bundle / member).rename(moved)
        (bundle / member).mkdir()
        refused(bundle, "is not a file")
        (bundle / member).rmdir()
        os.mkfifo(bundle / member)
        refused(bundle, "is not a file")
        (bundle / member).unlink()
        (bundle / member).symlink_to(moved)
        refused(bundle, "is a link")
        (bundle / member).unlink()
        (bundle / member).symlink_to("/dev/zero")
        refused(bundle, "is a link")

    @pytest.mark.parametrize(
        "name", ["../x", "/etc/passwd", "a/b", "config.json/", "./config.json", "x", "", "\0", "."]
    )
    def test_an_unknown_member_is_refused(self, bundle: Path, name: str) -> None:
        (bundle.parent / "x").write_text("outside")
        manifest = bundles.read(bundle, MANIFEST)
        manifest["members"][name] = manifest["members"]["config.json"]
        (bundle / MANIFEST).write_text(json.dumps(manifest))
        refused(bundle, "which is not a member of a bundle: refused")

    @pytest.mark.parametrize("members", [None, [], "all", 3, {}, {"config.json": None}, {"config.json": {"sha256": 1}}])
    def test_invalid_members_in_the_manifest_are_refused(self, bundle: Path, members: Any) -> None:
        (bundle / MANIFEST).write_text(json.dumps({"format": 1, "members": members}))
        refused(bundle)

    def test_a_name_of_a_megabyte_gives_a_short_error(self, bundle: Path) -> None:
        manifest = bundles.read(bundle, MANIFEST)
        manifest["members"]["x" * 2**20] = {}
        (bundle / MANIFEST).write_text(json.dumps(manifest))
        assert len(refused(bundle)) < 1000


JSON_MEMBERS = ("config.json", "calibration.json", "provenance.json")
BAD_JSON = {
    "nothing": b"",
    "not json": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "not utf-8": b'{"a": "\xff\xfe"}',
    "utf-16": '{"a": 1'.encode("utf-16"),
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": [-Infinity]}',
    "overflow": b'{"a": 1e999}',
    "deep": b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 5000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "huge": b'{"a": "' + b"x" * 9_000_000 + b'"}',
}


class TestHostileJson:
    @pytest.mark.parametrize("kind", BAD_JSON)
    def test_invalid_json_members_are_refused(self, worn: Path, nano_bundle: Path, kind: str) -> None:
        for member in JSON_MEMBERS:
            shutil.copytree(nano_bundle, worn, dirs_exist_ok=True)
            assert member in refused(bundles.write(worn, member, BAD_JSON[kind]))
        shutil.copytree(nano_bundle, worn, dirs_exist_ok=True)
        (worn / MANIFEST).write_bytes(BAD_JSON[kind])
        assert MANIFEST in refused(worn)

    @pytest.mark.parametrize(
        ("member", "change"),
        [
            ("config.json", {"train": None}),
            ("config.json", {"train": {"epochs": "3", "seed": 0}}),
            ("provenance.json", {"trained_on": [1]}),
            ("provenance.json", {"held_out": {"01": "many"}}),
            ("provenance.json", {"loss": {"flow": "0.5"}}),
            ("provenance.json", {"dead_items": 3}),
            ("calibration.json", {"frames_per_alarm": 1e308}),
            ("calibration.json", {"rate_hz": 1e-320}),
            ("calibration.json", {"rate_hz": 1e307}),
        ],
    )
    def test_values_of_the_wrong_type_are_refused(self, bundle: Path, member: str, change: dict[str, Any]) -> None:
        refused(bundles.write(bundle, member, {**bundles.read(bundle, member), **change}), member)

    def test_a_flow_of_a_megabyte_gives_a_short_error(self, bundle: Path) -> None:
        config = bundles.read(bundle, "config.json")
        config["flow"]["name"] = "x" * 1_000_000
        assert len(refused(bundles.write(bundle, "config.json", config))) < 1000

    def test_a_channel_of_a_megabyte_gives_a_short_error(self, bundle: Path) -> None:
        fitted = bundles.read(bundle, "calibration.json")
        fitted["settings"]["motion"] = ["x" * 1_000_000]
        assert len(refused(bundles.write(bundle, "calibration.json", fitted))) < 1000

    @settings(deadline=None, max_examples=120)
    @given(data=st.data())
    def test_any_value_anywhere_is_accepted_or_refused_in_one_line(
        self, worn: Path, nano_bundle: Path, data: st.DataObject
    ) -> None:
        shutil.copytree(nano_bundle, worn, dirs_exist_ok=True)
        member = data.draw(st.sampled_from(["config.json", "calibration.json"]))
        value = bundles.read(nano_bundle, member)
        *path, last = data.draw(st.sampled_from(places(value)))
        place = value
        for key in path:
            place = place[key]
        if data.draw(st.booleans()) and isinstance(place, dict):
            del place[last]
        else:
            place[last] = data.draw(ODD)
        bundles.write(worn, member, value)
        opened = opened_or_refused(worn)
        if opened is not None:
            assert all(math.isfinite(opened.calibration.threshold(budget)) for budget in ("1/h", "1/week"))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.just("x" * 100_000),
    st.just("os:system"),
    st.just("\ud800"),
    st.lists(st.integers(), max_size=3),
    st.just({}),
    st.just({"a": {"b": [1]}}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, from the outside in."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [*([path] if path else []), *(place for key in keys for place in places(value[key], (*path, key)))]


class TestNothingStrangeIsReached:
    @pytest.mark.parametrize(
        "name", ["mnad2", "os:system", "comemory.models.comemory:CoMemory", "", None, ["comemory"]]
    )
    def test_an_unknown_model_is_refused(self, bundle: Path, name: Any) -> None:
        config = bundles.read(bundle, "config.json")
        refused(
            bundles.write(bundle, "config.json", {**config, "model": name}),
            "names the model .*, which this version does not know",
        )

    @pytest.mark.parametrize("name", ["dsi", "antigravity:fly", "comemory.flow.dis:Dis", "", None, 3])
    def test_an_unknown_flow_is_refused(self, bundle: Path, name: Any) -> None:
        config = bundles.read(bundle, "config.json")
        refused(bundles.write(bundle, "config.json", {**config, "flow": {"name": name}}), "flow|name")

    def test_a_dotted_path_imports_nothing(self, bundle: Path) -> None:
        config = bundles.read(bundle, "config.json")
        (bundle.parent / "foreign.py").write_text("raise SystemExit('imported')")
        for change in (
            {"model": "foreign:Model"},
            {"flow": {"name": "foreign:Flow"}},
            {"runtime": "foreign:Runtime"},
            {"network": {**config["network"], "foreign": "foreign:Layer"}},
        ):
            bundles.write(bundle, "config.json", {**config, **change})
            code = f"""
                import sys
                sys.path.insert(0, {str(bundle.parent)!r})
                from comemory.bundle import open_bundle
                from comemory.errors import BundleError
                try:
                    open_bundle({str(bundle)!r})
                except BundleError:
                    pass
                if "foreign" in sys.modules:
                    raise SystemExit("imported")
            """
            subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)

    def test_a_weight_file_that_a_bundle_names_is_not_read(self, bundle: Path, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        config = bundles.read(bundle, "config.json")
        bundles.write(bundle, "config.json", {**config, "flow": {"name": "raft", "weights": str(pipe)}})
        assert open_bundle(bundle).flow.weights is None
        pytest.importorskip("torch", reason="raft needs torch")
        from comemory.errors import ConfigError

        with pytest.raises(ConfigError, match="no weights"):
            Detector.open(bundle, threads=1)
        with pytest.raises(ConfigError, match=r"cannot read flow weights .*absent"):
            Detector.open(bundle, threads=1, flow_weights=tmp_path / "absent.pth")

    @pytest.mark.parametrize(
        "layout",
        [
            *(None, 3, [], "frames"),
            *({"frames": 3}, {"flow": 0}, {"seen": 2}, {"n_seen": 2}, {"seen": 2, "n_seen": 99}, {"sides": 2}),
        ],
    )
    def test_an_invalid_layout_is_refused(self, bundle: Path, layout: Any) -> None:
        config = bundles.read(bundle, "config.json")
        graph = {**config["graph"], "layout": layout}
        refused(bundles.write(bundle, "config.json", {**config, "graph": graph}), "layout|seen|frames|flow|sides")

    @pytest.mark.parametrize("runtime", ["openvino", "onnx", "pytorch"])
    def test_a_layout_of_another_graph_is_refused(self, bundle: Path, runtime: str) -> None:
        config = bundles.read(bundle, "config.json")
        graph = {**config["graph"], "layout": {"frames": 2, "flow": 2}}
        refused_by(runtime, bundles.write(bundle, "config.json", {**config, "graph": graph}))

    def test_without_a_layout_frames_are_used_as_they_are(self, bundle: Path) -> None:
        config = bundles.read(bundle, "config.json")
        del config["graph"]["layout"]
        opened = open_bundle(bundles.write(bundle, "config.json", config))
        assert opened.network.layout.input_names == ("frames", "flow")
        assert Detector(opened, threads=1)

    @pytest.mark.parametrize(
        "inputs",
        [
            *(None, [], "frames", ["frames", "flow"], ["flow", "frames", "motion_items", "appearance_items"]),
            *(["frames", "flow", "motion_items", "motion_items"], ["frames", "flow", "motion_items", "x"]),
            *(["frames", "flow", "motion_items", "appearance_items", {}], ["frames", "flow", "other_items"]),
        ],
    )
    def test_invalid_inputs_of_the_graph_are_refused(self, bundle: Path, inputs: Any) -> None:
        config = bundles.read(bundle, "config.json")
        refused(bundles.write(bundle, "config.json", {**config, "graph": {"inputs": inputs}}), "inputs|has")


def tensors(header: dict[str, Any] | bytes, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def one(dtype: str, shape: list[int], n_bytes: int) -> bytes:
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}
    return tensors({"motion_items": tensor, "appearance_items": tensor}, bytes(n_bytes))


BAD_TENSORS = {
    "nothing": b"",
    "a header of an exabyte": struct.pack("<Q", 2**60) + b"{}",
    "a header that is no json": tensors(b"{{{{"),
    "a header that is no utf-8": tensors(b"\xff\xfe{}"),
    "a deep header": tensors(b"[" * 100_000),
    "a tensor beyond the end": tensors({"a": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 324]}}),
    "a size that overflows": tensors({"a": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 4]}}, b"1234"),
    "a pickle": b"\x80\x04\x95\x00cos\nsystem\n",
    "no tensors": tensors({}),
    "other names": safetensors.numpy.save({"x": np.ones((2, 2), np.float32)}),
    "bfloat16": one("BF16", [1, 2], 4),
    "float8": one("F8_E4M3", [2, 2], 4),
    "booleans": one("BOOL", [2, 2], 4),
    "integers": one("I32", [1, 1], 4),
    "a scalar": one("F32", [], 4),
    "three dimensions": one("F32", [1, 1, 1], 4),
    "no items": one("F32", [0, 2**40], 0),
    "not finite": safetensors.numpy.save(
        {name: np.full((2, 2), np.nan, np.float32) for name in ("motion_items", "appearance_items")}
    ),
}


class TestHostileNetworks:
    @pytest.mark.parametrize("kind", BAD_TENSORS)
    def test_invalid_items_are_refused(self, bundle: Path, kind: str) -> None:
        refused(bundles.write(bundle, "items.safetensors", BAD_TENSORS[kind]), r"items\.safetensors")

    @pytest.mark.parametrize("runtime", RUNTIMES)
    def test_items_of_another_width_are_refused(self, bundle: Path, runtime: str) -> None:
        items = {name: np.ones((3, 7), np.float32) for name in ("motion_items", "appearance_items")}
        refused_by(runtime, bundles.write(bundle, "items.safetensors", safetensors.numpy.save(items)))

    @pytest.mark.parametrize("runtime", ["openvino", "onnx"])
    @pytest.mark.parametrize(
        "content", [b"", b"\0" * 1000, b"ONNX", os.urandom(2000)], ids=["empty", "0", "text", "noise"]
    )
    def test_an_invalid_graph_is_refused(self, bundle: Path, runtime: str, content: bytes) -> None:
        refused_by(runtime, bundles.write(bundle, "model.onnx", content), r"cannot read .*model\.onnx")

    @pytest.mark.parametrize("runtime", ["openvino", "onnx"])
    def test_a_loop_without_an_end_is_refused_unrun(self, bundle: Path, runtime: str) -> None:
        onnx = pytest.importorskip("onnx", reason="needs onnx: pip install '.[train]'")
        make, info, types = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto
        model = onnx.load(bundle / "model.onnx")
        body = onnx.helper.make_graph(
            [make("Identity", ["go"], ["go_on"]), make("Identity", ["x"], ["y"])],
            "body",
            [info("k", types.INT64, []), info("go", types.BOOL, []), info("x", types.FLOAT, [1])],
            [info("go_on", types.BOOL, []), info("y", types.FLOAT, [1])],
        )
        for name, value in (("times", np.int64(2**62)), ("begin", np.bool_(True)), ("zero", np.zeros(1, np.float32))):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        model.graph.node.append(make("Loop", ["times", "begin", "zero"], ["for_ever"], body=body))
        model.graph.output.append(info("for_ever", types.FLOAT, [1]))
        for member in ("model.xml", "model.bin"):
            (bundle / member).unlink(missing_ok=True)
        refused_by(runtime, bundles.write(bundle, "model.onnx", model.SerializeToString()), "operation Loop")

    @pytest.mark.parametrize("runtime", ["openvino", "onnx"])
    def test_a_truncated_graph_is_refused(self, bundle: Path, runtime: str) -> None:
        content = (bundle / "model.onnx").read_bytes()
        refused_by(runtime, bundles.write(bundle, "model.onnx", content[: len(content) // 2]))

    @pytest.mark.parametrize("content", [b"", b"<net>", b"<?xml version='1.0'?><net version='11'/>"])
    def test_an_invalid_ir_is_refused(self, bundle: Path, content: bytes) -> None:
        (bundle / "model.bin").write_bytes(b"1234")
        refused_by("openvino", bundles.write(bundle, "model.xml", content), r"model\.xml")

    @pytest.mark.parametrize("kind", [kind for kind in BAD_TENSORS if kind not in ("not finite",)])
    def test_invalid_weights_are_refused(self, bundle: Path, kind: str) -> None:
        refused_by("pytorch", bundles.write(bundle, "weights.safetensors", BAD_TENSORS[kind]), "weights")

    @pytest.mark.parametrize(
        "change",
        [
            *({"base_width": 10**6}, {"base_width": 8}, {"base_width": "wide"}, {"base_width": -1}, {"n_past": 10**7}),
            *({"no_such": 1}, {"motion_items": 3}, {"appearance_decodes": "all"}),
        ],
    )
    def test_model_settings_that_do_not_fit_the_weights_are_refused(self, bundle: Path, change: dict[str, Any]) -> None:
        config = bundles.read(bundle, "config.json")
        bundles.write(bundle, "config.json", {**config, "network": {**config["network"], **change}})
        refused_by("pytorch", bundle, r"do not fit|config\.json, settings of the network: ")

    @pytest.mark.parametrize("change", [{"height": 64}, {"channels": 3}, {"n_past": 5}, {"width": 40}])
    @pytest.mark.parametrize("runtime", RUNTIMES)
    def test_clip_settings_that_do_not_fit_the_graph_are_refused(
        self, bundle: Path, runtime: str, change: dict[str, Any]
    ) -> None:
        config = bundles.read(bundle, "config.json")
        bundles.write(bundle, "config.json", {**config, "clips": {**config["clips"], **change}})
        if runtime == "pytorch" and "width" in change:
            Detector.open(bundle, runtime=runtime)
        elif runtime == "pytorch" and "height" in change:
            refused_by(runtime, bundle, "spatial baselines do not fit")
        else:
            refused_by(runtime, bundle)

    def test_a_channel_without_evidence_is_refused(self, bundle: Path) -> None:
        fitted = bundles.read(bundle, "calibration.json")
        config = bundles.read(bundle, "config.json")
        graph = graph_without(bundle, "appearance_distance")
        bundles.write(bundle, "model.onnx", graph)
        fitted["settings"]["appearance"] = ["appearance_distance:16"]
        fitted["scales"]["appearance_distance:16"] = fitted["scales"]["score"]
        bundles.write(bundle, "calibration.json", fitted)
        assert config["model"] == "comemory"
        refused_by("onnx", bundle, "needs the evidence 'appearance_distance'")


class TestDocumentedErrors:
    """The table of errors in the documentation has the texts of the code."""

    ROWS = re.findall(r"^\| `(…[^`]*)` \|", PAGE.read_text(encoding="utf-8"), re.M)

    def texts(self, bundle: Path) -> Iterator[str]:
        """The error of each row, in their order."""

        def error(act: Callable[[], object]) -> str:
            with pytest.raises(BundleError) as caught:
                act()
            return str(caught.value)

        def edited(member: str, change: Callable[[Any], object]) -> Path:
            copied = bundles.copied(bundle, bundle.parent / "edited")
            value = bundles.read(copied, member)
            change(value)
            (copied / member).write_text(json.dumps(value), encoding="utf-8")
            return copied

        def flipped(member: str) -> Path:
            copied = bundles.copied(bundle, bundle.parent / "edited")
            content = bytearray((copied / member).read_bytes())
            content[-1] ^= 1
            (copied / member).write_bytes(content)
            return copied

        def without(member: str) -> Path:
            copied = bundles.copied(bundle, bundle.parent / "edited")
            (copied / member).unlink()
            return copied

        def channel(fitted: Any) -> None:
            fitted["settings"]["appearance"] = ["appearance_distance:16"]
            fitted["scales"]["appearance_distance:16"] = fitted["scales"]["score"]

        def run(copied: Path) -> None:
            detector = Detector.open(copied, threads=1, skip_static=False)
            for index in range(5):
                detector.step(Frame(np.zeros((48, 64, 3), np.uint8), index / 10, index))

        empty, other = bundle.parent / "empty", bundle.parent / "other.txt"
        empty.mkdir()
        other.write_text("x")
        yield error(lambda: open_bundle(empty))
        yield error(lambda: open_bundle(without("model.onnx")))
        yield error(lambda: open_bundle(edited("config.json", lambda config: config.update(model="memae"))))
        yield error(lambda: open_bundle(flipped("model.onnx")))
        yield error(lambda: open_bundle(edited(MANIFEST, lambda manifest: manifest.update(format=2))))
        yield error(lambda: Detector.open(bundles.unfinite(bundle, bundle.parent / "a", "flow"), threads=1))
        needing = edited("calibration.json", channel)
        bundles.write(needing, "model.onnx", graph_without(needing, "appearance_distance"))
        yield error(lambda: Detector.open(needing, runtime="onnx", threads=1))
        odd = bundles.sign(edited("config.json", lambda config: config["network"].update(stems=2)))
        yield error(lambda: Detector.open(odd, runtime="pytorch", threads=1))
        yield error(lambda: run(bundles.unfinite(bundle, bundle.parent / "b", "frames", most=0.6)))
        yield error(lambda: require_replaceable(other))

    def test_every_text_is_that_of_the_code(self, bundle: Path) -> None:
        for module in ("torch", "onnx", "onnxruntime"):
            pytest.importorskip(module)
        given = list(self.texts(bundle))
        assert len(given) == len(self.ROWS)
        for row, text in zip(self.ROWS, given, strict=True):
            pattern = ".*".join(re.escape(part.strip()) for part in row.split("…"))
            assert re.search(pattern, text), f"the code says: {text}"

    def test_a_file_that_the_manifest_does_not_list_changes_nothing(self, bundle: Path) -> None:
        before = open_bundle(bundle)
        (bundle / "notes.txt").write_text("x")
        assert open_bundle(bundle).digest == before.digest
        with pytest.raises(BundleError, match=r"also contains 'notes\.txt', which is not part of a bundle"):
            require_replaceable(bundle)


def graph_without(bundle: Path, output: str) -> bytes:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install '.[train]'")
    model = onnx.load(bundle / "model.onnx")
    (unwanted,) = (out for out in model.graph.output if out.name == output)
    model.graph.output.remove(unwanted)
    return bytes(model.SerializeToString())


def refused_by(runtime: str, bundle: Path, match: str = ".") -> None:
    with pytest.raises(BundleError, match=match) as caught:
        Detector.open(bundle, runtime=runtime, threads=1)
    assert "\n" not in str(caught.value)


def fill(folder: Path, source: Path) -> None:
    """What training does: put every member but the manifest into the folder."""
    for member in source.iterdir():
        if member.name != MANIFEST:
            shutil.copyfile(member, folder / member.name)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class TestWriting:
    def test_a_written_bundle_is_opened(self, nano_bundle: Path, tmp_path: Path) -> None:
        with bundle_writer(tmp_path / "new" / "b") as folder:
            fill(folder, nano_bundle)
            assert not (tmp_path / "new" / "b").exists()
        assert contents(tmp_path / "new" / "b") == contents(nano_bundle)
        assert open_bundle(tmp_path / "new" / "b").digest == open_bundle(nano_bundle).digest
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["b"]

    def test_everybody_may_read_a_bundle(self, nano_bundle: Path) -> None:
        assert {path.name: oct(path.stat().st_mode & 0o444) for path in nano_bundle.iterdir()} == dict.fromkeys(
            sorted(path.name for path in nano_bundle.iterdir()), "0o444"
        )

    def test_a_bundle_is_replaced_completely(self, nano_bundle: Path, bundle: Path) -> None:
        (bundle / "README.md").write_text("the old one")
        bundles.sign(bundle)
        with bundle_writer(bundle) as folder:
            fill(folder, nano_bundle)
        assert contents(bundle) == contents(nano_bundle)
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]

    def test_an_empty_folder_may_be_replaced(self, nano_bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        with bundle_writer(tmp_path / "b") as folder:
            fill(folder, nano_bundle)
        open_bundle(tmp_path / "b")

    def test_optional_members_are_written(self, nano_bundle: Path, tmp_path: Path) -> None:
        with bundle_writer(tmp_path / "b") as folder:
            fill(folder, nano_bundle)
            (folder / "README.md").write_text("A model card.\n")
        assert "README.md" in bundles.read(tmp_path / "b", MANIFEST)["members"]
        (tmp_path / "b" / "README.md").write_text("Another one.\n")
        refused(tmp_path / "b", r"README\.md is damaged")

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
    def test_after_an_error_the_old_bundle_is_unchanged(
        self, nano_bundle: Path, bundle: Path, error: BaseException
    ) -> None:
        before = contents(bundle)
        expected = BundleError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected), bundle_writer(bundle) as folder:  # noqa: PT012
            fill(folder, nano_bundle)
            raise error
        assert contents(bundle) == before
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]

    @pytest.mark.parametrize("change", ["foreign.txt", "weights.safetensors", "folder"])
    def test_unknown_and_missing_members_are_refused(self, nano_bundle: Path, tmp_path: Path, change: str) -> None:
        with pytest.raises(BundleError), bundle_writer(tmp_path / "b") as folder:  # noqa: PT012
            fill(folder, nano_bundle)
            if change == "folder":
                (folder / "README.md").mkdir()
            elif (folder / change).exists():
                (folder / change).unlink()
            else:
                (folder / change).write_text("hello")
        assert not list(tmp_path.iterdir())

    def test_an_unwritable_target_is_refused(self, nano_bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a file")
        for place in (tmp_path / "file" / "b", Path("/proc/b"), tmp_path / ("x" * 300), Path("a\0b")):
            with pytest.raises(BundleError, match="cannot write the bundle"), bundle_writer(place) as folder:
                fill(folder, nano_bundle)


class TestRefusingToReplace:
    def made(self, path: Path, kind: str) -> Path:
        if kind == "file":
            path.write_text("mine")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(path.parent)
        elif kind == "dead link":
            path.symlink_to(path.parent / "nowhere")
        else:
            path.mkdir()
            (path / "manifest.json").write_text('{"name": "my web app"}' if kind == "web app" else "{{")
            (path / "index.html").write_text("mine") if kind == "web app" else None
            if kind == "photos":
                (path / "manifest.json").unlink()
                (path / "photo.jpg").write_text("mine")
        return path

    @pytest.mark.parametrize("kind", ["file", "pipe", "link", "dead link", "web app", "broken manifest", "photos"])
    def test_something_else_is_never_replaced(self, nano_bundle: Path, tmp_path: Path, kind: str) -> None:
        path = self.made(tmp_path / "mine", kind)
        with pytest.raises(BundleError, match="not a bundle: choose another place"):
            require_replaceable(path)
        with pytest.raises(BundleError), bundle_writer(path) as folder:
            fill(folder, nano_bundle)
        assert os.path.lexists(path)
        assert [one.name for one in tmp_path.iterdir()] == ["mine"]

    def test_a_bundle_with_foreign_files_is_never_replaced(self, bundle: Path) -> None:
        (bundle / "notes.txt").write_text("mine")
        with pytest.raises(
            BundleError, match=r"also contains 'notes.txt', which is not part of a bundle: move it elsewhere"
        ):
            require_replaceable(bundle)

    def test_bundles_empty_folders_and_free_paths_are_accepted(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for place in (bundle, tmp_path / "empty", tmp_path / "nothing"):
            require_replaceable(place)


class TestJsonOut:
    @pytest.mark.parametrize("value", [{"a": math.nan}, {"a": math.inf}, {"a": object()}])
    def test_values_without_a_json_form_are_refused(self, tmp_path: Path, value: dict[str, Any]) -> None:
        with pytest.raises(BundleError, match=r"cannot write x\.json"):
            write_json(tmp_path / "x.json", value)

    @given(value=st.dictionaries(st.text(st.characters(codec=None), max_size=8), st.text(st.characters(codec=None))))
    @settings(deadline=None, max_examples=50)
    def test_any_text_is_read_back_even_invalid_utf8(self, worn: Path, value: dict[str, str]) -> None:
        path = worn.parent / "x.json"
        write_json(path, value)
        assert json.loads(path.read_text(encoding="utf-8")) == value


def run(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


COPY = """
    import resource, shutil, signal, sys
    from pathlib import Path
    from comemory.bundle import bundle_writer
    source, target = Path(sys.argv[1]), Path(sys.argv[2])

    def fill(folder):
        for member in source.iterdir():
            if member.name != "manifest.json":
                shutil.copyfile(member, folder / member.name)
"""


class TestWhenTheMachineFails:
    def test_a_full_disk_leaves_the_old_bundle(self, nano_bundle: Path, bundle: Path) -> None:
        code = (
            COPY
            + """
    import numpy, safetensors.numpy
    from comemory.errors import BundleError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for tensors in (False, True):
        try:
            with bundle_writer(target) as folder:
                if tensors:
                    safetensors.numpy.save_file({"a": numpy.zeros(10**6)}, folder / "weights.safetensors")
                fill(folder)
        except BundleError as error:
            print(error)
"""
        )
        before = contents(bundle)
        done = run(code, nano_bundle, bundle)
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first.endswith("File too large; nothing was changed")
        assert second.startswith("cannot write the bundle")
        assert contents(bundle) == before
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]

    def test_a_writer_killed_at_any_moment_leaves_one_bundle(self, nano_bundle: Path, bundle: Path) -> None:
        code = (
            COPY
            + """
    print("ready", flush=True)
    while True:
        with bundle_writer(target) as folder:
            fill(folder)
        print("written", flush=True)
"""
        )
        for round_ in range(6):
            command = [sys.executable, "-c", textwrap.dedent(code), str(nano_bundle), str(bundle)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
                time.sleep(0.003 + 0.011 * round_)
                writer.send_signal(signal.SIGKILL)
                writer.wait()
            open_bundle(bundle)
        with bundle_writer(bundle) as folder:
            fill(folder, nano_bundle)
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name], "the next write sweeps"

    def test_only_leftovers_of_killed_writers_are_removed(self, nano_bundle: Path, bundle: Path) -> None:
        mine = bundle.with_name(f".{bundle.name}.notes")
        mine.mkdir()
        with bundle_writer(bundle) as folder:
            fill(folder, nano_bundle)
            with bundle_writer(bundle) as other:
                assert folder.is_dir()
                fill(other, nano_bundle)
            assert folder.is_dir()
        assert {path.name for path in bundle.parent.iterdir()} == {bundle.name, mine.name}
        assert contents(bundle) == contents(nano_bundle)

    def test_a_bundle_that_was_moved_aside_is_restored(self, nano_bundle: Path, bundle: Path) -> None:
        aside = bundle.with_name(f".{bundle.name}.abcd1234.partial")
        aside.mkdir()
        bundle.rename(aside / bundle.name)
        with pytest.raises(BundleError, match="a bundle needs"), bundle_writer(bundle):
            pass
        assert contents(bundle) == contents(nano_bundle)
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]

    def test_readers_see_the_old_or_the_new_bundle_during_a_replacement(self, nano_bundle: Path, bundle: Path) -> None:
        other = bundle.parent / "other"
        shutil.copytree(nano_bundle, other)
        bundles.write(other, "provenance.json", {"which": "other"})
        fitted = bundles.read(other, "calibration.json")
        bundles.write(other, "calibration.json", {**fitted, "n_frames": 12345})
        code = (
            COPY
            + """
    sources = [source, Path(sys.argv[3])]
    print("ready", flush=True)
    for turn in range(100_000):
        source = sources[turn % 2]
        with bundle_writer(target) as folder:
            fill(folder)
"""
        )
        command = [sys.executable, "-c", textwrap.dedent(code), str(nano_bundle), str(bundle), str(other)]
        seen: set[tuple[bool, bool]] = set()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
                for turn in range(100_000):  # at least 60, and until the writer has had its turn
                    if turn >= 60 and len(seen) >= 2:
                        break
                    opened = open_bundle(bundle)
                    seen.add((opened.provenance == {"which": "other"}, opened.calibration.n_frames == 12345))
            finally:
                writer.kill()
        assert seen == {(False, False), (True, True)}

    def test_a_detector_never_mixes_two_bundles(self, nano_bundle: Path, bundle: Path) -> None:
        opened = open_bundle(bundle)
        bundles.write(bundle, "provenance.json", {"new": True})
        with pytest.raises(BundleError, match="was replaced or removed while it was opened: open it again"):
            Detector(opened, threads=1)

    def test_without_the_folder_swap_of_linux(
        self, nano_bundle: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "other")
        with bundle_writer(bundle) as folder:
            fill(folder, nano_bundle)
        assert contents(bundle) == contents(nano_bundle)
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_every_member_is_listed_in_the_docstring() -> None:
    import comemory.bundle

    listed = comemory.bundle.__doc__ or ""
    for name in (*MEMBERS, *(name for name in OPTIONAL if name != "README.md")):
        assert name in listed
