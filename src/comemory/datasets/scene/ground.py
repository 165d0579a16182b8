"""The static part of the synthetic scene: walkway, lawns, trees, a building, lamps, and the light on the ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.datasets.scene.bodies import ball, capsule
from comemory.datasets.scene.camera import (
    CENTRE,
    FOCAL,
    HORIZON,
    MAST,
    BodyPart,
    Colour,
    SceneCamera,
    SceneObject,
    Sprite,
    draw,
    draw_shadow,
)
from comemory.datasets.scene.plants import LEAVES, Tree, draw_hedge, draw_tree, plant_trees

WALKWAY = 5.4
"""Half the width of the walkway, metres."""
WALL = -14.0
"""Position of the building across the walkway, metres."""
LAWN = -12.2
"""Position of the hedge behind the far lawn, metres across."""

FACADES: tuple[Colour, ...] = ((186, 128, 100), (214, 196, 164), (178, 172, 162), (196, 158, 116))
PAVINGS: tuple[Colour, ...] = ((196, 187, 172), (186, 184, 180), (198, 180, 158))
GRASSES: tuple[Colour, ...] = ((112, 142, 76), (124, 146, 82), (100, 136, 80))

Plane = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Prop:
    """An object in front of the walkway that may occlude actors: its sprite and its distance from the camera in metres."""

    sprite: Sprite
    depth: float


@dataclass(frozen=True, slots=True)
class Ground:
    """The empty scene.

    Attributes:
        image: uint8 (H, W, 3), without the props.
        lit: float32 (H, W), 1 in the sun, lower in the shade.
        props: objects nearer to the camera than the walkway, the farthest first.
    """

    image: NDArray[np.uint8]
    lit: Plane
    props: tuple[Prop, ...]


class _Texture:
    """Smooth random fields over the plane, made from one small table."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._table = rng.random((128, 128), dtype=np.float32)
        self._wrapped = np.pad(self._table, ((0, 2), (0, 2)), mode="wrap")

    def smooth(self, x: Plane, y: Plane) -> Plane:
        """Values in [0, 1] that vary over a distance of 1."""
        field = cv2.remap(self._wrapped, _wrapped(x), _wrapped(y), cv2.INTER_LINEAR)
        return np.asarray(field, np.float32)

    def cells(self, x: Plane, y: Plane) -> Plane:
        """One value in [0, 1] for each unit cell."""
        field = cv2.remap(self._table, _wrapped(np.floor(x)), _wrapped(np.floor(y)), cv2.INTER_NEAREST)
        return np.asarray(field, np.float32)

    def rough(self, x: Plane, y: Plane, octaves: int = 4) -> Plane:
        """A sum of octaves around 0, from about -1 to 1."""
        total = np.zeros_like(x)
        for octave in range(octaves):
            size = np.float32(2.03**octave)
            total += (self.smooth(x * size + 17 * octave, y * size + 31 * octave) - 0.5) / np.float32(1.6**octave)
        return total


def _wrapped(x: Plane) -> Plane:
    return np.asarray(x - np.floor(x * np.float32(1 / 128)) * np.float32(128), np.float32)


def _paint(colour: Colour, factor: Plane) -> Plane:
    return np.asarray(colour, np.float32) * factor[..., None]


def _line(distance: Plane, width: float, blur: Plane) -> Plane:
    """1 on a line of the given width, 0 beside it, blended where a pixel is wider than the line."""
    edge = np.clip((width / 2 - np.abs(distance)) / blur + 0.5, 0, 1)
    return np.asarray(edge * np.minimum(1, width / blur), np.float32)


def _walkway(along: Plane, across: Plane, pixel: Plane, texture: _Texture, paving: Colour) -> Plane:
    """Slabs in a running bond, a finer band in the middle, dark gutters."""
    middle = np.abs(across) < 1.0
    size = np.where(middle, np.float32(0.5), np.float32(1.1))
    row = np.floor(across / size)
    x, y = along / size + 0.5 * (row % 2), across / size
    tone = 1 + 0.09 * (texture.cells(x, y + 40 * middle) - 0.5) + 0.07 * texture.rough(along * 0.35, across * 0.35)
    tone += 0.05 * texture.rough(along * 4, across * 4, 2)
    joint = np.maximum(_line((x - np.round(x)) * size, 0.045, pixel), _line((y - np.round(y)) * size, 0.045, pixel * 2))
    tone *= 1 - 0.2 * joint - 0.1 * middle
    tone *= 1 - 0.22 * _line(np.abs(across) - WALKWAY + 0.25, 0.5, pixel)
    tone *= 1 - 0.16 * _line(np.abs(across) - 1.0, 0.1, pixel)
    return _paint(paving, tone)


def _lawn(along: Plane, across: Plane, texture: _Texture, grass: Colour) -> Plane:
    patches = texture.rough(along * 0.25, across * 0.25)
    blades = texture.rough(along * 3.1, across * 2.1, 4)
    colour = _paint(grass, 1 + 0.13 * patches + 0.26 * blades)
    colour[..., 0] += 14 * patches
    x, y = along * 5, across * 5
    centre = np.hypot(np.mod(x, 1) - 0.5, np.mod(y, 1) - 0.5) < 0.22
    flowers = centre & (texture.cells(x, y) > 0.97) & (texture.smooth(along * 0.3, across * 0.3) > 0.55)
    colour[flowers] = (236, 226, 196)
    return colour


def _kerb(along: Plane, across: Plane, texture: _Texture) -> Plane:
    return _paint((212, 206, 194), 1 + 0.1 * texture.rough(along * 2, across * 2, 2))


def _facade(along: Plane, up: Plane, texture: _Texture, wall: Colour) -> Plane:
    """A wall with a plinth, courses, and two rows of windows."""
    tone = 1 + 0.07 * texture.rough(along * 0.3, up * 0.3) + 0.05 * texture.rough(along * 3, up * 3, 2)
    tone += 0.07 * (texture.cells(along * 2.2 + 0.5 * (np.floor(up * 5) % 2), up * 5) - 0.5)
    colour = _paint(wall, tone)
    bay = np.mod(along, 3.4) - 1.7
    floor_up = np.mod(up - 1.0, 3.3)
    inside = (np.abs(bay) < 0.85) & (floor_up > 0.0) & (floor_up < 1.85) & (up > 1.0)
    frame = inside & (
        (np.abs(bay) > 0.76)
        | (np.abs(bay) < 0.05)
        | (floor_up < 0.1)
        | (floor_up > 1.75)
        | (np.abs(floor_up - 1.2) < 0.04)
    )
    sill = (np.abs(bay) < 1.0) & (floor_up > 3.18) & (up > 0.8)
    own = texture.cells(along / 3.4, up / 3.3 + 7)
    glass = _paint((74, 96, 118), 0.75 + 0.3 * own + 0.22 * floor_up + 0.12 * texture.rough(along * 0.8 + up, up * 0.8))
    colour[inside] = glass[inside]
    colour[frame] = (232, 228, 218)
    colour[sill] = (210, 204, 192)
    plinth = up < 0.55
    colour[plinth] *= 0.74
    course = np.abs(up - 3.75) < 0.09
    colour[course] = (218, 210, 196)
    return colour


def _shade(camera: SceneCamera, along: Plane, across: Plane, trees: list[Tree], texture: _Texture) -> Plane:
    """The share of sunlight that reaches the ground: dappled under the trees, low along the wall."""
    lit = 1 - 0.3 * np.exp(-np.maximum(across - WALL, 0) / 0.8)
    cos, sin = math.cos(camera.yaw), math.sin(camera.yaw)
    fall_along = camera.sun[0] * cos + camera.sun[1] * sin
    fall_across = camera.sun[0] * sin - camera.sun[1] * cos
    edge = 0.55 * texture.rough(along * 0.9 + 0.4 * across, across * 0.9, 4)
    gaps = np.clip(4 * texture.rough(along * 2.3 + 0.7 * across, across * 2.3, 3) - 0.5, 0, 1)
    for tree in trees:
        x = along - tree.along - 3.7 * tree.size * fall_along
        y = across - tree.across - 3.7 * tree.size * fall_across
        cover = np.clip((1 - edge - np.hypot(x, y * 1.15) / (2.15 * tree.size)) * 1.8, 0, 1) * (1 - 0.8 * gaps)
        lit -= 0.4 * cover * np.clip(2 * lit - 1, 0, 1)
        if tree.across < 0:
            foot = np.hypot(along - tree.along, (across - tree.across) * 1.4) / 0.8
            lit -= 0.2 * np.clip(1 - foot, 0, 1)
    return np.asarray(np.clip(lit, 0.5, 1), np.float32)


def _props(camera: SceneCamera, rng: np.random.Generator, shadows: NDArray[np.uint8]) -> tuple[Prop, ...]:
    """A lamp post and a few bollards on the near verge; their shadows are added to a map."""
    left, right = camera.span(6.2)
    lamp = left + (right - left) * float(rng.choice([0.17, 0.24, 0.76, 0.83]))
    iron: Colour = (58, 62, 62)
    post = [
        capsule((0, 0, 0), (0, 0.5, 0), 0.11, iron, 0.8),
        capsule((0, 0.4, 0), (0, 9.0, 0), 0.065, iron, 0.8),
        capsule((0.02, 0.4, 0), (0.02, 9.0, 0), 0.02, (104, 108, 106)),
    ]
    bollard = [capsule((0, 0.05, 0), (0, 0.62, 0), 0.085, (84, 80, 74)), ball((0, 0.68, 0), 0.1, (120, 116, 108))]
    places: list[tuple[float, list[BodyPart]]] = [(lamp, post)]
    places += [(float(along), bollard) for along in np.arange(left - 1, right + 1, 2.4) if abs(along - lamp) > 0.7]
    props = []
    for along, parts in places:
        view = camera.view(along, 6.2, 0.0)
        body = SceneObject.from_parts(parts)
        draw_shadow(shadows, body, view)
        sprite = draw(body, view, camera)
        if sprite is not None:
            props.append(Prop(sprite, view.depth))
    return tuple(sorted(props, key=lambda prop: -prop.depth))


def _coordinates(camera: SceneCamera, fine: int) -> tuple[Plane, Plane, Plane, Plane]:
    """For each sample: metres along and across on the ground, metres along and up on the wall."""
    x = (np.arange(camera.width * fine, dtype=np.float32) + 0.5) / fine - camera.width / 2
    y = (np.arange(camera.height * fine, dtype=np.float32) + 0.5) / fine / camera.height - HORIZON
    cos, sin = math.cos(camera.yaw), math.sin(camera.yaw)
    away = (FOCAL * MAST / y)[:, None]
    slope = (x / (camera.height * FOCAL))[None, :]
    along = slope * away * cos + (away - CENTRE) * sin
    across = slope * away * sin - (away - CENTRE) * cos
    wall_away = (CENTRE * cos - WALL) / (cos - slope * sin)
    wall_along = slope * wall_away * cos + (wall_away - CENTRE) * sin
    up = MAST - y[:, None] * wall_away / FOCAL
    planes = along, across, np.broadcast_to(wall_along, up.shape), up
    return tuple(np.ascontiguousarray(plane, np.float32) for plane in planes)  # type: ignore[return-value]


def build_ground(camera: SceneCamera, rng: np.random.Generator, tree_shadow: float | None = None) -> Ground:
    """Paint the empty scene as a camera sees it.

    Args:
        camera: the camera, with the position of the sun.
        rng: random numbers of the scene; the same ones give the same place, whatever the sun.
        tree_shadow: value of `SceneCamera.sun[0]` for which a tree outside the frame was placed so that its shadow falls into the
            frame; by default that of the camera.
    """
    fine = camera.antialiasing
    texture = _Texture(rng)
    paving, grass, wall, leaves = (
        colours[int(rng.integers(len(colours)))] for colours in (PAVINGS, GRASSES, FACADES, LEAVES)
    )
    trees = plant_trees(camera, rng)
    corner = camera.span(8.0)[int(rng.integers(2))] * float(rng.uniform(0.5, 0.9))
    unseen = Tree(corner - 3 * (camera.sun[0] if tree_shadow is None else tree_shadow), 8.0, 1.7, leaves)
    along, across, wall_along, up = _coordinates(camera, fine)
    away = CENTRE - across
    pixel = np.asarray(np.maximum(away, 4) / (FOCAL * camera.height * fine), np.float32)
    picture = np.zeros((*along.shape, 3), np.float32)

    def cover(zone: NDArray[np.bool_], paint: Callable[..., Plane], planes: list[Plane], *rest: Any) -> None:
        rows = np.flatnonzero(zone.any(axis=1))
        if rows.size:
            strip = slice(rows[0], rows[-1] + 1)
            picture[strip][zone[strip]] = paint(*(plane[strip] for plane in planes), *rest)[zone[strip]]

    building, kerb = up > 0, np.abs(across) < WALKWAY + 0.22
    cover(~building & ~kerb, _lawn, [along, across], texture, grass)
    cover(kerb, _kerb, [along, across], texture)
    cover(np.abs(across) < WALKWAY, _walkway, [along, across, pixel], texture, paving)
    lit = _shade(camera, along, across, [*trees, unseen], texture)
    lit[building] = 1
    picture *= lit[..., None]
    cover(building, _facade, [wall_along, up], texture, wall)
    canvas = np.ascontiguousarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    draw_hedge(canvas, camera, LAWN, rng, leaves)
    for tree in sorted(trees, key=lambda tree: tree.across):
        draw_tree(canvas, camera, tree, rng)
    size = camera.width, camera.height
    small = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    lit = np.asarray(cv2.resize(lit, size, interpolation=cv2.INTER_AREA), np.float32)
    shadows = np.zeros(lit.shape, np.uint8)
    props = _props(camera, rng, shadows)
    dim = 1 - 0.4 * np.clip(lit * 2 - 1, 0, 1) * (cv2.blur(shadows, (3, 3)) / 255)
    final = np.rint(small * dim[..., None]).astype(np.uint8)
    return Ground(final, np.asarray(lit * dim, np.float32), props)
