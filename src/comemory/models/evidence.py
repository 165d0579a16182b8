"""What the network did not predict, as maps of means over small cells of pixels.

A patch whose side is a multiple of `CELL` is a whole number of cells, so every patch mean of Eq. (17) to (19) is a
mean of cells: the full error maps need not leave the graph, and further patch sizes cost almost nothing.
Shape suffixes: B batch, C channels, H W pixels, h w cells, K queries, D feature width, N items.
"""

from __future__ import annotations

import torch.nn.functional as nnf
from torch import Tensor

from .memory import MemoryRead

CELL = 4
"""Side of a cell in pixels."""


def cell_means(map_BCHW: Tensor, stem: int = 1) -> Tensor:
    """Means over cells, (B, C, H / CELL, W / CELL).

    Args:
        map_BCHW: after space-to-depth by `stem`, (B, C stem**2, H / stem, W / stem). The mean over a block is the mean
            over its channels, so the map need not be shuffled back.
        stem: 1, 2 or 4.
    """
    means = nnf.avg_pool2d(map_BCHW, CELL // stem)
    return means if stem == 1 else means.reshape(len(means), -1, stem**2, *means.shape[2:]).mean(dim=2)


def flow_error(decoded_B2HW: Tensor, flow_B2HW: Tensor, stem: int = 1) -> Tensor:
    """Squared error of the flow vector. Source: thesis, the summand of Eq. (18). Shapes: (B, 1, h, w), pixels squared."""
    return cell_means((flow_B2HW - decoded_B2HW) ** 2, stem).sum(dim=1, keepdim=True)


def flow_residual(decoded_B2HW: Tensor, flow_B2HW: Tensor, stem: int = 1) -> Tensor:
    """The flow that was not predicted, with its direction.

    Ours: the mean of a patch's residual vectors cancels motion to and fro (arms, legs, noise) and keeps steady motion.
    Shapes: (B, 2, h, w), pixels.
    """
    return cell_means(flow_B2HW - decoded_B2HW, stem)


def frame_error(predicted_BCHW: Tensor, frame_BCHW: Tensor, stem: int = 1) -> Tensor:
    """Squared error of the predicted frame. Source: thesis, the summand of Eq. (17). Shapes: (B, 1, h, w)."""
    return cell_means((frame_BCHW - predicted_BCHW) ** 2, stem).mean(dim=1, keepdim=True)


def memory_distance(memory_read: MemoryRead, items_ND: Tensor, height: int, width: int) -> Tensor:
    """Squared distance of each query to its nearest item, as a map.

    Ours: shows what the memory holds no item for, before a decoder can compensate for it.
    Shapes: (B, 1, height, width), in [0, 4].
    """
    similarity_BK = (memory_read.query_BKD @ items_ND.T).amax(dim=-1)
    return (2 - 2 * similarity_BK).reshape(-1, 1, height, width)
