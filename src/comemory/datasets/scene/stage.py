"""Renders one clip of the synthetic scene: any frame, and the visible pixels of any actor, in any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.datasets.scene import bodies
from comemory.datasets.scene.camera import SceneCamera, SceneObject, Sprite, View, blend, draw, draw_shadow
from comemory.datasets.scene.ground import Ground
from comemory.datasets.scene.traffic import Actor

NOISE_SHIFT = 48
"""Margin of the noise field around a frame, pixels: each frame gets the field at another random offset."""


class VisiblePatch(NamedTuple):
    """Visible pixels of one actor, bool (h, w), and their place in the frame."""

    left: int
    top: int
    pixels: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Weather:
    """Light and sensor noise of a clip.

    Attributes:
        dark: float (n,), 0 in full sun, 1 at dusk.
        shifts: int (n, 2), offset of each frame in the noise field.
        noise: int16 (H + NOISE_SHIFT, W + NOISE_SHIFT, 3), grey levels.
    """

    darkness: NDArray[np.float64]
    shifts: NDArray[np.int64]
    noise: NDArray[np.int16]

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        frames: int,
        period: float,
        light: float,
        noise: NDArray[np.int16],
        dark: NDArray[np.float64] | float = 0.0,
    ) -> Weather:
        """Light that varies by `light` of its range over `period` frames, on top of the darkness `dark`."""
        phase = float(rng.uniform(0, 2 * math.pi))
        wave = np.sin(2 * math.pi * np.arange(frames) / period + phase)
        clouds = light * (0.5 - 0.5 * wave)
        return cls(dark + (1 - dark) * clouds, rng.integers(0, NOISE_SHIFT, (frames, 2)), noise)

    def apply(self, picture: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Dim the image and add the noise."""
        gains = 1 - float(self.darkness[index]) * np.array([0.52, 0.48, 0.38])
        table = np.rint(np.arange(256)[:, None] * gains).astype(np.uint8)[None]
        top, left = self.shifts[index]
        height, width = picture.shape[:2]
        grain = self.noise[top : top + height, left : left + width]
        return np.asarray(cv2.add(cv2.LUT(picture, table), grain, dtype=cv2.CV_8U), np.uint8)


def sensor_noise(camera: SceneCamera, rng: np.random.Generator) -> NDArray[np.int16]:
    """Noise of about two grey levels, most of it common to the three channels."""
    shape = camera.height + NOISE_SHIFT, camera.width + NOISE_SHIFT
    grain = rng.standard_normal((*shape, 1), np.float32) * 1.6 + rng.standard_normal((*shape, 3), np.float32) * 0.9
    return np.rint(grain).astype(np.int16)


class _Placed(NamedTuple):
    actor: int
    view: View


class ClipRenderer:
    """Renders the frames of one clip.

    Args:
        camera: of the scene.
        ground: of the scene.
        actors: everybody who appears in the clip.
        weather: light and noise of the clip.
    """

    def __init__(self, camera: SceneCamera, ground: Ground, actors: Sequence[Actor], weather: Weather) -> None:
        self._camera, self._ground, self._weather = camera, ground, weather
        self.actors = tuple(actors)
        self._first = np.array([actor.first for actor in actors], np.int64)
        self._last = np.array([actor.last for actor in actors], np.int64)
        self._sunny = np.asarray(np.clip(ground.lit * 2 - 1, 0, 1) * 255, np.uint8)
        size = max(1, camera.height // 60)
        self._lit = cv2.blur(ground.lit, (size, size))

    def render(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`: uint8 (H, W, 3), RGB."""
        picture = self._ground.image.copy()
        present = [(self._body(self.actors[number], view, index), view) for number, view in self._present(index)]
        self._shadows(picture, present, index)
        props = list(self._ground.props)
        for body, view in present:
            while props and props[0].depth > view.depth:
                blend(picture, props.pop(0).sprite)
            sprite = self._sprite(body, view)
            if sprite is not None:
                blend(picture, sprite)
        for prop in props:
            blend(picture, prop.sprite)
        return self._weather.apply(picture, index)

    def visible_pixels(self, number: int, index: int) -> VisiblePatch | None:
        """The pixels of frame `index` that actor `number` covers by half or more; None when there are none."""
        present = self._present(index)
        order = [actor for actor, _ in present]
        if number not in order:
            return None
        place = order.index(number)
        view = present[place].view
        sprite = self._sprite(self._body(self.actors[number], view, index), view)
        if sprite is None:
            return None
        seen = sprite.pixels[..., 3].astype(np.float32)
        for nearer in self._nearer(present[place + 1 :], view, index):
            _hide(seen, sprite, nearer)
        pixels = seen >= 127.5
        return VisiblePatch(sprite.left, sprite.top, pixels) if pixels.any() else None

    def _present(self, index: int) -> list[_Placed]:
        """The actors in a frame, the farthest first."""
        numbers = np.flatnonzero((self._first <= index) & (index <= self._last))
        there = []
        for number in numbers.tolist():
            route = self.actors[number].route
            along, across, _ = route.at(index)
            there.append(_Placed(number, self._camera.view(along, across, route.heading(index))))
        return sorted(there, key=lambda item: -item.view.depth)

    def _nearer(self, present: Sequence[_Placed], view: View, index: int) -> list[Sprite]:
        sprites: list[Sprite | None] = [prop.sprite for prop in self._ground.props if prop.depth <= view.depth]
        for number, other in present:
            if abs(other.foot[0] - view.foot[0]) < 2.3 * other.scale:
                sprites.append(self._sprite(self._body(self.actors[number], other, index), other))
        return [sprite for sprite in sprites if sprite is not None]

    def _sprite(self, body: SceneObject, view: View) -> Sprite | None:
        column = min(max(int(view.foot[0]), 0), self._camera.width - 1)
        row = min(max(int(view.foot[1]), 0), self._camera.height - 1)
        return draw(body, view, self._camera, float(self._lit[row, column]))

    def _shadows(self, picture: NDArray[np.uint8], present: Sequence[tuple[SceneObject, View]], index: int) -> None:
        shadows = np.zeros(picture.shape[:2], np.uint8)
        for body, view in present:
            draw_shadow(shadows, body, view)
        size = 2 * round(self._camera.height / 240) + 1
        strength = 0.5 * (1 - 0.6 * float(self._weather.darkness[index]))
        deep = cv2.multiply(cv2.blur(shadows, (size, size)), self._sunny, scale=strength / 255)
        picture[:] = cv2.multiply(picture, cv2.cvtColor(255 - deep, cv2.COLOR_GRAY2BGR), scale=1 / 255)

    def _body(self, actor: Actor, view: View, index: int) -> SceneObject:
        metres = actor.route.at(index)[2]
        appearance = actor.appearance
        if actor.kind == "dropped":
            return bodies.suitcase(appearance, view)
        if actor.kind == "cart":
            return bodies.cart(appearance, view)
        if actor.kind == "cyclist":
            return bodies.cyclist(appearance, view, actor.phase + 2 * math.pi * metres / 2.2)
        if actor.kind == "skater":
            return bodies.skater(appearance, view, actor.phase + 2 * math.pi * metres / 3.5)
        gait = bodies.RUN if actor.kind == "runner" else bodies.WALK
        phase = actor.phase + 2 * math.pi * metres / (gait.cycle * appearance.size)
        carries = actor.bag is not None and actor.bag[0] <= index < actor.bag[1]
        return bodies.pedestrian(appearance, view, phase, gait, carries)


def _hide(seen: NDArray[np.float32], sprite: Sprite, nearer: Sprite) -> None:
    """Subtract what a nearer sprite covers from the visible part of a sprite, in place."""
    height, width = seen.shape
    other_height, other_width = nearer.pixels.shape[:2]
    left, top = max(sprite.left, nearer.left), max(sprite.top, nearer.top)
    right = min(sprite.left + width, nearer.left + other_width)
    bottom = min(sprite.top + height, nearer.top + other_height)
    if right > left and bottom > top:
        cover = nearer.pixels[top - nearer.top : bottom - nearer.top, left - nearer.left : right - nearer.left, 3]
        through = 1 - cover / np.float32(255)
        seen[top - sprite.top : bottom - sprite.top, left - sprite.left : right - sprite.left] *= through
