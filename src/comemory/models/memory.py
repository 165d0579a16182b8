"""The memory of normal: a few items, read by every query and moved towards the queries that are nearest to them.

Shape suffixes: B batch, K queries of one clip (one at each place of the feature map), D feature width, N items.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


class MemoryRead(NamedTuple):
    """The result of a read.

    Shapes:
        query_BKD: the queries, unit L2 norm.
        read_BKD: the weighted sum of the items.
        weight_BKN: in [0, 1]; sums to 1 over the items.
    """

    query_BKD: Tensor
    read_BKD: Tensor
    weight_BKN: Tensor


def read(query_BKD: Tensor, items_ND: Tensor, temperature: float = 1.0) -> MemoryRead:
    """Add up the items, weighted by their similarity to each query.

    Source: thesis, Eq. (6) and (7). The slide's denominator prints p for q.
    Deviation: `temperature` divides the similarity; at its default of 1 the formula is the thesis'.

    Shapes:
        query_BKD: float, unit norm. items_ND: float, unit norm.

    >>> items = torch.eye(2)
    >>> reading = read(torch.tensor([[[1.0, 0.0]]]), items, temperature=0.001)
    >>> reading.read_BKD
    tensor([[[1., 0.]]])
    """
    similarity_BKN = query_BKD @ items_ND.T
    weight_BKN = torch.softmax(similarity_BKN / temperature, dim=-1)
    return MemoryRead(query_BKD, weight_BKN @ items_ND, weight_BKN)


def update(query_KD: Tensor, items_ND: Tensor, *, over_all: bool = False) -> Tensor:
    """Move each item towards the queries whose nearest item it is; an item without such a query stays.

    Source: thesis, Eq. (8) to (10). Eq. (9) divides the softmax over the queries by its maximum over the queries of the
    item. That quotient is exp(similarity - maximum), which is computed here: it cannot overflow.

    Args:
        query_KD: see below.
        items_ND: the items before.
        over_all: take the maximum over all queries, as the program of MNAD's authors does.

    Shapes:
        query_KD: float, unit norm; all queries of all clips of the step.
        returns: float (N, D), unit norm.

    >>> items = torch.eye(2)
    >>> update(torch.tensor([[0.8, 0.6]]), items)[1]
    tensor([0., 1.])
    """
    similarity_KN = query_KD @ items_ND.T
    nearest_KN = nnf.one_hot(similarity_KN.argmax(dim=1), items_ND.shape[0]).bool()
    # Similarities of unit vectors are at least -1, so -4 is never the maximum of an item with queries.
    highest_N = (similarity_KN if over_all else similarity_KN.masked_fill(~nearest_KN, -4.0)).amax(dim=0)
    used_N = nearest_KN.any(dim=0)
    share_KN = torch.exp(similarity_KN - highest_N) * nearest_KN
    step_ND = share_KN.T @ query_KD
    return torch.where(used_N[:, None], nnf.normalize(items_ND + step_ND, dim=1), items_ND)


class Memory(nn.Module):
    """Items as a buffer of the state dict, and a count of how often each item was the nearest.

    Args:
        n_items: number of items.
        width: D, of queries and items.
        temperature: see `read`.
        over_all: see `update`.

    Attributes:
        items: (N, D), unit L2 norm.
        usage: (N,), queries nearest to each item since `pop_usage` was last called; not part of the state dict.
    """

    items: Tensor
    usage: Tensor

    def __init__(self, n_items: int, width: int, temperature: float = 1.0, *, over_all: bool = False) -> None:
        super().__init__()
        if n_items < 1:
            raise ValueError(f"a memory has at least one item, got n_items={n_items}; switch it off in the model")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature, self.over_all = temperature, over_all
        self.register_buffer("items", nnf.normalize(torch.randn(n_items, width), dim=1))
        self.register_buffer("usage", torch.zeros(n_items), persistent=False)

    def forward(self, query_BDHW: Tensor, items_ND: Tensor | None = None) -> MemoryRead:
        """Read with the map of queries from the encoder, and with `items_ND` in place of the stored items if given.

        The stored items are copied, because `update_items` changes them in place before the gradient of the read is taken.
        """
        query_BKD = nnf.normalize(query_BDHW.flatten(2).transpose(1, 2), dim=-1)
        return read(query_BKD, self.items.clone() if items_ND is None else items_ND, self.temperature)

    @torch.no_grad()
    def update_items(self, query_BKD: Tensor) -> None:
        """Update the stored items with the queries of this step, of all data-parallel workers together.

        Every worker gathers the same queries in the same order, so the items stay identical on all of them. The update
        is computed in fp32 under autocast too, because rounding errors would add up in the items.
        """
        with torch.autocast(query_BKD.device.type, enabled=False):
            query_KD = _gathered(query_BKD.detach().float().flatten(0, 1))
            self.usage += torch.bincount((query_KD @ self.items.T).argmax(dim=1), minlength=len(self.items))
            self.items.copy_(update(query_KD, self.items, over_all=self.over_all))

    def pop_usage(self) -> Tensor:
        """Share of the queries nearest to each item since the last call, (N,), summing to 1; then the count restarts."""
        share_N = self.usage / self.usage.sum().clamp(min=1)
        self.usage.zero_()
        return share_N


def _gathered(query_KD: Tensor) -> Tensor:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return query_KD
    parts = [torch.empty_like(query_KD) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, query_KD.contiguous())
    return torch.cat(parts)
