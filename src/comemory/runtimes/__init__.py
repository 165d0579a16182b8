"""Runtimes execute an exported network: named arrays in, named arrays out.

openvino.py, onnx.py, pytorch.py  one runtime each
inputs.py                         the arrays that a graph takes for a clip
processor.py                      the precisions that this CPU supports

To add a runtime: one file with a class that takes a `Network`, one line in `RUNTIMES`, and its precisions in `PRECISIONS`.
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
"""The precisions of each runtime, each with the endings of the graph files that a bundle must hold for it.

bf16 needs none: OpenVINO computes it from the fp32 graph.
"""


class Network(NamedTuple):
    """Where the files of a network are, and how it is run. Each runtime reads what it needs.

    Attributes:
        graph: ONNX file, its inputs those of `layout` and the memory items.
        ir: OpenVINO's own file of the same graph; None where it was not exported.
        weights: safetensors file of the model's parameters and buffers.
        model: entry of `models.MODELS`.
        model_kwargs: what the model is made with.
        precision: what the network computes in. The graph files of `int8` contain it themselves.
        layout: how the graph takes clips.
        with_updates: whether the updated memory items are needed; without them a runtime may skip that work.
    """

    graph: Path
    ir: Path | None
    weights: Path
    model: str
    model_kwargs: JSON
    precision: str = "fp32"
    layout: InputLayout = InputLayout()
    with_updates: bool = True
