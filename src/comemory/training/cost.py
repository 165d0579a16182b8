"""What a network costs: its parameters, and the multiplications and additions of one clip."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from comemory.errors import TrainingError, last_line, suggest
from comemory.training.config import TrainingConfig, model_class
from comemory.types import JSON


def network_cost(config: TrainingConfig) -> JSON:
    """Return the cost of the network of a configuration, random weights being as good as trained ones.

    Buffers such as memory items are no parameters. Parameters that are never trained are counted apart.

    Returns:
        `parameters`, `frozen_parameters`, and `macs`: multiply-accumulate operations of the convolutions and matrix
        products of `infer` for one clip.

    Raises:
        TrainingError: the model cannot be made, or does not give the evidence that its settings name.
    """
    try:
        return _cost(config)
    except ValueError as error:
        raise TrainingError(f"cannot train the model {config.model!r}: {last_line(error)}") from None


def _cost(config: TrainingConfig) -> JSON:
    model = model_class(config.model).from_kwargs(**config.model_kwargs()).eval()
    clips = config.clips
    frames = torch.zeros(1, clips.n_past + 1, clips.channels, clips.height, clips.width)
    flow = torch.zeros(1, 2, clips.height, clips.width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        given = model.infer(frames, flow, *(memory.items for memory in model.memories().values()))
    named = config.network.evidence()
    if absent := [name for name in named if name not in given]:
        raise ValueError(
            f"its settings name the evidence {absent[0]!r}, which its infer does not give: {suggest(absent[0], given)}"
        )
    return {
        "parameters": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        "frozen_parameters": sum(weight.numel() for weight in model.parameters() if not weight.requires_grad),
        "macs": counter.get_total_flops() // 2,
    }
