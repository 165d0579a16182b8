"""Images survive encoding; heat maps and outlines lie where they belong."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from comemory.evaluation.report.images import LONGEST_SIDE, data_uri, with_heat_map, with_outline


def opened(uri: str) -> NDArray[np.uint8]:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image[..., ::-1], dtype=np.uint8)


def test_colours_keep_their_order() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :24, 0] = 220
    image[:, 24:, 2] = 220
    back = opened(data_uri(image)).astype(int)
    assert back.shape == image.shape
    assert np.abs(back[:, 4:20] - image[:, 4:20]).max() < 25
    assert np.abs(back[:, 28:44] - image[:, 28:44]).max() < 25


@pytest.mark.parametrize("size", [(1, 1), (1080, 1920), (2000, 3), (3, 4000), (560, 560)])
def test_size_is_bounded(size: tuple[int, int]) -> None:
    back = opened(data_uri(np.full((*size, 3), 128, np.uint8)))
    assert max(back.shape[:2]) == min(LONGEST_SIDE, max(size))


def test_views_with_any_strides_are_encoded() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert data_uri(image[::-1, ::-1]) == data_uri(np.ascontiguousarray(image[::-1, ::-1]))


def test_heat_is_coloured_and_the_rest_is_grey() -> None:
    heat = np.zeros((6, 9), np.float32)
    heat[1, 7] = 1.0
    laid = with_heat_map(np.full((60, 90, 3), (90, 140, 60), np.uint8), heat).astype(int)
    spread = laid.max(axis=2) - laid.min(axis=2)
    assert spread[30:, :60].max() == 0
    y, x = np.unravel_index(spread.argmax(), spread.shape)
    assert 5 <= y < 25
    assert 65 <= x < 85


def test_heat_is_clipped_and_has_the_size_of_the_shown_image() -> None:
    image = np.full((1200, 1600, 3), 100, np.uint8)
    wild = with_heat_map(image, np.array([[-5.0, 7.0]]))
    np.testing.assert_array_equal(wild, with_heat_map(image, np.array([[0.0, 1.0]])))
    assert max(wild.shape) == LONGEST_SIDE


def test_an_outline_is_drawn_around_the_mask_only() -> None:
    image = np.full((60, 90, 3), 100, np.uint8)
    mask = np.zeros((30, 45), np.bool_)
    mask[10:20, 10:20] = True
    changed = (with_outline(image, mask) != image).any(axis=2)
    assert changed[19:22, 20:40].any()
    assert not changed[25:35, 25:35].any()
    assert not changed[:15].any()
