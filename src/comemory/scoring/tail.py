"""One scale for every statistic: how rare it is on ordinary video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.config_model import Settings
from comemory.errors import ConfigError

FARTHEST = 6.0
"""The last decade that a scale counts."""
TAIL = 1.0
"""The level at which counting ends and the exponential tail begins: the 90th percentile."""
_LARGEST = float(np.finfo(np.float64).max)
_DECADE = math.log10(math.e)


class TailScale(Settings):
    """A statistic to the number of zeros in "one ordinary frame in …", strictly increasing.

    Ours: up to the 90th percentile the share of ordinary frames above is counted; beyond, where counting
    runs out of frames, the excess is taken as exponential with the mean excess seen there; beyond `FARTHEST`, one frame
    in a million, no footage could tell, and the scale grows as the logarithm. Below the
    lowest ordinary frame it nears -1, so that one calm channel cannot outweigh an alarm of another.

    Attributes:
        knots: quantiles of the statistic on ordinary frames, increasing.
        levels: -log10 of the share above each knot, increasing.
        excess: mean excess over the last knot.
    """

    knots: tuple[float, ...]
    levels: tuple[float, ...]
    excess: float = Field(gt=0)

    @model_validator(mode="after")
    def _increasing(self) -> TailScale:
        if not self.knots or len(self.knots) != len(self.levels):
            raise ValueError(f"a scale has as many knots as levels, got {len(self.knots)} and {len(self.levels)}")
        if any(low >= high for numbers in (self.knots, self.levels) for low, high in pairwise(numbers)):
            raise ValueError("the knots and the levels of a scale increase")
        return self

    def __call__(self, value: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The scaled value; one decade of frames for each unit."""
        if isinstance(value, float):
            return np.asarray(self._of_one(value))
        x = np.asarray(value, np.float64)
        inside = np.interp(x, _array(self.knots), _array(self.levels))
        with np.errstate(over="ignore"):
            above = np.minimum(np.maximum(x - self.knots[-1], 0) / self.excess, _LARGEST) * _DECADE
            depth = np.minimum(np.maximum(self.knots[0] - x, 0) / self.excess, _LARGEST) * _DECADE
        below = -depth / (1 + depth)
        scaled = inside + above + below
        beyond = np.log10(1 + np.maximum(scaled - FARTHEST, 0))
        return np.asarray(np.where(scaled > FARTHEST, FARTHEST + beyond, scaled))

    def _of_one(self, x: float) -> float:
        """The same of one number, bit for bit, in a fifth of the time: every frame asks for a few."""
        above = min(max(x - self.knots[-1], 0.0) / self.excess, _LARGEST) * _DECADE
        depth = min(max(self.knots[0] - x, 0.0) / self.excess, _LARGEST) * _DECADE
        scaled = float(np.interp(x, _array(self.knots), _array(self.levels))) + above + -depth / (1 + depth)
        return FARTHEST + float(np.log10(1 + (scaled - FARTHEST))) if scaled > FARTHEST else scaled

    def value_at(self, level: float) -> float:
        """The statistic that has a level of the tail, from `TAIL` to `FARTHEST`."""
        return self.knots[-1] + (level - self.levels[-1]) / _DECADE * self.excess


def compressed(level: float) -> float:
    """What the scale makes of decades beyond `FARTHEST`.

    >>> compressed(4.0), compressed(15.0)
    (4.0, 7.0)
    """
    return level if level <= FARTHEST else FARTHEST + math.log10(1 + level - FARTHEST)


def spread_out(level: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """The decades that the scale has compressed, where they lie beyond `FARTHEST`.

    >>> float(spread_out(compressed(15.0)))
    15.0
    """
    x = np.asarray(level, np.float64)
    if isinstance(level, float) and level <= FARTHEST:
        return x
    with np.errstate(over="ignore"):
        beyond = np.power(10.0, np.maximum(x - FARTHEST, 0)) - 1
    return np.asarray(np.where(x > FARTHEST, FARTHEST + np.minimum(beyond, _LARGEST / 2), x))


@lru_cache(maxsize=256)
def _array(numbers: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(numbers)


def fit_tail_scale(values: Sequence[float] | NDArray[np.float64]) -> TailScale:
    """Fit the scale on a statistic of ordinary frames.

    Raises:
        ConfigError: fewer than 20 values, or one that is not finite.

    >>> scale = fit_tail_scale(np.linspace(0, 1, 1001))
    >>> round(float(scale(0.9)), 2)
    1.0
    """
    x = np.sort(np.asarray(values, np.float64))
    n_finite = int(np.isfinite(x).sum())
    if n_finite < max(20, len(x)):
        raise ConfigError(
            f"a calibration needs at least 20 ordinary frames with finite values, got {len(x)}, {n_finite} of them finite"
        )
    shares = 1 - np.arange(0.0, 0.901, 0.05)
    knots = np.quantile(x, 1 - shares)
    smallest = max(float(np.ptp(x)), abs(float(x[-1])), 1e-9) * 1e-6
    knots = np.maximum.accumulate(knots + np.arange(len(knots)) * smallest)
    tail = x[x > knots[-1]]
    excess = float((tail - knots[-1]).mean()) if len(tail) else smallest
    return TailScale(
        knots=tuple(knots.tolist()), levels=tuple((-np.log10(shares)).tolist()), excess=max(excess, smallest)
    )
