"""The six terms, against loops over the printed equations in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models import losses  # noqa: E402
from comemory.models.memory import MemoryRead, read  # noqa: E402

Array = NDArray[np.float64]
PROPERTY = settings(max_examples=50, deadline=None)


def made(n_items: int, seed: int, temperature: float = 1.0) -> tuple[MemoryRead, torch.Tensor]:
    """A memory_read of 2 clips with 7 queries each, and the items."""
    generator = torch.Generator().manual_seed(seed)
    query_BKD = torch.randn(2, 7, 6, generator=generator, dtype=torch.float64)
    items_ND = torch.randn(n_items, 6, generator=generator, dtype=torch.float64)
    query_BKD, items_ND = (torch.nn.functional.normalize(vectors, dim=-1) for vectors in (query_BKD, items_ND))
    return read(query_BKD, items_ND, temperature), items_ND


def by_loops(query_KD: Array, items_ND: Array, margin: float) -> tuple[float, float]:
    """Eq. (13) and (14) over distances squared, as means over the queries; the hinge of one item is nothing."""
    compact, separate = 0.0, 0.0
    for q in query_KD:
        similarity = [float(p @ q) for p in items_ND]
        i, *others = sorted(range(len(items_ND)), key=lambda n: -similarity[n])
        nearest = sum((q - items_ND[i]) ** 2)
        compact += nearest
        if others:
            separate += max(0.0, nearest - sum((q - items_ND[others[0]]) ** 2) + margin)
    return compact / len(query_KD), separate / len(query_KD)


@PROPERTY
@given(st.integers(1, 6), st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([1.0, 0.1, 0.002]))
def test_memory_terms_are_equations_13_and_14(n_items: int, seed: int, margin: float, temperature: float) -> None:
    """Whatever the temperature: at a low one the weights of all items but the nearest are 0, and tell no second."""
    memory_read, items_ND = made(n_items, seed, temperature)
    compact, separate = by_loops(memory_read.query_BKD.flatten(0, 1).numpy(), items_ND.numpy(), margin)
    assert losses.compactness_loss(memory_read, items_ND).item() == pytest.approx(compact)
    assert losses.separateness_loss(memory_read, items_ND, margin).item() == pytest.approx(separate)


def test_the_second_nearest_item_is_found_where_its_weight_is_zero() -> None:
    items_ND = torch.nn.functional.normalize(torch.tensor([[-1.0, 0.1], [1.0, 0.0], [-0.2, 1.0], [-1.0, -0.2]]), dim=1)
    memory_read = read(torch.tensor([[[1.0, 0.0]]]), items_ND, 0.005)
    assert (memory_read.weight_BKN > 0).sum() == 1
    compact, separate = by_loops(memory_read.query_BKD[0].double().numpy(), items_ND.double().numpy(), 4.0)
    assert losses.compactness_loss(memory_read, items_ND).item() == pytest.approx(compact)
    assert losses.separateness_loss(memory_read, items_ND, 4.0).item() == pytest.approx(separate)


@PROPERTY
@given(st.integers(0, 2**31))
def test_flow_and_prediction_terms_are_equations_11_and_12(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.standard_normal((2, 3, 2, 4, 5))
    expected = sum((float(a) - float(b)) ** 2 for a, b in zip(one.ravel(), other.ravel(), strict=True)) / one.size
    for term in (losses.flow_loss, losses.prediction_loss):
        assert term(torch.from_numpy(one), torch.from_numpy(other)).item() == pytest.approx(expected)


def test_the_total_weighs_each_term_by_its_name() -> None:
    parts = {name: torch.tensor(float(10**i)) for i, name in enumerate("abc")}
    assert losses.total_loss(parts, {"c": 3.0, "b": 2.0, "a": 1.0, "of a memory that is off": 9.0}).item() == 321


def test_gradients_are_right_and_finite_where_a_query_lies_on_its_item() -> None:
    _, items_ND = made(3, 0)
    query_BKD = torch.cat([items_ND[:1], made(3, 1)[0].query_BKD[0]])[None].requires_grad_()

    def terms(query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        memory_read = read(query, items_ND)
        return losses.compactness_loss(memory_read, items_ND), losses.separateness_loss(memory_read, items_ND, 1.0)

    assert torch.autograd.gradcheck(terms, (query_BKD,))
    sum(terms(query_BKD)).backward()
    assert torch.isfinite(query_BKD.grad).all()


def test_compactness_has_gradients_for_the_queries_only() -> None:
    memory_read, items_ND = made(3, 0)
    query_BKD = memory_read.query_BKD.clone().requires_grad_()
    before = losses.compactness_loss(read(query_BKD, items_ND), items_ND)
    before.backward()
    after = losses.compactness_loss(read(query_BKD - 0.5 * query_BKD.grad, items_ND), items_ND)
    assert after < before
    assert items_ND.grad is None
