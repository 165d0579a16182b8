"""The model as one ONNX file: clips and memory items in, evidence and updated items out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from comemory.clips.builder import ClipSettings
from comemory.runtimes import Squares
from comemory.types import JSON, Clip

OPSET = 18


class _Observe(nn.Module):
    """What is exported as the `forward` that the exporter looks for."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.observe = getattr(model, "observe_squares", model.observe)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.observe(*inputs).values())


def write_graph(model: Any, clips: ClipSettings, path: Path) -> JSON:
    """Write the graph for one clip at a time, in fp32.

    Returns:
        The names: `inputs` in the graph's order, and `outputs`; and the `squares` in which it takes clips.
    """
    model = model.float().eval()
    squares = Squares(**getattr(model, "squares", {}))
    observed = _Observe(model)
    frames = np.zeros((clips.n_past + 1, clips.channels, clips.height, clips.width), np.float32)
    clip = squares.inputs(Clip.of(frames, np.zeros((2, clips.height, clips.width), np.float32)))
    inputs = {name: torch.from_numpy(array) for name, array in clip.items()}
    inputs |= {f"{name}_items": memory.items.clone() for name, memory in model.memories().items()}
    with torch.no_grad():
        outputs: Sequence[str] = list(observed.observe(*inputs.values()))
    with _quiet():
        torch.onnx.export(
            observed,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
            optimize=True,
        )
    _forget_origin(path)
    return {"inputs": list(inputs), "outputs": list(outputs), "squares": squares.model_dump()}


def _forget_origin(path: Path) -> None:
    """Take the exporter's notes out of the file: they hold the source lines and the folders of the machine that wrote it."""
    model = onnx.load(path)
    graph = model.graph
    for thing in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del thing.metadata_props[:]
        thing.doc_string = ""
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages that are not needed here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
