"""A day in the synthetic scene: position of the sun, brightness, and size of the crowd."""

from __future__ import annotations

import math

SUNRISE, SUNSET = 6.0, 20.0
"""Hours of the day; before and after them the light is that of dusk."""
HIGHEST = math.radians(60)
"""Elevation of the sun at its highest."""
LONGEST = 2.0
"""Longest shadow of an object of one metre, metres."""
RUSHES = ((8.0, 0.7, 1.5), (12.5, 0.9, 1.0), (17.5, 0.9, 1.6))
"""Rush hours: middle and spread in hours, and the share of the crowd that they add."""


def sun_at(hour: float) -> tuple[float, float]:
    """The shadow of an object of one metre: metres to the right and away from the camera. Right at dawn, left at dusk.

    >>> sun_at(7)[0] > 0 > sun_at(19)[0]
    True
    """
    turn = math.pi * _share(hour)
    elevation = HIGHEST * math.sin(turn)
    length = min(1 / math.tan(elevation), LONGEST) if elevation > 0.01 else LONGEST
    return length * math.cos(turn), 0.3


def darkness_at(hour: float) -> float:
    """0 with the sun at its highest, 1 at dusk and dawn.

    >>> round(darkness_at(13), 6), round(darkness_at(22), 6)
    (0.0, 1.0)
    """
    return math.pow(1 - math.sin(math.pi * _share(hour)), 1.5)


def crowd_at(hour: float) -> float:
    """Share of the crowd that is present: a quarter, and more in the rush hours."""
    return 0.25 + sum(more * math.exp(-(((hour - middle) / spread) ** 2)) for middle, spread, more in RUSHES)


def _share(hour: float) -> float:
    return min(max((hour - SUNRISE) / (SUNSET - SUNRISE), 0.0), 1.0)
