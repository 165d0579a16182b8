"""The outline of an anomaly: around the hot region that the box lies in, in pixels of the camera's image."""

from __future__ import annotations

import numpy as np
import pytest

from comemory.live.recording.outline import MAX_CORNERS, enclosing_box, outline_of

SIZE = (480, 720)


def two_places() -> np.ndarray:
    """A heat map of 32 x 48 with a warm rectangle and a hotter one elsewhere."""
    heat = np.zeros((32, 48), np.float32)
    heat[4:12, 6:18] = 0.6
    heat[20:30, 36:44] = 1.0
    return heat


def test_it_encloses_the_region_of_the_box_and_no_other() -> None:
    outline = outline_of(two_places(), (120, 90, 180, 120), SIZE)
    assert outline is not None
    assert enclosing_box(outline, None) == pytest.approx((90, 60, 270, 180), abs=12)
    assert len(outline) <= 12


def test_without_a_box_it_encloses_the_hottest_place() -> None:
    assert enclosing_box(outline_of(two_places(), None, SIZE), None) == pytest.approx((540, 300, 660, 450), abs=12)


@pytest.mark.parametrize("heat", [np.zeros((32, 48)), np.full((32, 48), 0.2), np.full((32, 48), np.nan)])
def test_a_picture_without_heat_has_none(heat: np.ndarray) -> None:
    assert outline_of(heat.astype(np.float32), (0, 0, 720, 480), SIZE) is None


def test_odd_input_gives_few_corners_inside_the_image(rng: np.random.Generator) -> None:
    for _ in range(20):
        heat = rng.random((rng.integers(1, 40), rng.integers(1, 60))).astype(np.float32)
        box = tuple(int(value) for value in rng.integers(-50, 800, 4))
        outline = outline_of(heat, box, SIZE)
        if outline is not None:
            assert 3 <= len(outline) <= MAX_CORNERS
            assert all(0 <= x <= SIZE[1] and 0 <= y <= SIZE[0] for x, y in outline)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
