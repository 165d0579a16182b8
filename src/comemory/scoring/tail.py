"""One scale for every statistic: -log10 of its tail probability on normal video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.config import Settings
from comemory.errors import ConfigError

LINEAR_LIMIT = 6.0
"""The level, one normal frame in a million, above which the scale grows as a logarithm: no footage supports more."""

TAIL_START = 1.0
"""The level, the 90th percentile, at which counting frames ends and the exponential tail begins."""

_LARGEST = float(np.finfo(np.float64).max)
_LOG10_E = math.log10(math.e)


class TailScale(Settings):
    """Maps a statistic to its level: -log10 of the share of normal frames above it. Strictly increasing.

    Ours: up to the 90th percentile the share of normal frames above the value is counted. Beyond it too few frames are
    left to count, so the excess is modelled as exponential with the mean excess of the frames there. Beyond
    `LINEAR_LIMIT` the scale grows as a logarithm. Below the lowest normal frame it approaches -1, so that one quiet
    channel cannot cancel the alarm of another.

    Attributes:
        knots: quantiles of the statistic on normal frames, increasing.
        levels: -log10 of the share of frames above each knot, increasing.
        excess: mean excess over the last knot.
    """

    knots: tuple[float, ...]
    levels: tuple[float, ...]
    excess: float = Field(gt=0)

    @model_validator(mode="after")
    def _check_increasing(self) -> TailScale:
        if not self.knots or len(self.knots) != len(self.levels):
            raise ValueError(f"a scale has as many knots as levels, got {len(self.knots)} and {len(self.levels)}")
        if any(low >= high for numbers in (self.knots, self.levels) for low, high in pairwise(numbers)):
            raise ValueError("the knots and the levels of a scale increase")
        return self

    def __call__(self, value: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The level of each value, in log10 units."""
        if isinstance(value, float):
            return np.asarray(self._level_of_one(value))
        x = np.asarray(value, np.float64)
        inside = np.interp(x, _array(self.knots), _array(self.levels))
        with np.errstate(over="ignore"):
            above = np.minimum(np.maximum(x - self.knots[-1], 0) / self.excess, _LARGEST) * _LOG10_E
            depth = np.minimum(np.maximum(self.knots[0] - x, 0) / self.excess, _LARGEST) * _LOG10_E
        below = np.where(depth < _DEEPEST, -depth / (1 + depth), -1.0)
        scaled = inside + above + below
        beyond = np.log10(1 + np.maximum(scaled - LINEAR_LIMIT, 0))
        return np.asarray(np.where(scaled > LINEAR_LIMIT, LINEAR_LIMIT + beyond, scaled))

    def _level_of_one(self, x: float) -> float:
        """The same for one number, bit for bit, in a fifth of the time: every frame asks for several."""
        above = min(max(x - self.knots[-1], 0.0) / self.excess, _LARGEST) * _LOG10_E
        depth = min(max(self.knots[0] - x, 0.0) / self.excess, _LARGEST) * _LOG10_E
        scaled = (
            float(np.interp(x, _array(self.knots), _array(self.levels)))
            + above
            + (-depth / (1 + depth) if depth < _DEEPEST else -1.0)
        )
        return LINEAR_LIMIT + float(np.log10(1 + (scaled - LINEAR_LIMIT))) if scaled > LINEAR_LIMIT else scaled

    def value_at(self, level: float) -> float:
        """The value that has a given level, from `TAIL_START` to `LINEAR_LIMIT`."""
        return self.knots[-1] + (level - self.levels[-1]) / _LOG10_E * self.excess


def compress(level: float) -> float:
    """Map a level as the scale does: as it is up to `LINEAR_LIMIT`, logarithmic beyond. Undone by `expand`.

    >>> compress(4.0), compress(15.0)
    (4.0, 7.0)
    """
    return level if level <= LINEAR_LIMIT else LINEAR_LIMIT + math.log10(1 + level - LINEAR_LIMIT)


def expand(level: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Undo `compress`: levels in log10 units everywhere.

    >>> float(expand(compress(15.0)))
    15.0
    """
    x = np.asarray(level, np.float64)
    if isinstance(level, float) and level <= LINEAR_LIMIT:
        return x
    with np.errstate(over="ignore"):
        beyond = np.power(10.0, np.maximum(x - LINEAR_LIMIT, 0)) - 1
    return np.asarray(np.where(x > LINEAR_LIMIT, LINEAR_LIMIT + np.minimum(beyond, _LARGEST / 2), x))


_DEEPEST = 1e15
"""Depth from which -depth / (1 + depth) is -1: beyond it the quotient's last bit would go up and down."""


@lru_cache(maxsize=256)
def _array(numbers: tuple[float, ...]) -> NDArray[np.float64]:
    """The tuple as an array; cached, because interpolation of one value would spend most of its time converting it."""
    return np.array(numbers)


def fit_tail_scale(values: Sequence[float] | NDArray[np.float64], resolution: float = 0.0) -> TailScale:
    """Fit the scale on a statistic of normal frames.

    Args:
        values: the statistic in each frame.
        resolution: no value has a higher level than in footage whose values are exponential with this mean. Where normal
            video shows almost nothing of what a statistic measures, its noise is rare in the footage and yet means nothing.

    Raises:
        ConfigError: fewer than 20 values, or one that is not finite.

    >>> scale = fit_tail_scale(np.linspace(0, 1, 1001))
    >>> round(float(scale(0.9)), 2)
    1.0
    >>> coarse = fit_tail_scale(np.linspace(0, 1, 1001), resolution=10.0)
    >>> round(float(coarse(0.9)), 2)
    0.04
    """
    x = np.sort(np.asarray(values, np.float64))
    n_finite = int(np.isfinite(x).sum())
    if n_finite < max(20, len(x)):
        raise ConfigError(
            f"a calibration needs at least 20 normal frames with finite values, got {len(x)}, {n_finite} of them finite"
        )
    shares = 1 - np.arange(0.0, 0.901, 0.05)
    knots = np.quantile(x, 1 - shares)
    # Equal quantiles, as of a scene without motion, are spread by a millionth of the range: the scale must increase.
    smallest = max(float(np.ptp(x)), abs(float(x[-1])), 1e-9) * 1e-6
    knots = np.maximum.accumulate(knots + np.arange(len(knots)) * smallest)
    if resolution:
        knots = np.maximum(knots, -np.log(shares) * resolution)
    tail = x[x > knots[-1]]
    excess = float((tail - knots[-1]).mean()) if len(tail) else smallest
    return TailScale(
        knots=tuple(knots.tolist()),
        levels=tuple((-np.log10(shares)).tolist()),
        excess=max(excess, smallest, resolution),
    )
