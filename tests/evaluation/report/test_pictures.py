"""Pictures come back out of the page as they went in, and heat lies where it is."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from comemory.evaluation.report.pictures import LONGEST_SIDE, data_uri, with_heat


def opened(uri: str) -> NDArray[np.uint8]:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture[..., ::-1], dtype=np.uint8)


def test_colours_survive_in_their_order() -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, :24, 0] = 220
    picture[:, 24:, 2] = 220
    back = opened(data_uri(picture)).astype(int)
    assert back.shape == picture.shape
    assert np.abs(back[:, 4:20] - picture[:, 4:20]).max() < 25
    assert np.abs(back[:, 28:44] - picture[:, 28:44]).max() < 25


@pytest.mark.parametrize("size", [(1, 1), (1080, 1920), (2000, 3), (3, 4000), (560, 560)])
def test_size_is_bounded(size: tuple[int, int]) -> None:
    back = opened(data_uri(np.full((*size, 3), 128, np.uint8)))
    assert max(back.shape[:2]) == min(LONGEST_SIDE, max(size))


def test_strides_do_not_matter() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert data_uri(picture[::-1, ::-1]) == data_uri(np.ascontiguousarray(picture[::-1, ::-1]))


def test_heat_colours_its_place_and_leaves_the_rest_grey() -> None:
    heat = np.zeros((6, 9), np.float32)
    heat[1, 7] = 1.0
    laid = with_heat(np.full((60, 90, 3), (90, 140, 60), np.uint8), heat).astype(int)
    spread = laid.max(axis=2) - laid.min(axis=2)
    assert spread[30:, :60].max() == 0
    y, x = np.unravel_index(spread.argmax(), spread.shape)
    assert 5 <= y < 25
    assert 65 <= x < 85


def test_heat_is_clipped_and_follows_the_shown_size() -> None:
    picture = np.full((1200, 1600, 3), 100, np.uint8)
    wild = with_heat(picture, np.array([[-5.0, 7.0]]))
    np.testing.assert_array_equal(wild, with_heat(picture, np.array([[0.0, 1.0]])))
    assert max(wild.shape) == LONGEST_SIDE
