"""What executes an exported network: named arrays in, named arrays out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from comemory.tables import Table
from comemory.types import JSON

RUNTIMES = Table(
    "runtime",
    {
        "openvino": "comemory.runtimes.openvino:OpenVino",
        "onnx": "comemory.runtimes.onnx:Onnx",
        "pytorch": "comemory.runtimes.pytorch:PyTorch",
    },
    extras={"onnx": "onnx", "pytorch": "train"},
)


class Network(NamedTuple):
    """Where a runtime finds the network: each takes what it needs.

    Attributes:
        graph: ONNX file, its inputs `frames`, `flow` and the items by name of memory.
        ir: OpenVINO's own file of the same graph, when it was exported.
        weights: safetensors file of the model's parameters and buffers.
        model, arguments: entry of `science.MODELS` and what it is made with.
    """

    graph: Path
    ir: Path | None
    weights: Path
    model: str
    arguments: JSON
