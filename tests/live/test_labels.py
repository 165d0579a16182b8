"""Labels of events by an object detector: tiny ones of both layouts, which answer to the colour of the image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live.conftest import until

from comemory.errors import ConfigError
from comemory.live.config import LabelSettings, LiveSettings
from comemory.live.engine import Engine
from comemory.live.labels import COCO, Labeller, crop_box
from comemory.store.store import EventStore

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install '.[onnx]'")
SIZE = 64
N_CELLS = {"yolox": 64 + 16 + 4, "nanodet": 64 + 16 + 4 + 1}
BICYCLE, CAR = COCO.index("bicycle"), COCO.index("car")


def detector(path: Path, layout: str, *, metadata: dict[str, str] | None = None, names: int = 80) -> Path:
    """A detector whose every cell finds an object of 32 pixels: a bicycle where the image is bright, else a car."""
    from onnx import TensorProto, helper, numpy_helper

    width = names + 5 if layout == "yolox" else names + 32
    fixed = np.zeros((1, N_CELLS[layout], width), np.float32)
    bright = np.zeros((1, 1, width), np.float32)
    first = 5 if layout == "yolox" else 0
    fixed[..., first + CAR], bright[..., first + BICYCLE] = 0.6, 0.9
    if layout == "yolox":
        fixed[..., 2:4], fixed[..., 4] = np.log(4.0), 1.0
    else:
        fixed[..., names + 2 :: 8] = 9.0  # each side is two cells away
    mean = helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0)
    nodes = [
        mean,
        helper.make_node("Greater", ["mean", "limit"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["share"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["share", "bright"], ["scores"]),
        helper.make_node("Add", ["fixed", "scores"], ["output"]),
    ]
    weights = {"fixed": fixed, "bright": bright, "limit": np.array(100.0 if layout == "yolox" else 0.0, np.float32)}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, fixed.shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def image(level: int) -> Any:
    return np.full((120, 160, 3), level, np.uint8)


@pytest.mark.parametrize("layout", ["yolox", "nanodet"])
def test_layouts(layout: str, tmp_path: Path) -> None:
    labeller = Labeller(LabelSettings(file=detector(tmp_path / "tiny.onnx", layout)))
    assert (labeller.layout, labeller.size, labeller.names) == (layout, (SIZE, SIZE), COCO)
    box = (60.0, 40.0, 90.0, 70.0)
    bright, dark = labeller.find(image(200), box), labeller.find(image(10), box)
    assert bright is not None
    assert dark is not None
    assert (bright.name, dark.name) == ("bicycle", "car")
    assert (round(bright.score, 2), round(dark.score, 2)) == (0.9, 0.6)
    assert labeller.find(image(200), None) is not None


def test_openvino_file_names_and_normalisation_of_the_metadata(tmp_path: Path) -> None:
    import openvino as ov

    metadata = {"names": "person, cargo bike, van", "mean": "150,150,150", "std": "1,1,1", "layout": "yolox"}
    made = detector(tmp_path / "tiny.onnx", "yolox", metadata=metadata, names=3)
    ov.save_model(ov.Core().read_model(made), tmp_path / "tiny.xml", compress_to_fp16=False)
    for path in (made, tmp_path / "tiny.xml"):
        labeller = Labeller(LabelSettings(file=path))
        found = labeller.find(image(200), (60.0, 40.0, 90.0, 70.0))
        assert found is not None
        assert found.name == "van", "200 less the mean of 150 is not bright"
    assert Labeller(LabelSettings(file=made, min_score=0.7)).find(image(200), None) is None
    shifted = Labeller(LabelSettings(file=made, mean=(0, 0, 0))).find(image(200), None)
    assert shifted is not None
    assert shifted.name == "cargo bike"


def test_objects_beside_the_anomaly_do_not_count(tmp_path: Path) -> None:
    labeller = Labeller(LabelSettings(file=detector(tmp_path / "tiny.onnx", "yolox")))
    scores = np.zeros((2, 80), np.float32)
    scores[0, CAR], scores[1, BICYCLE] = 0.9, 0.5
    boxes = np.array([[0, 0, 8, 8], [24, 24, 40, 40]], np.float32)
    labeller._detect = lambda pixels: (scores, boxes)  # type: ignore[method-assign]
    found = labeller.find(image(200), (70.0, 50.0, 90.0, 70.0))
    assert found is not None
    assert found.name == "bicycle"


@pytest.mark.parametrize(
    ("box", "crop"),
    [
        (None, (0, 0, 160, 120)),
        ((0.0, 0.0, 10.0, 10.0), (0, 0, 23, 23)),
        ((150.0, 110.0, 160.0, 120.0), (137, 97, 160, 120)),
        ((-5.0, -5.0, 400.0, 300.0), (0, 0, 160, 120)),
    ],
)
def test_crop_stays_inside_the_image(box: Any, crop: tuple[int, ...]) -> None:
    assert crop_box((120, 160), box) == crop


def test_foreign_and_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = detector(tmp_path / "tiny.onnx", "yolox")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(good.read_bytes()[:2000])
    broken = tmp_path / "broken.xml"
    broken.write_text("<net")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"file": tmp_path / "none.onnx"}, "does not exist"),
        ({"file": tmp_path}, "neither an .onnx nor"),
        ({"file": damaged}, "cannot be read"),
        ({"file": broken}, "cannot be read"),
        ({"file": good, "names": ("a", "b")}, "has 85 columns: for 2 names"),
        ({"file": good, "layout": "nanodet"}, "is no detector of the layout"),
    ]
    for settings, text in cases:
        with pytest.raises(ConfigError, match=text) as caught:
            Labeller(LabelSettings(**settings))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_doctor_reads_and_runs_the_file(live: Callable[..., LiveSettings], tmp_path: Path) -> None:
    from comemory.live.doctor import run_checks

    def check(file: Path) -> tuple[bool | None, str]:
        [found] = [one for one in run_checks(live({}, labels={"file": str(file)})) if one.name.startswith("labels")]
        return found.ok, found.found

    assert not [one for one in run_checks(live({})) if one.name.startswith("labels")]
    is_ok, text = check(detector(tmp_path / "tiny.onnx", "yolox"))
    assert is_ok, text
    assert text.startswith(f"80 names, layout yolox, {SIZE}x{SIZE}, ")
    assert check(tmp_path / "none.onnx") == (
        False,
        f"the label model {tmp_path / 'none.onnx'} does not exist: set labels.file to an .onnx or .xml file",
    )


def test_label_stands_on_the_event_in_the_file_the_store_and_the_filter(
    clips: list[Path], live: Callable[..., LiveSettings], tmp_path: Path
) -> None:
    labels = {"file": str(detector(tmp_path / "tiny.onnx", "yolox", metadata={"mean": "-200,-200,-200"}))}
    settings = live({"gate": {"url": str(clips[0]), "realtime": False}}, labels=labels)
    with EventStore.open(settings.store_url, settings.media) as store:
        engine = Engine(settings, store)
        engine.start()
        until(lambda: engine.finished)
        engine.stop()
        events = store.page()
        assert events
        assert {event.label for event in events} == {"bicycle"}
        assert len(store.page(label="bicycle")) == len(events)
        assert store.page(label="car") == store.page(label="none") == []
        marks, total = store.summaries(label="bicycle")
        assert total == len(events)
        assert {mark.label for mark in marks} == {"bicycle"}
    lines = [json.loads(line) for line in (settings.out / "events.jsonl").read_text().splitlines()]
    assert {line["event"]["label"] for line in lines if line["change"] == "new"} == {"bicycle"}


def test_service_goes_on_without_a_file_that_cannot_be_used(
    clips: list[Path], live: Callable[..., LiveSettings], engines: Callable[..., Engine], tmp_path: Path
) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"\x08no network")
    labels = {"file": str(tmp_path / "damaged.onnx")}
    engine = engines(live({"gate": {"url": str(clips[0]), "realtime": False}}, labels=labels))
    notes = [note for note in engine.start_notes if note.startswith("events get no labels: the label model")]
    assert len(notes) == 1
    until(lambda: engine.finished)
    lines = [json.loads(line) for line in (engine.settings.out / "events.jsonl").read_text().splitlines()]
    assert {line["event"]["label"] for line in lines if line["change"] == "new"} == {None}
