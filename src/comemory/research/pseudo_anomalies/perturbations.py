"""What a pasted object does: one function a kind, each a path of cut-outs over the frames of an act.

Ours: nothing here is learned from test video; each kind breaks one thing that ordinary objects keep to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from comemory.research.pseudo_anomalies.objects import Cutout


class Step(NamedTuple):
    """Where a cut-out is in one frame: its centre in pixels, its scale."""

    cut: Cutout
    x: float
    y: float
    scale: float = 1.0


Act = Callable[[Sequence[Cutout], int, tuple[int, int], np.random.Generator], list[Step]]


def usual(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """The object does what it did, at another time: ordinary."""
    return [Step(cut, *cut.centre) for cut in tube[:n_frames]]


def fast(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """Frames are skipped: two to four times too fast, on the usual path."""
    skip = int(rng.integers(2, 5))
    return [Step(cut, *cut.centre) for cut in tube[::skip][:n_frames]]


def glide(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """The object keeps its pose and slides on at 0.8 to 3 times its own speed: it rides."""
    (x0, y0), (x1, y1) = tube[0].centre, tube[-1].centre
    pace = float(rng.uniform(0.8, 3)) / max(1, len(tube) - 1)
    cut = tube[int(rng.integers(len(tube)))]
    x, y = cut.centre
    steps = np.arange(n_frames) - n_frames / 2
    return [Step(cut, x + (x1 - x0) * pace * s, y + (y1 - y0) * pace * s) for s in steps]


def sideways(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """The object moves as it did, on a path turned by a right angle."""
    x0, y0 = tube[len(tube) // 2].centre
    turn = rng.choice([-1.0, 1.0])
    path = [(cut, cut.centre) for cut in tube[:n_frames]]
    return [Step(cut, x0 - turn * (y - y0), y0 + turn * (x - x0)) for cut, (x, y) in path]


def resized(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """The object is 1.6 to 2.5 times too large for its place, and as much faster."""
    scale = float(rng.uniform(1.6, 2.5))
    x0, y0 = tube[len(tube) // 2].centre
    path = [(cut, cut.centre) for cut in tube[:n_frames]]
    return [Step(cut, x0 + scale * (x - x0), y0 + scale * (y - y0), scale) for cut, (x, y) in path]


def displaced(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """The object moves as it did, somewhere else in the picture."""
    height, width = size
    x0, y0 = tube[len(tube) // 2].centre
    to_x, to_y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
    return [Step(cut, cut.centre[0] + to_x - x0, cut.centre[1] + to_y - y0) for cut in tube[:n_frames]]


def erratic(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """The object jerks about where it is."""
    x0, y0 = tube[0].centre
    reach = 0.5 * max(tube[0].alpha.shape)
    phase, rate = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.5, 1.5, 2)
    return [
        Step(cut, x0 + reach * np.sin(phase[0] + rate[0] * s), y0 + reach * np.sin(phase[1] + rate[1] * s) / 2)
        for s, cut in enumerate(tube[:n_frames])
    ]


def reversed_(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """Time runs backwards: the object walks backwards, against the traffic where there is a direction."""
    return [Step(cut, *cut.centre) for cut in reversed(tube[:n_frames])]


def frozen(tube: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """The object stands where it never stood still."""
    cut = tube[0]
    return [Step(cut, *cut.centre)] * n_frames


USUAL = "usual"
"""The name of what is no anomaly."""

ACTS: Mapping[str, Act] = {
    "fast": fast,
    "glide": glide,
    "sideways": sideways,
    "resized": resized,
    "displaced": displaced,
    "erratic": erratic,
    "reversed": reversed_,
    "frozen": frozen,
}
