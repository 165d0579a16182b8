"""A frame refuses a time and an index with which nothing after it could work."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from comemory.errors import SourceError
from comemory.types import Frame

IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize("time_s", [math.nan, math.inf, -math.inf, np.float32("nan"), None, "1", 10**400])
def test_a_time_that_is_no_finite_number_is_refused(time_s: Any) -> None:
    with pytest.raises(SourceError, match=r"a frame has the time .*: expected its seconds, a finite number"):
        Frame(IMAGE, time_s, 0)


@pytest.mark.parametrize("index", [math.nan, 1.0, None, "1", IMAGE])
def test_an_index_that_is_no_whole_number_is_refused(index: Any) -> None:
    with pytest.raises(SourceError, match=r"a frame has the index .*: expected a whole number"):
        Frame(IMAGE, 0.0, index)


def test_an_index_of_numpy_does_not_overflow() -> None:
    frame = Frame(IMAGE, 0.0, np.uint8(255))  # type: ignore[arg-type]
    assert (type(frame.index), frame.index + 1) == (int, 256)


@pytest.mark.parametrize("time_s", [0, -3.5, np.float32(0.25), Fraction(1, 3)])
def test_a_finite_time_stays_as_it_is(time_s: Any) -> None:
    assert Frame(IMAGE, time_s, 0).time_s is time_s
