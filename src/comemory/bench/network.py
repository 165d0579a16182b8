"""What the network of a bundle costs: its size and operations, and its time for one frame on this machine."""

from __future__ import annotations

import math

import numpy as np
import safetensors

from comemory.bench.roofline import network_gflop
from comemory.bench.timing import interleave
from comemory.bundle import Bundle
from comemory.detector import Detector
from comemory.errors import BundleError
from comemory.provenance import cpu_name
from comemory.types import JSON, Clip

COST = ("parameters", "frozen_parameters", "macs")
ROUNDS = 30
"""Runs of the network: fewer let one interruption by another process move the median."""
NOT_LEARNED = ("running_mean", "running_var", "num_batches_tracked", "items")
"""Ends of the names of tensors that are stored beside the weights and that no gradient reaches."""


def bundle_cost(bundle: Bundle) -> JSON:
    """Return what the network costs on any machine; torch is not needed.

    The provenance states it. In a bundle of an earlier version the weights and the operations of the graph are counted.

    Returns:
        See `comemory.training.cost.network_cost`. In a bundle of an earlier version `frozen_parameters` is 0, because all
        weights count as trained.

    Raises:
        BundleError: the graph or the weights cannot be read.
    """
    stored = bundle.provenance.get("cost") or {}
    if all(key in stored for key in COST):
        return {key: stored[key] for key in COST}
    return {"parameters": _n_weights(bundle), "frozen_parameters": 0, "macs": _macs(bundle)}


def _n_weights(bundle: Bundle) -> int:
    path = bundle.network.weights
    try:
        with safetensors.safe_open(path, "numpy") as file:
            names = [name for name in file.keys() if not name.endswith(NOT_LEARNED)]  # noqa: SIM118
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _macs(bundle: Bundle) -> int:
    spec = bundle.clips
    frames = np.zeros((spec.n_past + 1, spec.channels, spec.height, spec.width), np.float32)
    clip = Clip.from_arrays(frames, np.zeros((2, spec.height, spec.width), np.float32))
    inputs = {**bundle.network.layout.build_inputs(clip), **bundle.items}
    return round(network_gflop(bundle.network.graph, inputs) * 1e9 / 2)


def network_time(bundle: Bundle, runtime: str = "openvino", rounds: int = ROUNDS) -> JSON:
    """Time the network alone on one frame, on one thread, in the precision that `score` chooses.

    Args:
        bundle: opened.
        runtime: entry of `runtimes.RUNTIMES`.
        rounds: runs of the network.

    Returns:
        `median_ms`, `lowest_ms`, `highest_ms`, `rounds`, `runtime`, `precision`, `threads` and `cpu`.
    """
    detector = Detector(bundle, runtime=runtime, threads=1, all_evidence=True)
    stages = detector.stages
    inputs = stages.example_inputs()
    (timing,) = interleave({"network": lambda: stages.runtime.run(inputs)}, rounds).values()
    where = {"runtime": runtime, "precision": detector.bundle.precision, "threads": 1, "cpu": cpu_name()}
    return {**timing.summary(), **where}
