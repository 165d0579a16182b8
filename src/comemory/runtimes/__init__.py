"""Runtimes execute an exported network: named arrays in, named arrays out.

openvino.py, onnx.py, pytorch.py  one runtime each
openvino_core.py                  OpenVINO's core, one for the whole process
sharing.py                        one caller at a time, and none in a forked process
inputs.py                         the arrays that a graph takes for a clip
processor.py                      the precisions that this CPU supports

To add a runtime: one file with a class that takes a `Network`, and one line in `RUNTIMES`. Several threads may call its `run`,
see `sharing.OneCaller`. It runs in fp32 on the CPU, unless
`PRECISIONS` has more precisions for it, and its class a static method `devices` that lists others.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from comemory.errors import ConfigError
from comemory.registry import Registry
from comemory.runtimes.inputs import InputLayout
from comemory.runtimes.processor import is_faster_in, supports
from comemory.types import JSON

__all__ = ["AUTO", "CPU", "PRECISIONS", "RUNTIMES", "InputLayout", "Network", "find_device", "is_faster_in", "supports"]

CPU, AUTO = "CPU", "AUTO"
"""The device of every runtime, and the name of OpenVINO's own choice among all."""

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
}
"""The precisions of each runtime that has others than fp32, each with the endings of the graph files that a bundle must hold.

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
        device: that executes it, as `find_device` gives it.
    """

    graph: Path
    ir: Path | None
    weights: Path
    model: str
    model_kwargs: JSON
    precision: str = "fp32"
    layout: InputLayout = InputLayout()
    with_updates: bool = True
    device: str = CPU


def find_device(runtime: str, name: str) -> str:
    """The device of a runtime by its name, in any case: `GPU` for `gpu`.

    Raises:
        ConfigError: the runtime does not find it on this machine, or there is no such runtime.
        RuntimeMissing: the runtime's package is not installed.
    """
    device = name.strip().upper()
    if device == CPU and runtime in RUNTIMES:
        return device
    list_devices = getattr(RUNTIMES.load(runtime), "devices", None)
    present = (CPU,) if list_devices is None else tuple(list_devices())
    # OpenVINO calls several of a kind GPU.0 and GPU.1, and the first of them GPU too.
    if device in present or f"{device}.0" in present:
        return device
    raise ConfigError(f"the runtime {runtime!r} finds no device {name!r} here: expected {' or '.join(present)}")
