"""What a pasted object does: one function for each kind of perturbation, each giving its path over the frames.

Ours: nothing here was taken from test video; each kind breaks one rule that normal objects follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from comemory.research.pseudo_anomalies.objects import Cutout


class CutoutPose(NamedTuple):
    """Where a cut-out is in one frame: its centre in pixels, its scale."""

    cut: Cutout
    x: float
    y: float
    scale: float = 1.0


Perturbation = Callable[[Sequence[Cutout], int, tuple[int, int], np.random.Generator], list[CutoutPose]]


def normal(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """The object moves as it did, at another time: this is normal."""
    return [CutoutPose(cut, *cut.centre) for cut in tracklet[:n_frames]]


def fast(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """Frames are skipped: the object is two to four times too fast, on its own path."""
    skip = int(rng.integers(2, 5))
    return [CutoutPose(cut, *cut.centre) for cut in tracklet[::skip][:n_frames]]


def glide(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """The object keeps its pose and slides at 0.8 to 3 times its own speed, as someone who rides does."""
    (x0, y0), (x1, y1) = tracklet[0].centre, tracklet[-1].centre
    speed = float(rng.uniform(0.8, 3)) / max(1, len(tracklet) - 1)
    cut = tracklet[int(rng.integers(len(tracklet)))]
    x, y = cut.centre
    steps = np.arange(n_frames) - n_frames / 2
    return [CutoutPose(cut, x + (x1 - x0) * speed * s, y + (y1 - y0) * speed * s) for s in steps]


def sideways(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """The object moves as it did, on a path turned by a right angle."""
    x0, y0 = tracklet[len(tracklet) // 2].centre
    turn = rng.choice([-1.0, 1.0])
    path = [(cut, cut.centre) for cut in tracklet[:n_frames]]
    return [CutoutPose(cut, x0 - turn * (y - y0), y0 + turn * (x - x0)) for cut, (x, y) in path]


def resized(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """The object is 1.6 to 2.5 times too large for its place, and as much faster."""
    scale = float(rng.uniform(1.6, 2.5))
    x0, y0 = tracklet[len(tracklet) // 2].centre
    path = [(cut, cut.centre) for cut in tracklet[:n_frames]]
    return [CutoutPose(cut, x0 + scale * (x - x0), y0 + scale * (y - y0), scale) for cut, (x, y) in path]


def displaced(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """The object moves as it did, somewhere else in the frame."""
    height, width = size
    x0, y0 = tracklet[len(tracklet) // 2].centre
    to_x, to_y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
    return [CutoutPose(cut, cut.centre[0] + to_x - x0, cut.centre[1] + to_y - y0) for cut in tracklet[:n_frames]]


def erratic(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """The object jerks to and fro in place."""
    x0, y0 = tracklet[0].centre
    amplitude = 0.5 * max(tracklet[0].alpha.shape)
    phase, rate = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.5, 1.5, 2)
    return [
        CutoutPose(
            cut, x0 + amplitude * np.sin(phase[0] + rate[0] * s), y0 + amplitude * np.sin(phase[1] + rate[1] * s) / 2
        )
        for s, cut in enumerate(tracklet[:n_frames])
    ]


def reversed_(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """Time runs backwards: the object walks backwards, against the traffic where there is a direction."""
    return [CutoutPose(cut, *cut.centre) for cut in reversed(tracklet[:n_frames])]


def frozen(
    tracklet: Sequence[Cutout], n_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[CutoutPose]:
    """The object stands still."""
    cut = tracklet[0]
    return [CutoutPose(cut, *cut.centre)] * n_frames


NORMAL = "normal"
"""Name of the kind without an anomaly."""

PERTURBATIONS: Mapping[str, Perturbation] = {
    "fast": fast,
    "glide": glide,
    "sideways": sideways,
    "resized": resized,
    "displaced": displaced,
    "erratic": erratic,
    "reversed": reversed_,
    "frozen": frozen,
}
