"""OpenVINO, the default: the fastest on the CPUs we measured, and no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")

import openvino as ov

from comemory.errors import BundleError, last_line
from comemory.runtimes import Network


class OpenVino:
    """One compiled graph and one request, in fp32.

    Args:
        network: its `ir` is read when present, else its `graph`.
        threads: CPU threads; None leaves the choice to OpenVINO.

    Raises:
        BundleError: the graph cannot be read.
    """

    name = "openvino"

    def __init__(self, network: Network, threads: int | None = None) -> None:
        options: dict[str, str | int] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        graph = network.ir or network.graph
        try:
            self._compiled = ov.Core().compile_model(str(graph), "CPU", options)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot read {graph}: {last_line(error)}") from None
        self._graph = graph
        self._request = self._compiled.create_infer_request()
        self._inputs = {part.any_name for part in self._compiled.inputs}
        self._outputs = [output.any_name for output in self._compiled.outputs]

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """See `types.Runtime`. Raises BundleError where the inputs do not fit the graph."""
        if inputs.keys() != self._inputs:
            raise BundleError(f"{self._graph} takes {sorted(self._inputs)}, not {sorted(inputs)}")
        try:
            results = self._request.infer(dict(inputs), share_inputs=True)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot run {self._graph}: {last_line(error)}") from None
        return {name: np.array(results[name]) for name in self._outputs}
