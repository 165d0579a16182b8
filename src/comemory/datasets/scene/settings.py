"""The settings of the synthetic scene, and how they are parsed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comemory.datasets.scene.traffic import KINDS
from comemory.errors import ConfigError, suggest


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """The settings after `synthetic:`, such as `seed=3,frames=300`.

    Attributes:
        seed: of the random numbers; another seed gives another place.
        frames: frames per clip.
        training: number of training clips.
        testing: number of test clips.
        size: height and width in pixels.
        rate: frames per second.
        crowd: average number of walkers in the frame.
        light: 0 for constant light, 1 for light that varies between noon and dusk.
        drift: 0 for a constant crowd, 1 for one that varies over the clip.
        hours: first and last hour of a day that the clips cover one after the other. Light, shadows and the size of the
            crowd follow the hour; walking speeds do not. None: no particular hour.
        kinds: kinds of anomalies; each test clip shows one or two of them, in turn.
    """

    seed: int = 0
    frames: int = 300
    training: int = 6
    testing: int = 4
    size: tuple[int, int] = (240, 360)
    rate: float = 10.0
    crowd: float = 8.0
    light: float = 0.2
    drift: float = 0.0
    hours: tuple[float, float] | None = None
    kinds: tuple[str, ...] = KINDS


def read_settings(text: str) -> SceneSettings:
    """Parse `seed=3,frames=300`.

    Raises:
        ConfigError: an unknown or repeated setting, or a value that does not fit; one line.

    >>> read_settings("seed=3,size=120x180").size
    (120, 180)
    >>> read_settings("light=2")
    Traceback (most recent call last):
    comemory.errors.ConfigError: synthetic setting 'light' does not accept '2': expected a number from 0 to 1
    """
    values: dict[str, Any] = {}
    for item in text.split(",") if text.strip() else []:
        key, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals or not key or not value:
            raise ConfigError(f"cannot read the synthetic setting {_short(item)}: expected key=value, such as seed=3")
        if key not in _READERS:
            raise ConfigError(f"unknown synthetic setting {_short(key)}: {suggest(key[:40], _READERS)}")
        if key in values:
            raise ConfigError(f"the synthetic setting {key!r} is given twice: keep one")
        values[key] = _READERS[key](key, value)
    return SceneSettings(**values)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _refusal(key: str, value: str, expected: str) -> ConfigError:
    return ConfigError(f"synthetic setting {key!r} does not accept {_short(value)}: expected {expected}")


def _whole(low: int, high: int) -> Callable[[str, str], int]:
    def read(key: str, value: str) -> int:
        if not re.fullmatch("[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise _refusal(key, value, f"a whole number from {low} to {high}")
        return int(value)

    return read


def _real(low: float, high: float) -> Callable[[str, str], float]:
    def read(key: str, value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) or not low <= float(value) <= high:
            raise _refusal(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    return read


def _size(key: str, value: str) -> tuple[int, int]:
    match = re.fullmatch("([0-9]{1,5})x([0-9]{1,5})", value)
    height, width = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (32 <= height <= 2160 and 32 <= width <= 3840 and 0.5 <= width / height <= 3):
        raise _refusal(
            key, value, "HEIGHTxWIDTH such as 240x360, 32x32 to 2160x3840, the width half to three times the height"
        )
    return height, width


def _hours(key: str, value: str) -> tuple[float, float]:
    match = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]{1,4})?)-([0-9]{1,2}(?:\.[0-9]{1,4})?)", value)
    first, last = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not 0 <= first < last <= 24:
        raise _refusal(key, value, "two hours of a day, the earlier first, such as 7-19 or 7-7.5")
    return first, last


def _kinds(key: str, value: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in value.split("+"))
    for kind in kinds:
        if kind not in KINDS:
            raise _refusal(key, kind, f"anomalies joined by +, such as cart+runner; {suggest(kind[:40], KINDS)}")
    if len(set(kinds)) < len(kinds):
        raise _refusal(key, value, "each anomaly once")
    return kinds


_READERS: dict[str, Callable[[str, str], Any]] = {
    "seed": _whole(0, 2**32 - 1),
    "frames": _whole(16, 1_000_000),
    "training": _whole(0, 1000),
    "testing": _whole(0, 1000),
    "size": _size,
    "rate": _real(1, 120),
    "crowd": _real(0, 60),
    "light": _real(0, 1),
    "drift": _real(0, 1),
    "hours": _hours,
    "kinds": _kinds,
}
