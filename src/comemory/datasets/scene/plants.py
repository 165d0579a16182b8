"""Trees and hedges of the synthetic scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.datasets.scene.camera import FOCAL, Colour, SceneCamera, fill_polygons

LEAVES: tuple[Colour, ...] = ((86, 124, 58), (104, 132, 60), (70, 114, 66), (142, 134, 62))


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree: its position in metres, its height relative to about five metres, and its colour."""

    along: float
    across: float
    size: float
    leaves: Colour


def plant_trees(camera: SceneCamera, rng: np.random.Generator) -> list[Tree]:
    """Place a row of trees on the far lawn, about nine metres apart."""
    left, right = camera.span(-9.8)
    number = max(2, round((right - left) / 9))
    step = (right - left) / number
    leaves = [LEAVES[int(k)] for k in rng.integers(len(LEAVES), size=number)]
    return [
        Tree(
            along=left + (k + rng.uniform(0.2, 0.8)) * step,
            across=rng.uniform(-10.6, -9.2),
            size=rng.uniform(0.85, 1.15),
            leaves=leaves[k],
        )
        for k in range(number)
    ]


def draw_tree(picture: NDArray[np.uint8], camera: SceneCamera, tree: Tree, rng: np.random.Generator) -> None:
    """Draw a trunk and a crown of leaf clumps, lit from the side of the sun."""
    fine = picture.shape[0] / camera.height
    x, y = camera.pixel(tree.along, tree.across)
    metre = FOCAL * camera.height / camera.place(tree.along, tree.across)[1] * fine
    x, y = x * fine, y * fine
    trunk = np.array([(-0.17, 0), (0.17, 0), (0.09, -2.6), (-0.09, -2.6)]) * metre * tree.size + (x, y)
    sunny = trunk * (0.5, 1) + (x * 0.5 + 0.05 * metre, 0)
    fill_polygons(picture, [trunk, sunny], [(84, 68, 54), (108, 88, 70)])
    side = -1.0 if camera.sun[0] > 0 else 1.0
    clumps = []
    for _ in range(700):
        angle, radius = rng.uniform(0, 2 * math.pi), math.sqrt(rng.random())
        dx, dy = 2.0 * radius * math.cos(angle), 1.75 * radius * math.sin(angle)
        clumps.append((0.42 * side * dx + 0.55 * dy + rng.normal(0, 0.35), dx, dy, rng.uniform(0.11, 0.28)))
    for light, dx, dy, size in sorted(clumps):
        tone = float(np.clip(0.82 + 0.27 * light + rng.normal(0, 0.05), 0.42, 1.5))
        centre = (round((x + dx * metre * tree.size) * 16), round((y + (-3.7 - dy) * metre * tree.size) * 16))
        colour = [min(255.0, channel * tone) for channel in tree.leaves]
        cv2.circle(picture, centre, round(size * metre * tree.size * 16), colour, -1, cv2.LINE_AA, 4)


def draw_hedge(
    picture: NDArray[np.uint8], camera: SceneCamera, across: float, rng: np.random.Generator, leaves: Colour
) -> None:
    """Draw a trimmed hedge along the walkway."""
    fine = picture.shape[0] / camera.height
    left, right = camera.span(across)
    metre = FOCAL * camera.height / camera.place(0, across)[1] * fine
    for level in range(5):
        for along in np.arange(left - 1, right + 1, 0.17):
            x, y = camera.pixel(float(along) + rng.normal(0, 0.1), across, 0.12 + 0.2 * level)
            tone = 0.5 + 0.13 * level + rng.normal(0, 0.07)
            colour = [max(0.0, channel * tone) for channel in leaves]
            centre = (round(x * fine * 16), round(y * fine * 16))
            cv2.circle(picture, centre, round(rng.uniform(0.12, 0.2) * metre * 16), colour, -1, cv2.LINE_AA, 4)
