"""ONNX Runtime: portable, and slower than OpenVINO on the CPUs we measured."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from comemory.errors import BundleError, last_line
from comemory.runtimes import Network

_LOOP = re.compile(rb"(?:\x22|\xa2\x80*\x00)(?:\x04|\x84\x80*\x00)Loop")
"""The operation of a node in ONNX's protobuf: its tag, the length and the name; numbers may have zeros that they do not need."""


class Onnx:
    """One session on the CPU. Several threads may run it at the same time.

    Args:
        network: its `graph` is read.
        threads: number of CPU threads; None leaves it to ONNX Runtime.

    Raises:
        BundleError: the graph cannot be read.
    """

    name = "onnx"

    def __init__(self, network: Network, threads: int | None = None) -> None:
        self.precision = network.precision
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        _refuse_loops(network.graph)
        try:
            self._session = ort.InferenceSession(str(network.graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no public parent
            raise BundleError(f"ONNX Runtime cannot read {network.graph}: {last_line(error)}") from None
        self._graph = network.graph
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run the graph; see `types.Runtime.run`.

        Raises:
            BundleError: the inputs do not fit the graph.
        """
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # onnxruntime's exceptions share no public parent
            raise BundleError(f"ONNX Runtime cannot run {self._graph}: {last_line(error)}") from None
        return dict(zip(self._outputs, outputs, strict=True))


def _refuse_loops(graph: Path) -> None:
    """Refuse a graph with a `Loop`: no network of comemory has one, and it may never end. ONNX Runtime cannot be asked for it."""
    try:
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            has_loop = _LOOP.search(content) is not None
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        raise BundleError(f"ONNX Runtime cannot read {graph}: {last_line(error)}") from None
    if has_loop:
        raise BundleError(f"{graph} holds the operation Loop, which may never end: refused")
