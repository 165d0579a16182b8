"""The most that this machine can compute (roofline), and how much work a network is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13

from comemory.errors import BundleError, last_line
from comemory.runtimes.openvino_core import shared_core

CHANNELS, SIDE, DEPTH = 256, 32, 3
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Precisions of the timed convolutions, with OpenVINO's hint for each; `int8` is part of the graph itself."""


def convolutions(precision: str) -> Callable[[], object]:
    """One run of a stack of 3x3 convolutions, wide enough to keep a core's arithmetic units busy, on one thread."""
    rng = np.random.default_rng(0)
    entry = place = opset13.parameter([1, CHANNELS, SIDE, SIDE], np.float32, name="x")
    for _ in range(DEPTH):
        weight = rng.normal(0, 0.02, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        kernel = opset13.constant(weight)
        if precision == "int8":
            low, high = np.float32(0), np.float32(4)
            place = opset13.fake_quantize(place, low, high, low, high, 256)
            reach = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
            ends = (opset13.constant(-reach), opset13.constant(reach))
            kernel = opset13.fake_quantize(kernel, *ends, *ends, 255)
        place = opset13.relu(opset13.convolution(place, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": PRECISIONS[precision]}
    compiled = shared_core().compile_model(ov.Model([opset13.result(place)], [entry], "convolutions"), "CPU", options)
    request = compiled.create_infer_request()
    image = rng.random((1, CHANNELS, SIDE, SIDE), dtype=np.float32)
    return lambda: request.infer([image], share_inputs=True)


def convolutions_gflop() -> float:
    """Work of one run of `convolutions`, a multiplication and an addition counted as two."""
    return 2 * 9 * CHANNELS**2 * SIDE**2 * DEPTH / 1e9


def network_gflop(graph: Path, inputs: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Work of one run of a network: its convolutions and matrix products, a multiplication and an addition as two.

    Args:
        graph: ONNX file or OpenVINO's own.
        inputs: arrays of the shapes that it runs with.

    Raises:
        BundleError: the graph cannot be read, or has other inputs.
    """
    try:
        model = shared_core().read_model(str(graph))
        model.reshape({name: list(array.shape) for name, array in inputs.items()})
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot read {graph}: {last_line(error)}") from None
    return sum(_work(node) for node in model.get_ordered_ops()) / 1e9


def _work(node: Any) -> int:
    """Operations of one node of a graph."""
    kind = node.get_type_name()
    if kind not in ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul"):
        return 0
    first, second, out = (tuple(part.get_shape()) for part in (*node.inputs()[:2], *node.outputs()[:1]))
    if kind == "MatMul":
        inner = first[-2] if node.get_attributes().get("transpose_a") else first[-1]
        return 2 * int(np.prod(out)) * int(inner)
    places = out if kind != "ConvolutionBackpropData" else first
    taps = second[1:] if kind == "Convolution" else second[2:]
    if kind == "ConvolutionBackpropData":
        taps = second[1:]
    return 2 * int(np.prod(places)) * int(np.prod(taps))
