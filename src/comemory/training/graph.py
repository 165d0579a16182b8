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

from comemory.clips.config import ClipSettings
from comemory.runtimes import InputLayout
from comemory.types import JSON, Clip

OPSET = 18


class _Infer(nn.Module):
    """The model with `infer_unshuffled` as `forward`, the method that the exporter traces."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.infer_unshuffled(*inputs).values())


def write_graph(model: Any, clips: ClipSettings, path: Path) -> JSON:
    """Write the graph for one clip at a time, in fp32.

    Returns:
        The names of the `inputs`, in the order of the graph, and of the `outputs`; the `layout` of the inputs; and the
        `own_score` of the network's authors, where it has one.
    """
    model = model.float().eval()
    layout = InputLayout(**model.input_layout)
    frames = np.zeros((clips.n_past + 1, clips.channels, clips.height, clips.width), np.float32)
    clip = layout.build_inputs(Clip.from_arrays(frames, np.zeros((2, clips.height, clips.width), np.float32)))
    inputs = {name: torch.from_numpy(array) for name, array in clip.items()}
    inputs |= {f"{name}_items": memory.items.clone() for name, memory in model.memories().items()}
    with torch.no_grad():
        outputs: Sequence[str] = list(model.infer_unshuffled(*inputs.values()))
    with _silenced():
        torch.onnx.export(
            _Infer(model),
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
    _remove_metadata(path)
    own = dict(model.settings.authors_score)
    graph: JSON = {"inputs": list(inputs), "outputs": list(outputs), "layout": layout.model_dump()}
    return {**graph, "own_score": own} if own else graph


def _remove_metadata(path: Path) -> None:
    """Remove the exporter's metadata, which holds source lines and folders of the machine that wrote the file."""
    model = onnx.load(path)
    graph = model.graph
    for thing in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del thing.metadata_props[:]
        thing.doc_string = ""
    onnx.save(model, path)


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the exporter's warnings about optional packages that are not needed here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
