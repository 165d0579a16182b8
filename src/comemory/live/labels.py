"""Labels of events: an object detector that the user names is run on the image of an event's peak.

A detector is an ONNX file, or OpenVINO's own (`.xml` with its `.bin`), of one of two layouts, as their projects export them:

yolox      one output (1, N, 5 + names): centre, size, object score, a score for each name
nanodet    one output (1, N, names + 4 bins): a score for each name, the distances to the four sides in bins

N counts the cells of grids of 8, 16, 32 and perhaps 64 pixels. Nothing of this is imported without a file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError, RuntimeMissing, install_hint, last_line, short_repr
from comemory.live.config import LabelSettings
from comemory.live.contract import Label
from comemory.runtimes.openvino_core import shared_core
from comemory.types import Box

Layout = Literal["yolox", "nanodet"]

_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,"
    "bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,"
    "snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,"
    "dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,"
    "vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO = tuple(_COCO.split(","))
"""The 80 names of COCO, in its order."""
NORMALISATION: dict[Layout, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "yolox": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "nanodet": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
}
"""Mean and standard deviation of blue, green and red that are subtracted and divided by, as each project trains."""
STRIDES = (8, 16, 32, 64)
SIZE = 416
"""Side of the input where neither the file nor the settings say one."""
PADDING = 114.0
"""Grey of what the crop does not cover, as both projects train."""
CONTEXT, MIN_SHARE = 2.0, 0.3
"""The crop is `CONTEXT` times as wide as the anomaly's box, and at least this share of the image's shorter side: the box is
that of the worst patch, often a part of an object."""
MAX_LABEL = 64


class Labeller:
    """One detector, compiled for one core and called by one thread at a time.

    Args:
        settings: with a file.

    Raises:
        ConfigError: the file cannot be read, or has another layout.
        RuntimeMissing: OpenVINO is not installed.
    """

    def __init__(self, settings: LabelSettings) -> None:
        if settings.file is None:
            raise ConfigError("labels.file is not set: name an ONNX file or an OpenVINO .xml file")
        self._path, self._min_score = settings.file, settings.min_score
        self._lock = threading.Lock()
        model = _read(self._path)
        facts = _Facts(self._path, model, settings)
        self.names, self.layout, self.size = facts.names, facts.layout, facts.size
        mean, std = NORMALISATION[self.layout]
        self._mean = np.array(settings.mean or facts.numbers("mean") or mean, np.float32)
        self._std = np.array(settings.std or facts.numbers("std") or std, np.float32)
        self._centres, self._strides = _grid(facts.strides, self.size)
        self._request = _compile(self._path, model)

    def find(self, image: NDArray[np.uint8], box: Box | None) -> Label | None:
        """The object at a place of an image.

        Args:
            image: uint8 (H, W, 3), RGB.
            box: left, top, right, bottom of the anomaly, in pixels; None for the whole image.

        Returns:
            The object with the highest score that the box touches; None without one.

        Raises:
            ConfigError: the network cannot be run.
        """
        left, top, right, bottom = crop_box(image.shape[:2], box)
        crop = image[top:bottom, left:right]
        scale = min(self.size[0] / crop.shape[0], self.size[1] / crop.shape[1])
        scores, boxes = self._detect(self._prepare(crop, scale))
        place = (left, top, right, bottom) if box is None else box
        own = (np.array(place, np.float32) - (left, top, left, top)) * scale
        touches = (boxes[:, :2] <= own[2:]).all(1) & (boxes[:, 2:] >= own[:2]).all(1)
        best = np.where(touches, scores.max(1), 0.0)
        row = int(best.argmax())
        if best[row] < self._min_score:
            return None
        return Label(self.names[int(scores[row].argmax())], float(best[row]))

    def _prepare(self, crop: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
        """The network's input: blue, green, red; scaled without distortion into the upper left corner."""
        height, width = (max(1, round(side * scale)) for side in crop.shape[:2])
        canvas = np.full((*self.size, 3), PADDING, np.float32)
        canvas[:height, :width] = cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1]
        return np.ascontiguousarray(((canvas - self._mean) / self._std).transpose(2, 0, 1)[None])

    def _detect(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (N, names) and boxes (N, 4) in pixels of the input."""
        with self._lock:
            try:
                self._request.infer([pixels])
            except RuntimeError as error:
                raise ConfigError(f"the label model {self._path} cannot be run: {last_line(error)}") from None
            output = np.array(self._request.get_output_tensor(0).data[0], np.float32)
        decode = _decode_yolox if self.layout == "yolox" else _decode_nanodet
        return decode(np.nan_to_num(output), len(self.names), self._centres, self._strides)


class _Facts:
    """What the file and the settings say of a detector; the settings come first."""

    def __init__(self, path: Path, model: Any, settings: LabelSettings) -> None:
        self._path, self._model = path, model
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise self._foreign(
                f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs, expected one of each"
            )
        self.size = self._input_size(settings.size)
        _, n_cells, width = self._output_shape()
        by_count = {_n_cells(STRIDES[:n], self.size): STRIDES[:n] for n in (3, 4)}
        if n_cells not in by_count:
            raise self._foreign(
                f"its output has {n_cells} rows, expected {' or '.join(map(str, by_count))} for an input of "
                f"{self.size[0]}x{self.size[1]}"
            )
        self.strides = by_count[n_cells]
        listed = settings.names or tuple(filter(None, map(str.strip, self._text("names").split(",")))) or COCO
        self.names = tuple(" ".join(name.split())[:MAX_LABEL] for name in listed)
        self.layout = self._layout(settings.layout or self._text("layout"), width)

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Three numbers of the file's metadata; None where it has none."""
        try:
            found = tuple(float(part) for part in self._text(key).split(",") if part)
        except ValueError:
            raise self._foreign(
                f"its metadata {key!r} is {short_repr(self._text(key))}, expected three numbers"
            ) from None
        return found if len(found) == 3 else None

    def _layout(self, said: str, width: int) -> Layout:
        extra = width - len(self.names)
        fits: dict[Layout, bool] = {"yolox": extra == 5, "nanodet": extra >= 8 and extra % 4 == 0}
        found = [layout for layout, is_possible in fits.items() if is_possible and said in ("", layout)]
        if not found:
            raise self._foreign(
                f"its output has {width} columns: for {len(self.names)} names, yolox has {len(self.names) + 5} and nanodet "
                f"{len(self.names) + 32}; set labels.names for other names"
            )
        return found[0]

    def _input_size(self, chosen: int | None) -> tuple[int, int]:
        """Height and width; a file without them takes those of the settings."""
        shape = self._model.inputs[0].partial_shape
        if shape.rank.is_dynamic or len(shape) != 4 or not (shape[1].is_dynamic or shape[1].get_length() == 3):
            raise self._foreign(f"its input is {shape}, expected (1, 3, height, width)")
        sides = [chosen or SIZE if side.is_dynamic else side.get_length() for side in (shape[2], shape[3])]
        if max(sides) > 2048 or min(sides) < 32:
            raise self._foreign(f"its input is {shape}, expected sides of 32 to 2048 pixels")
        try:
            self._model.reshape([1, 3, *sides])
        except RuntimeError as error:
            raise self._foreign(
                f"it does not take an input of (1, 3, {sides[0]}, {sides[1]}): {last_line(error)}"
            ) from None
        return sides[0], sides[1]

    def _output_shape(self) -> tuple[int, int, int]:
        shape = self._model.outputs[0].partial_shape
        if shape.is_dynamic or len(shape) != 3 or shape[0].get_length() != 1:
            raise self._foreign(f"its output is {shape}, expected (1, cells, columns)")
        return shape[0].get_length(), shape[1].get_length(), shape[2].get_length()

    def _text(self, key: str) -> str:
        """An entry of the metadata of an ONNX file, which OpenVINO keeps when it converts one."""
        place = ["framework", key]
        return str(self._model.get_rt_info(place).value) if self._model.has_rt_info(place) else ""

    def _foreign(self, reason: str) -> ConfigError:
        return ConfigError(f"the label model {self._path} is no detector of the layout yolox or nanodet: {reason}")


def crop_box(size: Sequence[int], box: Box | None) -> tuple[int, int, int, int]:
    """The square around an anomaly that the detector is given, inside the image: left, top, right, bottom.

    >>> crop_box((100, 200), (90, 40, 110, 60))
    (80, 30, 120, 70)
    """
    height, width = size
    if box is None:
        return 0, 0, width, height
    side = max(CONTEXT * max(box[2] - box[0], box[3] - box[1]), MIN_SHARE * min(height, width))
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top = max(0, round(middle[0] - side / 2)), max(0, round(middle[1] - side / 2))
    right, bottom = min(width, round(middle[0] + side / 2)), min(height, round(middle[1] + side / 2))
    return min(left, width - 1), min(top, height - 1), max(right, left + 1), max(bottom, top + 1)


def _read(path: Path) -> Any:
    """The network in a file, read by the reader of its kind alone: others would write their own errors."""
    kind = {".onnx": "onnx", ".xml": "ir"}.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"the label model {path} is neither an .onnx nor an OpenVINO .xml file")
    if not path.is_file():
        raise ConfigError(f"the label model {path} does not exist: set labels.file to an .onnx or .xml file")
    try:
        from openvino.frontend import FrontEndManager
    except ImportError:
        raise RuntimeMissing(f"labels need OpenVINO: {install_hint()}") from None
    try:
        reader = FrontEndManager().load_by_framework(kind)
        return reader.convert(reader.load(str(path)))
    except Exception as error:  # the readers' exceptions share no public parent
        raise ConfigError(f"the label model {path} cannot be read: {last_line(error)}") from None


def _compile(path: Path, model: Any) -> Any:
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    try:
        return shared_core().compile_model(model, "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise ConfigError(f"the label model {path} cannot be used: {last_line(error)}") from None


def _n_cells(strides: Sequence[int], size: tuple[int, int]) -> int:
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)


def _grid(strides: Sequence[int], size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Place (N, 2) of each cell, x and y in pixels, and its stride (N, 1)."""
    places, sides = [], []
    for stride in strides:
        rows, columns = -(-size[0] // stride), -(-size[1] // stride)
        y, x = np.divmod(np.arange(rows * columns), columns)
        places.append(np.stack([x, y], 1) * stride)
        sides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(sides).astype(np.float32)


def _decode_yolox(
    output: NDArray[np.float32], n_names: int, centres: NDArray[np.float32], strides: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    middle = centres + output[:, :2] * strides
    half = np.exp(np.minimum(output[:, 2:4], 20.0)) * strides / 2
    return output[:, 5 : 5 + n_names] * output[:, 4:5], np.concatenate([middle - half, middle + half], 1)


def _decode_nanodet(
    output: NDArray[np.float32], n_names: int, centres: NDArray[np.float32], strides: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    bins = output[:, n_names:].reshape(len(output), 4, -1)
    weights = np.exp(bins - bins.max(2, keepdims=True))
    steps = np.arange(bins.shape[2], dtype=np.float32)
    far = (weights @ steps) / weights.sum(2) * strides
    return output[:, :n_names], np.concatenate([centres - far[:, :2], centres + far[:, 2:]], 1)
