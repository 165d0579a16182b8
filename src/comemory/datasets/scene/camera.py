"""The fixed camera of the synthetic scene: maps metres on the ground to pixels, and draws bodies as anti-aliased sprites.

The image plane is vertical and shifted down, so vertical lines stay vertical and size depends on depth only. The walkway
has its own axes: `along` it, to the right in the image, and `across` it, towards the camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

HORIZON = -0.14
"""Distance of the horizon from the top, in image heights; negative because the camera looks down."""
MAST = 9.5
"""Height of the camera above the ground, metres."""
FOCAL = 1.35
"""Focal length in image heights."""
CENTRE = 18.8
"""Distance from the camera to the middle of the walkway, metres."""

Point = tuple[float, float, float]
"""Metres forward, up and to the right of a body."""
Colour = tuple[int, int, int]
Matrix = NDArray[np.float64]

_SHIFT = 4
_ROUND = np.linspace(-math.pi / 2, math.pi / 2, 7)


class BodyPart(NamedTuple):
    """A solid piece of a body: a tapered capsule (two points, two radii) or a flat convex panel (no radii)."""

    points: Sequence[Point]
    radii: tuple[float, float] | None
    colour: Colour | None
    """RGB; None erases what was drawn before."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """An object made of parts, ordered from the far side to the near side.

    Attributes:
        points: float64 (n, 3), points of all parts, metres.
        starts: index of the first point of each part, and the end.
        capsules: which parts are capsules.
        ends: int (2 * capsules,), indices of their points.
        radii: float64 (capsules, 2), metres.
        colours: float64 (parts, 4), RGB and opacity.
    """

    points: NDArray[np.float64]
    starts: list[int]
    capsules: list[int]
    ends: list[int]
    radii: NDArray[np.float64]
    colours: NDArray[np.float64]

    @classmethod
    def from_parts(cls, parts: Sequence[BodyPart], size: float = 1.0, lift: float = 0.0) -> SceneObject:
        """Combine parts: raise them by `lift` metres, then scale them by `size`."""
        points: list[Point] = []
        starts, radii, colours = [0], [], []
        capsules: list[int] = []
        ends: list[int] = []
        for number, part in enumerate(parts):
            if part.radii is not None:
                capsules.append(number)
                ends += (len(points), len(points) + 1)
                radii.append(part.radii)
            points += part.points
            starts.append(len(points))
            colours.append((0, 0, 0, 0) if part.colour is None else (*part.colour, 255))
        placed = (np.array(points) + np.array([0.0, lift, 0.0])) * size
        return cls(placed, starts, capsules, ends, np.array(radii) * size, np.array(colours, np.float64))


class Sprite(NamedTuple):
    """A drawn body: uint8 (h, w, 4), colour times alpha and alpha, with its place in the frame."""

    left: int
    top: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """The projection of a body at one place with one heading.

    Attributes:
        foot: pixel of the point on the ground.
        scale: pixels per metre.
        solid: (3, 2), metres forward, up, right to pixels.
        shadow: (3, 2), the same for the shadow on the ground.
        depth: metres from the camera.
        front: 1 where the camera sees the front end, else -1.
        side: 1 where the camera sees the right side, else -1.
    """

    foot: tuple[float, float]
    scale: float
    solid: Matrix
    shadow: Matrix
    depth: float
    front: int
    side: int


@dataclass(frozen=True, slots=True)
class SceneCamera:
    """The camera, and the light.

    Attributes:
        height: of the frame, pixels.
        width: of the frame, pixels.
        yaw: angle between the walkway and the image plane, radians.
        sun: shadow of an object of one metre: metres to the right and away from the camera.
    """

    height: int
    width: int
    yaw: float = 0.0
    sun: tuple[float, float] = (0.6, 0.2)

    @property
    def antialiasing(self) -> int:
        """Samples per pixel along each axis, for anti-aliasing."""
        return 4 if self.height <= 160 else 3 if self.height <= 320 else 2

    def place(self, along: float, across: float) -> tuple[float, float]:
        """Metres to the right of and away from the camera of a place on the walkway."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return along * cos + across * sin, CENTRE + along * sin - across * cos

    def pixel(self, along: float, across: float, up: float = 0.0) -> tuple[float, float]:
        """The position of a point in the frame, in pixels from the left and the top."""
        right, away = self.place(along, across)
        scale = FOCAL * self.height / away
        return self.width / 2 + right * scale, self.height * HORIZON + (MAST - up) * scale

    def span(self, across: float) -> tuple[float, float]:
        """The visible part of a lane: metres along the walkway at the left and right border of the frame."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        border = self.width / (2 * self.height * FOCAL)
        left, right = (
            (slope * (CENTRE - across * cos) - across * sin) / (cos - slope * sin) for slope in (-border, border)
        )
        return left, right

    def view(self, along: float, across: float, heading: float) -> View:
        """The view of a body at a place; `heading` is in radians, from along the walkway towards across it."""
        right, away = self.place(along, across)
        scale = FOCAL * self.height / away
        ahead = heading - self.yaw
        forward_x, forward_z = math.cos(ahead), -math.sin(ahead)

        def on_ground(x: float, z: float) -> tuple[float, float]:
            return scale * (x - z * right / away), -scale * z * MAST / away

        forward, sideways = on_ground(forward_x, forward_z), on_ground(forward_z, -forward_x)
        return View(
            foot=(self.width / 2 + right * scale, self.height * HORIZON + MAST * scale),
            scale=scale,
            solid=np.array([forward, (0.0, -scale), sideways]),
            shadow=np.array([forward, on_ground(*self.sun), sideways]),
            depth=away,
            front=1 if -forward_x * right - forward_z * away > 0 else -1,
            side=1 if -forward_z * right + forward_x * away > 0 else -1,
        )


def outlines(body: SceneObject, foot: tuple[float, float], matrix: Matrix, scale: float) -> list[NDArray[np.float64]]:
    """The convex outline of each part in pixels; `scale` is that of the radii."""
    points = body.points @ matrix + foot
    shapes = [points[start:stop] for start, stop in zip(body.starts, body.starts[1:], strict=False)]
    if len(body.capsules):
        ends = points[body.ends].reshape(-1, 2, 2)
        for number, outline in zip(body.capsules, _capsules(ends, body.radii * scale), strict=True):
            shapes[number] = outline
    return shapes


def _capsules(ends: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    ahead = ends[:, 1] - ends[:, 0]
    length = np.hypot(ahead[:, 0], ahead[:, 1])
    ahead = np.where(length[:, None] > 1e-6, ahead / np.maximum(length, 1e-6)[:, None], (1.0, 0.0))
    beside = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    cap = ahead[:, None] * np.cos(_ROUND)[:, None] + beside[:, None] * np.sin(_ROUND)[:, None]
    first = ends[:, None, 0] - cap * radii[:, 0, None, None]
    second = ends[:, None, 1] + cap * radii[:, 1, None, None]
    return np.concatenate([second, first], axis=1)


def fill_polygons(
    picture: NDArray[np.uint8],
    shapes: Sequence[NDArray[np.float64]],
    colours: Sequence[Sequence[float]],
    *,
    smooth: bool = False,
) -> None:
    """Fill convex polygons one after the other, each in its colour. Coordinates are pixels, exact to a sixteenth."""
    points = np.rint((np.concatenate(shapes) - 0.5) * (1 << _SHIFT)).astype(np.int32)
    line, at = cv2.LINE_AA if smooth else cv2.LINE_8, 0
    for shape, colour in zip(shapes, colours, strict=True):
        after = at + len(shape)
        cv2.fillConvexPoly(picture, points[at:after], colour, line, _SHIFT)
        at = after


def draw(body: SceneObject, view: View, camera: SceneCamera, light: float = 1.0) -> Sprite | None:
    """Draw a body; None if it is outside the frame.

    Args:
        body: what to draw.
        view: its projection.
        camera: gives the size of the frame.
        light: factor on the colours.
    """
    shapes = outlines(body, view.foot, view.solid, view.scale)
    every = np.concatenate(shapes)
    low, high = np.floor(every.min(axis=0)).tolist(), np.ceil(every.max(axis=0)).tolist()
    left, top = max(int(low[0]) - 1, 0), max(int(low[1]) - 1, 0)
    right, bottom = min(int(high[0]) + 1, camera.width), min(int(high[1]) + 1, camera.height)
    if right <= left or bottom <= top:
        return None
    fine = camera.antialiasing
    large = np.zeros(((bottom - top) * fine, (right - left) * fine, 4), np.uint8)
    colours = np.rint(np.minimum(body.colours * (light, light, light, 1.0), 255)).tolist()
    fill_polygons(large, [(shape - (left, top)) * fine for shape in shapes], colours)
    small = cv2.resize(large, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    return Sprite(left, top, np.asarray(small, np.uint8))


def blend(picture: NDArray[np.uint8], sprite: Sprite) -> None:
    """Draw a sprite over an image, in place."""
    height, width = sprite.pixels.shape[:2]
    under = picture[sprite.top : sprite.top + height, sprite.left : sprite.left + width]
    through = cv2.cvtColor(255 - sprite.pixels[..., 3], cv2.COLOR_GRAY2BGR)
    under[:] = cv2.add(cv2.multiply(under, through, scale=1 / 255), sprite.pixels[..., :3])


def draw_shadow(shadows: NDArray[np.uint8], body: SceneObject, view: View) -> None:
    """Add the shadow of a body to a shadow map, uint8 (H, W), 255 in full shadow, in place."""
    shapes = outlines(body, view.foot, view.shadow, 0.75 * view.scale)
    fill_polygons(shadows, shapes, body.colours[:, 3:].tolist(), smooth=True)
