"""Evidence maps, against brute force over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory import scoring  # noqa: E402
from comemory.models import evidence  # noqa: E402
from comemory.models.memory import read  # noqa: E402

CELL = evidence.CELL
PROPERTY = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**31)


def pair(seed: int, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    one, other = np.random.default_rng(seed).standard_normal((2, 2, channels, 24, 32))
    return torch.from_numpy(one), torch.from_numpy(other)


def test_models_and_scoring_use_one_cell_size() -> None:
    assert scoring.CELL == CELL


@PROPERTY
@given(SEEDS, st.sampled_from([1, 2, 3]))
def test_cells_are_means_of_pixels(seed: int, channels: int) -> None:
    pixels, _ = pair(seed, channels)
    maps = evidence.cell_means(pixels)
    assert maps.shape == (2, channels, 24 // CELL, 32 // CELL)
    for row, column in ((0, 0), (2, 3), (24 // CELL - 1, 32 // CELL - 1)):
        block = pixels[:, :, row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        torch.testing.assert_close(maps[:, :, row, column], block.mean(dim=(2, 3)))


@PROPERTY
@given(SEEDS, st.sampled_from([4, 8, 12, 16]))
def test_patch_means_of_cells_are_those_of_pixels(seed: int, patch: int) -> None:
    """Eq. (17) to (19): S_F at every patch that starts on a cell, and S_I of the patch where S_F is largest."""
    flow, decoded = pair(seed, 2)
    frame, predicted = pair(seed + 1, 3)
    flow_cells = evidence.flow_error(decoded, flow)[0].numpy().astype(np.float32)
    frame_cells = evidence.frame_error(predicted, frame)[0].numpy().astype(np.float32)
    flow_error = ((flow - decoded) ** 2)[0].sum(dim=0).numpy()
    frame_error = ((frame - predicted) ** 2)[0].mean(dim=0).numpy()
    best = (-1.0, 0, 0)
    means = scoring.patch_means(flow_cells, patch // CELL)[0]
    for top in range(0, 24 - patch + 1, CELL):
        for left in range(0, 32 - patch + 1, CELL):
            of_pixels = float(flow_error[top : top + patch, left : left + patch].mean())
            assert means[top // CELL, left // CELL] == pytest.approx(of_pixels, rel=1e-5)
            best = max(best, (of_pixels, top, left))
    found, of_frame = scoring.thesis_parts({"flow_error": flow_cells[None], "frame_error": frame_cells[None]}, patch)
    value, top, left = best
    assert found.value == pytest.approx(value, rel=1e-5)
    assert found.box == (left, top, left + patch, top + patch)
    assert of_frame == pytest.approx(float(frame_error[top : top + patch, left : left + patch].mean()), rel=1e-5)


@PROPERTY
@given(SEEDS)
def test_opposite_residuals_cancel_in_a_patch_and_equal_ones_do_not(seed: int) -> None:
    flow, decoded = pair(seed, 2)
    torch.testing.assert_close(
        evidence.flow_residual(decoded, flow), evidence.cell_means(flow) - evidence.cell_means(decoded)
    )
    oscillation = torch.ones(1, 2, 8, 8)
    oscillation[..., ::2] = -1
    assert evidence.flow_residual(torch.zeros_like(oscillation), oscillation).abs().max() == 0
    assert evidence.flow_error(torch.zeros_like(oscillation), oscillation).min() == 2


@PROPERTY
@given(SEEDS, st.integers(1, 5))
def test_memory_distance_is_to_the_nearest_item_and_lies_where_the_query_does(seed: int, n_items: int) -> None:
    rng = np.random.default_rng(seed)
    query_BKD = torch.from_numpy(rng.standard_normal((2, 12, 5)))
    items_ND = torch.from_numpy(rng.standard_normal((n_items, 5)))
    query_BKD, items_ND = (torch.nn.functional.normalize(vectors, dim=-1) for vectors in (query_BKD, items_ND))
    distance = evidence.memory_distance(read(query_BKD, items_ND, 0.1), items_ND, 3, 4)
    assert distance.shape == (2, 1, 3, 4)
    for b in range(2):
        for k in range(12):
            brute = min(float(((query_BKD[b, k] - p) ** 2).sum()) for p in items_ND)
            assert float(distance[b, 0, k // 4, k % 4]) == pytest.approx(brute, abs=1e-9)
