"""Directional speed: normal in one direction says nothing about the others."""

from __future__ import annotations

import numpy as np
import pytest

from comemory.scoring.directional import N_DIRECTIONS, directional_speed, fit_directional_levels


def flow(x: float, y: float, height: int = 4, width: int = 6) -> np.ndarray:
    made = np.zeros((2, height, width), np.float32)
    made[0], made[1] = x, y
    return made


def levels(*flows: np.ndarray) -> np.ndarray:
    return np.array(fit_directional_levels(list(flows) * 5), np.float32)


def test_a_fall_exceeds_what_is_normal_downwards_though_walkers_are_faster() -> None:
    normal = levels(flow(2, 0), flow(-2, 0))
    walking, falling = directional_speed(flow(2, 0), normal).max(), directional_speed(flow(0, 1.6), normal).max()
    assert walking == pytest.approx(1, abs=0.01)
    assert falling > 1.9


def test_rows_nearer_to_the_camera_are_never_below_those_farther_away() -> None:
    varied = flow(1, 0)
    varied[0, 2:] = 0.1
    assert (np.diff(levels(varied), axis=1) >= 0).all()


def test_rare_directions_have_a_floor() -> None:
    assert levels(flow(1, 0)).min() == pytest.approx(0.4)


def test_there_is_a_map_for_each_direction_and_none_is_negative() -> None:
    found = directional_speed(flow(-0.5, 0.2), levels(flow(1, 0)))
    assert found.shape == (N_DIRECTIONS, 4, 6)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.argmax(axis=0)[0, 0] in (3, 4)  # to the left


def test_clips_of_a_batch_are_independent() -> None:
    normal, flows = levels(flow(1, 0)), np.stack([flow(1, 0), flow(0, -2)])
    np.testing.assert_allclose(directional_speed(flows, normal)[1], directional_speed(flows[1], normal))


def test_still_video_gives_usable_levels() -> None:
    assert np.isfinite(directional_speed(flow(0, 0), levels(flow(0, 0)))).all()
