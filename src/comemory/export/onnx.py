"""ONNX Runtime's int8: activations as unsigned, weights as signed bytes, one scale for each output channel."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.errors import BundleError, RuntimeMissing, install_hint, last_line

OPERATORS = ["Conv", "ConvTranspose", "MaxPool", "Concat", "Relu"]
"""Operators that are computed in int8: convolutions and what lies between two of them, see `openvino.write_int8`."""


def write_int8(graph: Path, target: Path, clips: Sequence[dict[str, NDArray[np.float32]]]) -> None:
    """Write the graph with its convolutions in int8.

    Args:
        graph: file of the fp32 network.
        target: file to write.
        clips: inputs from which the ranges of the activations are taken.

    Raises:
        BundleError: ONNX Runtime cannot do it. RuntimeMissing: it, or `onnx`, is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from onnxruntime import quantization
    except ImportError as error:
        raise RuntimeMissing(
            f"int8 for ONNX Runtime needs {error.name or 'onnx'}, which does not load: {install_hint('export')}"
        ) from error
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        quantization.quantize_static(
            str(graph),
            str(target),
            _Reader(clips),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    except Exception as error:  # onnx's and onnxruntime's exceptions share no public parent
        raise BundleError(
            f"ONNX Runtime cannot quantise {graph} to int8: {last_line(error)}; nothing was changed"
        ) from None
    finally:
        root.setLevel(level)


class _Reader:
    """Clips one by one, in the form that ONNX Runtime reads them."""

    def __init__(self, clips: Sequence[dict[str, NDArray[np.float32]]]) -> None:
        self._clips: Iterator[dict[str, NDArray[np.float32]]] = iter(clips)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The inputs of the next clip; None after the last."""
        return next(self._clips, None)

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return self._clips
