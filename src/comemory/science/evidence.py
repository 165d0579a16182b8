"""What the network could not explain, as maps of means over small cells of pixels.

A patch whose side is a multiple of `CELL` is a whole number of cells, so every patch mean of Eq. (17) to (19) is a
mean of cells: the full error maps need not leave the graph, and several patch sizes cost next to nothing.
Shape suffixes: B batch, C channels, H W pixels, h w cells, K queries, D feature width, N items.
"""

from __future__ import annotations

import torch.nn.functional as nnf
from torch import Tensor

from .memory import Reading

CELL = 4
"""Side of a cell in pixels."""


def cells(map_BCHW: Tensor) -> Tensor:
    """Means over cells, (B, C, H / CELL, W / CELL)."""
    return nnf.avg_pool2d(map_BCHW, CELL)


def flow_error(decoded_B2HW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """Squared error of the flow vector. Source: seed, the summand of Eq. (18). Shapes: (B, 1, h, w), pixels squared."""
    return cells(((flow_B2HW - decoded_B2HW) ** 2).sum(dim=1, keepdim=True))


def flow_residual(decoded_B2HW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """The part of the flow that was not expected, with its direction.

    Ours: the mean of a patch's residual vectors cancels what swings (arms, legs, noise) and keeps what carries on.
    Shapes: (B, 2, h, w), pixels.
    """
    return cells(flow_B2HW - decoded_B2HW)


def frame_error(predicted_BCHW: Tensor, frame_BCHW: Tensor) -> Tensor:
    """Squared error of the predicted frame. Source: seed, the summand of Eq. (17). Shapes: (B, 1, h, w)."""
    return cells(((frame_BCHW - predicted_BCHW) ** 2).mean(dim=1, keepdim=True))


def memory_distance(reading: Reading, items_ND: Tensor, height: int, width: int) -> Tensor:
    """Squared distance of each query to its nearest item, laid out as the map of queries.

    Ours: what the memory holds no item for, before any decoder could make up for it.
    Shapes: (B, 1, height, width), in [0, 4].
    """
    likeness_BK = (reading.query_BKD @ items_ND.T).amax(dim=-1)
    return (2 - 2 * likeness_BK).reshape(-1, 1, height, width)
