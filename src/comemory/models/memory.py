"""The memory of normal: a handful of items, read by every query and moved by the queries that are nearest to them.

Shape suffixes: B batch, K queries of one clip (every place of the feature map is one), D feature width, N items.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


class Reading(NamedTuple):
    """What a memory answered.

    Shapes:
        query_BKD: unit L2 norm.
        read_BKD: the weighted items.
        weight_BKN: in [0, 1], sums to 1 over the items.
    """

    query_BKD: Tensor
    read_BKD: Tensor
    weight_BKN: Tensor


def read(query_BKD: Tensor, items_ND: Tensor, temperature: float = 1.0) -> Reading:
    """Weigh the items by their likeness to each query and add them up.

    Source: seed, Eq. (6) and (7). The slide's denominator prints p for q.
    Deviation: `temperature` divides the likeness; at its default of 1 the formula is the seed's.

    Shapes:
        query_BKD: float, unit norm. items_ND: float, unit norm.

    >>> items = torch.eye(2)
    >>> reading = read(torch.tensor([[[1.0, 0.0]]]), items, temperature=0.001)
    >>> reading.read_BKD
    tensor([[[1., 0.]]])
    """
    likeness_BKN = query_BKD @ items_ND.T
    weight_BKN = torch.softmax(likeness_BKN / temperature, dim=-1)
    return Reading(query_BKD, weight_BKN @ items_ND, weight_BKN)


def update(query_KD: Tensor, items_ND: Tensor, momentum: float | None = None) -> Tensor:
    """Move each item towards the queries that are nearest to it; an item nobody is nearest to stays.

    Source: seed, Eq. (8) to (10). The softmax over the queries divided by its maximum over the queries of the item is
    the exponential of the likeness less its maximum over these queries, which is how it is computed.
    Deviation: with `momentum` m the step is p <- L2norm(m p + (1 - m) L2norm(sum v q)) in place of
    p <- L2norm(p + sum v q).

    Shapes:
        query_KD: float, unit norm; all queries of all clips of the step.
        returns: float (N, D), unit norm.

    >>> items = torch.eye(2)
    >>> update(torch.tensor([[0.8, 0.6]]), items)[1]
    tensor([0., 1.])
    """
    likeness_KN = query_KD @ items_ND.T
    nearest_KN = nnf.one_hot(likeness_KN.argmax(dim=1), items_ND.shape[0]).bool()
    highest_N = likeness_KN.masked_fill(~nearest_KN, -4.0).amax(dim=0)
    used_N = nearest_KN.any(dim=0)
    share_KN = torch.exp(likeness_KN - highest_N) * nearest_KN
    step_ND = share_KN.T @ query_KD
    moved_ND = items_ND + step_ND
    if momentum is not None:
        moved_ND = momentum * items_ND + (1 - momentum) * nnf.normalize(step_ND, dim=1)
    return torch.where(used_N[:, None], nnf.normalize(moved_ND, dim=1), items_ND)


class Memory(nn.Module):
    """Items as a buffer of the state dict, with the usage since it was last asked for.

    Args:
        n_items: how many.
        width: D, of queries and items.
        temperature, momentum: see `read` and `update`.
    """

    items: Tensor
    use: Tensor

    def __init__(self, n_items: int, width: int, temperature: float = 1.0, momentum: float | None = None) -> None:
        super().__init__()
        if n_items < 1:
            raise ValueError(f"a memory has at least one item, got n_items={n_items}; switch it off in the model")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1) or None, got {momentum}")
        self.temperature = temperature
        self.momentum = momentum
        self.register_buffer("items", nnf.normalize(torch.randn(n_items, width), dim=1))
        self.register_buffer("use", torch.zeros(n_items), persistent=False)

    def forward(self, query_BDHW: Tensor, items_ND: Tensor | None = None) -> Reading:
        """Read with the map of queries as the encoder gives it; `items_ND` stands in for the stored items.

        The stored items are copied, because `learn` moves them before the gradient of the read is taken.
        """
        query_BKD = nnf.normalize(query_BDHW.flatten(2).transpose(1, 2), dim=-1)
        return read(query_BKD, self.items.clone() if items_ND is None else items_ND, self.temperature)

    @torch.no_grad()
    def learn(self, query_BKD: Tensor) -> None:
        """Update the stored items with the queries of this step, of all data-parallel workers together.

        Every worker gathers the same queries in the same order, so the items stay identical on each of them. In fp32
        under autocast too: rounded steps would pile up in the items.
        """
        with torch.autocast(query_BKD.device.type, enabled=False):
            query_KD = _gathered(query_BKD.detach().float().flatten(0, 1))
            self.use += torch.bincount((query_KD @ self.items.T).argmax(dim=1), minlength=len(self.items))
            self.items.copy_(update(query_KD, self.items, self.momentum))

    def take_use(self) -> Tensor:
        """Share of the queries nearest to each item since the last call, (N,), summing to 1; an unused item is dead."""
        share_N = self.use / self.use.sum().clamp(min=1)
        self.use.zero_()
        return share_N


def _gathered(query_KD: Tensor) -> Tensor:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return query_KD
    parts = [torch.empty_like(query_KD) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, query_KD.contiguous())
    return torch.cat(parts)
