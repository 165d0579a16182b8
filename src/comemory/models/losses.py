"""The six terms of the loss, one function each.

Deviation: the thesis prints norms and sums; these are means over pixels and queries, so that the weights of
Eq. (15) have the same effect at every frame size and batch size.
Shape suffixes: B batch, C channels, H W pixels, K queries, D feature width, N items.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .memory import MemoryRead


def flow_loss(decoded_B2HW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """Mean squared error of the decoded optical flow. Source: thesis, Eq. (11)."""
    return torch.mean((decoded_B2HW - flow_B2HW) ** 2)


def prediction_loss(predicted_BCHW: Tensor, frame_BCHW: Tensor) -> Tensor:
    """Mean squared error of the predicted frame. Source: thesis, Eq. (12)."""
    return torch.mean((predicted_BCHW - frame_BCHW) ** 2)


def compactness_loss(memory_read: MemoryRead, items_ND: Tensor) -> Tensor:
    """Mean squared distance of each query to its nearest item. Source: thesis, Eq. (13).

    Deviation: the distance is squared, which keeps the gradient finite at 0. MNAD, the thesis' source, squares it too, and
    takes the mean over the width where this takes the sum.
    """
    first_BK, _ = _nearest_two(memory_read, items_ND)
    return first_BK.mean()


def separateness_loss(memory_read: MemoryRead, items_ND: Tensor, margin: float) -> Tensor:
    """Hinge that keeps the second-nearest item farther than the nearest by `margin`; 0 with a single item.

    Source: thesis, Eq. (14), read as max(0, d1 - d2 + margin).
    Deviation: distances are squared, as in Eq. (13); MNAD, the thesis' source, does not square these.
    """
    first_BK, second_BK = _nearest_two(memory_read, items_ND)
    if second_BK is None:
        return first_BK.new_zeros(())
    return torch.relu(first_BK - second_BK + margin).mean()


def total_loss(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of the terms. Source: thesis, Eq. (15).

    >>> total_loss({"flow": torch.tensor(2.0)}, {"flow": 0.5, "prediction": 1.0})
    tensor(1.)
    """
    return torch.stack([weights[name] * term for name, term in parts.items()]).sum()


def _nearest_two(memory_read: MemoryRead, items_ND: Tensor) -> tuple[Tensor, Tensor | None]:
    """Squared distances to the two nearest items; the second is None with a single item.

    The nearest are found by similarity and not by the weights of the read: at a low temperature all weights but one are 0.
    """
    n_items = len(items_ND)
    with torch.no_grad():
        nearest_BKn = torch.topk(memory_read.query_BKD @ items_ND.T, min(2, n_items), dim=-1).indices
    gap_BKnD = memory_read.query_BKD.unsqueeze(2) - items_ND[nearest_BKn]
    distance_BKn = (gap_BKnD**2).sum(-1)
    return distance_BKn[..., 0], distance_BKn[..., 1] if n_items > 1 else None
