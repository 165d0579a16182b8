"""ONNX Runtime: portable, and slower than OpenVINO on the CPUs we measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from comemory.errors import BundleError, last_line
from comemory.runtimes import Network


class Onnx:
    """One session on the CPU, for one caller at a time.

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
