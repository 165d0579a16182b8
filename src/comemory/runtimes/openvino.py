"""OpenVINO, the default runtime: the fastest on the CPUs we measured. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from comemory.errors import BundleError, last_line
from comemory.runtimes import AUTO, CPU, Network
from comemory.runtimes.openvino_core import shared_core
from comemory.runtimes.sharing import OneCaller

CONTROL_FLOW = frozenset({"Loop", "If", "TensorIterator"})


class OpenVino:
    """One compiled graph and one inference request. Callers in several threads take turns.

    Args:
        network: its `ir` is read where there is one, else its `graph`; `bf16` is computed from the fp32 graph.
        threads: number of CPU threads; None leaves it to OpenVINO.

    Raises:
        BundleError: the graph cannot be read, or its device does not compute in its precision.
        ConfigError: this process was forked from one that had used OpenVINO.
    """

    name = "openvino"

    def __init__(self, network: Network, threads: int | None = None) -> None:
        self.precision = network.precision
        graph = network.ir or network.graph
        try:
            core = shared_core()
            model = core.read_model(str(graph))
            _refuse_control_flow(graph, model)
            if not network.with_updates:
                _remove_updates(model)
            options = _options(network.precision, network.device, threads)
            self._compiled = core.compile_model(model, network.device, options)
        except RuntimeError as error:
            where = "" if network.device == CPU else f" on {network.device} in {network.precision}"
            raise BundleError(f"OpenVINO cannot read {graph}{where}: {last_line(error)}") from None
        self._graph = graph
        self._request = self._compiled.create_infer_request()
        self._inputs = {part.any_name for part in self._compiled.inputs}
        outputs = enumerate(self._compiled.outputs)
        self._outputs = [(output.any_name, self._request.get_output_tensor(number)) for number, output in outputs]
        self._bound: dict[str, NDArray[np.float32]] = {}
        self._one_caller = OneCaller("OpenVINO")

    @staticmethod
    def devices() -> tuple[str, ...]:
        """The devices of this machine, and `AUTO`."""
        return (*shared_core().available_devices, AUTO)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run the graph; see `types.Runtime.run`.

        Raises:
            BundleError: the inputs do not fit the graph.
            ConfigError: this process was forked from the one that opened the runtime.
        """
        if inputs.keys() != self._inputs:
            raise BundleError(f"{self._graph} takes {sorted(self._inputs)}, not {sorted(inputs)}")
        # From the first input that is bound to the last output that is copied, the request belongs to one caller.
        with self._one_caller:
            try:
                for name, array in inputs.items():
                    if self._bound.get(name) is not array:
                        self._bind(name, array)
                self._request.infer()
            except (RuntimeError, TypeError) as error:
                raise BundleError(f"OpenVINO cannot run {self._graph}: {last_line(error)}") from None
            return {name: np.array(tensor.data) for name, tensor in self._outputs}

    def _bind(self, name: str, array: NDArray[np.float32]) -> None:
        """Let the request read an array in place: 0.1 ms faster than passing all of them with each call.

        An array that is the same object as before (the memory items, mostly) stays bound.
        """
        contiguous = np.ascontiguousarray(array, np.float32)
        self._request.set_tensor(name, ov.Tensor(contiguous, shared_memory=True))
        self._bound[name] = contiguous


def _refuse_control_flow(graph: Path, model: Any) -> None:
    """Refuse operations with graphs of their own: no network of comemory has one, and a `Loop` may never end."""
    found = CONTROL_FLOW.intersection(operation.get_type_name() for operation in model.get_ops())
    if found:
        raise BundleError(f"{graph} holds the operation {min(found)}, which may never end: refused")


def _remove_updates(model: Any) -> None:
    """Remove the outputs with updated memory items, so that nothing is computed for them."""
    for result in list(model.get_results()):
        if any(name.startswith("updated_") for name in result.input_value(0).get_names()):
            model.remove_result(result)


def _options(precision: str, device: str, threads: int | None) -> dict[str, Any]:
    """Options for one stream of low latency. Threads are not pinned: those of several cameras would share one core."""
    shared = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    of_cpu: dict[str, Any] = {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False, "ENABLE_HYPER_THREADING": False}
    if threads is not None:
        of_cpu["INFERENCE_NUM_THREADS"] = threads
    if device == CPU:
        return {**shared, **of_cpu}
    return {**shared, "DEVICE_PROPERTIES": {CPU: of_cpu}} if device == AUTO else shared
