"""What executes an exported network: named arrays in, named arrays out.

openvino.py, onnx.py, pytorch.py  one runtime each    inputs.py  what a network is given of a clip
processor.py  the precisions that pay on this CPU
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from comemory.registry import Registry
from comemory.runtimes.inputs import InputLayout
from comemory.runtimes.processor import is_faster_in, supports
from comemory.types import JSON

__all__ = ["PRECISIONS", "RUNTIMES", "InputLayout", "Network", "is_faster_in", "supports"]

RUNTIMES = Registry(
    "runtime",
    {
        "openvino": "comemory.runtimes.openvino:OpenVino",
        "onnx": "comemory.runtimes.onnx:Onnx",
        "pytorch": "comemory.runtimes.pytorch:PyTorch",
    },
    extras={"onnx": "onnx", "pytorch": "train"},
)

PRECISIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "openvino": {"fp32": (), "bf16": (), "int8": (".xml", ".bin")},
    "onnx": {"fp32": (), "int8": (".onnx",)},
    "pytorch": {"fp32": ()},
}
"""What each runtime can compute in, with the endings of the graph files that it needs a bundle to hold for that."""


class Network(NamedTuple):
    """Where a runtime finds the network: each takes what it needs.

    Attributes:
        graph: ONNX file, its inputs those of `squares` and the items by name of memory.
        ir: OpenVINO's own file of the same graph, when it was exported.
        weights: safetensors file of the model's parameters and buffers.
        model, arguments: entry of `science.MODELS` and what it is made with.
        precision: what the network computes in. The graph files of `int8` hold it in themselves.
        squares: how it takes clips.
        updates: whether the updated items are wanted; without them a runtime may save itself the work.
    """

    graph: Path
    ir: Path | None
    weights: Path
    model: str
    model_kwargs: JSON
    precision: str = "fp32"
    layout: InputLayout = InputLayout()
    with_updates: bool = True
