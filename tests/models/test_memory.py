"""The memory, against loops over the printed equations in double precision."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models.memory import Memory, read, update  # noqa: E402

Array = NDArray[np.float64]
PROPERTY = settings(max_examples=60, deadline=None)
SIZES = st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(2, 8), st.integers(0, 2**31))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def unit(rng: np.random.Generator, *shape: int) -> Array:
    vectors = rng.standard_normal(shape)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def made(sizes: tuple[int, int, int, int]) -> tuple[Array, Array]:
    """K queries and N items of width D, all of unit norm."""
    n_queries, n_items, width, seed = sizes
    rng = np.random.default_rng(seed)
    return unit(rng, n_queries, width), unit(rng, n_items, width)


def read_by_loops(query_KD: Array, items_ND: Array, temperature: float) -> tuple[Array, Array]:
    """Eq. (6) and (7), with the q that the slide's denominator means."""
    weight_KN, read_KD = np.zeros((len(query_KD), len(items_ND))), np.zeros_like(query_KD)
    for k, q in enumerate(query_KD):
        below = sum(math.exp(float(p @ q) / temperature) for p in items_ND)
        for n, p in enumerate(items_ND):
            weight_KN[k, n] = math.exp(float(p @ q) / temperature) / below
            read_KD[k] += weight_KN[k, n] * p
    return weight_KN, read_KD


def update_by_loops(query_KD: Array, items_ND: Array) -> Array:
    """Eq. (8) to (10): the softmax over ALL queries, divided by its maximum over the queries of the item."""
    updated_ND = items_ND.copy()
    owner = [max(range(len(items_ND)), key=lambda n: float(items_ND[n] @ q)) for q in query_KD]
    for n, p in enumerate(items_ND):
        below = sum(math.exp(float(p @ q)) for q in query_KD)
        v = [math.exp(float(p @ q)) / below for q in query_KD]
        own = [k for k in range(len(query_KD)) if owner[k] == n]
        if not own:
            continue
        highest = max(v[k] for k in own)
        step = sum((v[k] / highest * query_KD[k] for k in own), np.zeros_like(p))
        moved = p + step
        updated_ND[n] = moved / np.linalg.norm(moved)
    return updated_ND


@PROPERTY
@given(SIZES, st.sampled_from([1.0, 0.1, 3.0]))
def test_read_is_equations_6_and_7(sizes: tuple[int, int, int, int], temperature: float) -> None:
    query_KD, items_ND = made(sizes)
    memory_read = read(torch.from_numpy(query_KD)[None], torch.from_numpy(items_ND), temperature)
    weight_KN, read_KD = read_by_loops(query_KD, items_ND, temperature)
    np.testing.assert_allclose(memory_read.weight_BKN[0], weight_KN, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(memory_read.read_BKD[0], read_KD, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(memory_read.query_BKD[0], query_KD)


@PROPERTY
@given(SIZES)
def test_update_is_equations_8_to_10(sizes: tuple[int, int, int, int]) -> None:
    query_KD, items_ND = made(sizes)
    updated = update(torch.from_numpy(query_KD), torch.from_numpy(items_ND))
    np.testing.assert_allclose(updated, update_by_loops(query_KD, items_ND), rtol=1e-9, atol=1e-12)


def test_update_divides_by_the_maximum_over_the_queries_of_the_item_not_over_all() -> None:
    """Query 0 is nearest to item 1, yet item 0 likes it better than its own query 1: the two maxima differ."""
    items_ND = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0]])
    query_KD = np.array([[0.7, math.sqrt(0.51), 0.0], [0.5, 0.0, math.sqrt(0.75)]])
    moved = items_ND[0] + query_KD[1]
    updated = update(torch.from_numpy(query_KD), torch.from_numpy(items_ND)).numpy()
    np.testing.assert_allclose(updated[0], moved / np.linalg.norm(moved))
    of_all = items_ND[0] + math.exp(0.5 - 0.7) * query_KD[1]
    assert np.abs(updated[0] - of_all / np.linalg.norm(of_all)).max() > 0.01


@PROPERTY
@given(SIZES, st.sampled_from([1e-3, 0.1, 1.0, 100.0]))
def test_read_weights_are_shares_and_reads_lie_among_the_items(
    sizes: tuple[int, int, int, int], temperature: float
) -> None:
    query_KD, items_ND = (torch.from_numpy(array).float() for array in made(sizes))
    memory_read = read(query_KD[None], items_ND, temperature)
    torch.testing.assert_close(memory_read.weight_BKN.sum(-1), torch.ones(1, len(query_KD)))
    assert memory_read.weight_BKN.min() >= 0
    assert (memory_read.read_BKD.norm(dim=-1) <= 1 + 1e-5).all()


@PROPERTY
@given(SIZES)
def test_at_a_low_temperature_the_nearest_item_is_read(sizes: tuple[int, int, int, int]) -> None:
    query_KD, items_ND = (torch.from_numpy(array) for array in made(sizes))
    memory_read = read(query_KD[None], items_ND, 1e-9)
    similarity_KN = query_KD @ items_ND.T
    torch.testing.assert_close(memory_read.read_BKD[0], items_ND[similarity_KN.argmax(dim=1)])
    far = read(query_KD[None], items_ND, 1e9)
    torch.testing.assert_close(far.read_BKD[0], items_ND.mean(dim=0).expand_as(query_KD))


@PROPERTY
@given(SIZES)
def test_the_order_of_items_and_of_queries_does_not_matter(sizes: tuple[int, int, int, int]) -> None:
    query_KD, items_ND = (torch.from_numpy(array) for array in made(sizes))
    generator = torch.Generator().manual_seed(sizes[3])
    items = torch.randperm(len(items_ND), generator=generator)
    queries = torch.randperm(len(query_KD), generator=generator)
    torch.testing.assert_close(read(query_KD[None], items_ND[items]).read_BKD, read(query_KD[None], items_ND).read_BKD)
    torch.testing.assert_close(update(query_KD[queries], items_ND[items]), update(query_KD, items_ND)[items])


@PROPERTY
@given(SIZES)
def test_updated_items_have_unit_norm_and_unused_ones_stay(sizes: tuple[int, int, int, int]) -> None:
    query_KD, items_ND = (torch.from_numpy(array).float() for array in made(sizes))
    updated = update(query_KD, items_ND)
    torch.testing.assert_close(updated.norm(dim=1), torch.ones(len(items_ND)))
    owners = set((query_KD @ items_ND.T).argmax(dim=1).tolist())
    for n in set(range(len(items_ND))) - owners:
        assert torch.equal(updated[n], items_ND[n])


def test_a_memory_stores_unit_items_in_its_state_and_no_parameter() -> None:
    memory = Memory(5, 8)
    torch.testing.assert_close(memory.items.norm(dim=1), torch.ones(5))
    assert set(memory.state_dict()) == {"items"}
    assert not list(memory.parameters())


def test_a_read_does_not_depend_on_the_length_of_the_queries() -> None:
    memory, query_BDHW = Memory(5, 8), torch.randn(2, 8, 3, 4)
    small, large = memory(query_BDHW), memory(1000 * query_BDHW)
    assert small.query_BKD.shape == (2, 12, 8)
    torch.testing.assert_close(small.query_BKD.norm(dim=-1), torch.ones(2, 12))
    torch.testing.assert_close(small.read_BKD, large.read_BKD)
    torch.testing.assert_close(small.query_BKD[1, 5] * query_BDHW[1, :, 1, 1].norm(), query_BDHW[1, :, 1, 1])


def test_update_items_uses_the_queries_of_all_clips_and_counts_usage() -> None:
    memory, query_BKD = Memory(6, 8), torch.nn.functional.normalize(torch.randn(3, 10, 8), dim=-1)
    items = memory.items.clone()
    memory.update_items(query_BKD)
    torch.testing.assert_close(memory.items, update(query_BKD.flatten(0, 1), items))
    counted = torch.bincount((query_BKD.flatten(0, 1) @ items.T).argmax(dim=1), minlength=6) / 30
    share = memory.pop_usage()
    torch.testing.assert_close(share, counted)
    assert share.sum() == pytest.approx(1)
    assert memory.pop_usage().tolist() == [0] * 6


def test_an_update_before_the_backward_pass_leaves_the_gradient_of_the_read_unchanged() -> None:
    memory, query_BDHW = Memory(4, 8), torch.randn(2, 8, 3, 4)
    target = torch.randn(2, 12, 8)
    gradients = []
    for updates in (False, True):
        leaf = query_BDHW.clone().requires_grad_()
        memory_read = memory(leaf)
        if updates:
            memory.update_items(memory_read.query_BKD)
        ((memory_read.read_BKD - target) ** 2).sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)
    assert memory.items.grad is None


def test_the_update_is_exact_under_autocast() -> None:
    plain, halved = Memory(4, 32), Memory(4, 32)
    halved.load_state_dict(plain.state_dict())
    query_BKD = torch.nn.functional.normalize(torch.randn(2, 50, 32), dim=-1)
    plain.update_items(query_BKD)
    with torch.autocast("cpu", torch.bfloat16):
        halved.update_items(query_BKD)
    assert torch.equal(plain.items, halved.items)
    assert torch.equal(plain.usage, halved.usage)


@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"temperature": 0.1}])
def test_gradients_of_the_read_are_right(options: dict[str, float]) -> None:
    query_KD, items_ND = made((4, 3, 5, 1))
    query = torch.from_numpy(query_KD)[None].requires_grad_()
    items = torch.from_numpy(items_ND).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, p: read(q, p, **options)[1:], (query, items))


@pytest.mark.parametrize(
    "options",
    [
        {"n_items": 0},
        {"n_items": -3},
        {"n_items": 2, "temperature": 0.0},
        {"n_items": 2, "temperature": -1.0},
        {"n_items": 2, "temperature": math.nan},
    ],
)
def test_invalid_memories_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least one item|must be"):
        Memory(width=4, **options)


WORKER = """
import sys, torch
from comemory.models.memory import Memory
rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
items_ND, queries_SBKD = torch.load(f"{folder}/given", weights_only=True)
memory = Memory(5, 8)
memory.load_state_dict({"items": items_ND})
for query_BKD in queries_SBKD:
    memory.update_items(query_BKD[rank::world])
torch.save((memory.items, memory.pop_usage()), f"{folder}/updated-{rank}")
torch.distributed.destroy_process_group()
"""


def test_data_parallel_workers_update_to_the_items_of_a_single_process(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    queries_SBKD = torch.nn.functional.normalize(torch.randn(5, 4, 30, 8, generator=generator), dim=-1)
    items_ND = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    torch.save((items_ND, queries_SBKD), tmp_path / "given")
    command = [sys.executable, "-c", WORKER]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    workers = [subprocess.Popen([*command, str(rank), "2", str(tmp_path)], text=True, **pipes) for rank in range(2)]
    try:
        for worker in workers:
            said, _ = worker.communicate(timeout=60)
            assert worker.returncode == 0, said
    finally:
        for worker in workers:
            worker.kill()
    (items, usage), (same_items, same_usage) = (
        torch.load(tmp_path / f"updated-{rank}", weights_only=True) for rank in range(2)
    )
    alone = Memory(5, 8)
    alone.load_state_dict({"items": items_ND})
    for query_BKD in queries_SBKD:
        alone.update_items(query_BKD)
    assert torch.equal(items, same_items)
    assert torch.equal(usage, same_usage)
    torch.testing.assert_close(items, alone.items, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(usage, alone.pop_usage())
