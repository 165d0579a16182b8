"""The people and things of the synthetic scene: solid parts in metres, ordered from the far side to the near side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from comemory.datasets.scene.camera import BodyPart, Colour, Point, SceneObject, View

SHIRTS: tuple[Colour, ...] = (
    (232, 230, 222), (58, 74, 110), (172, 52, 48), (96, 128, 84), (52, 124, 132), (206, 162, 66),
    (198, 120, 136), (46, 46, 52), (140, 170, 204), (124, 92, 132), (150, 150, 148), (214, 120, 62),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = (
    (52, 66, 98), (36, 38, 44), (140, 122, 92), (88, 90, 94), (74, 60, 50), (98, 114, 140),
)  # fmt: skip
SKINS: tuple[Colour, ...] = ((236, 196, 168), (216, 168, 132), (178, 124, 90), (124, 84, 60), (92, 62, 46))
HAIRS: tuple[Colour, ...] = ((36, 28, 24), (74, 50, 34), (124, 88, 52), (188, 152, 96), (150, 148, 146), (52, 40, 36))
SHOES: tuple[Colour, ...] = ((34, 32, 32), (214, 210, 204), (96, 66, 46))
BAGS: tuple[Colour, ...] = ((40, 44, 54), (122, 46, 42), (60, 82, 62), (118, 90, 60))

THIGH, SHIN = 0.43, 0.42


@dataclass(frozen=True, slots=True)
class Appearance:
    """The looks of a person; `size` is the body height relative to 1.75 metres."""

    size: float
    shirt: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    shoes: Colour
    bag: Colour
    sleeves: bool
    coat: bool
    backpack: bool
    slim: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Appearance:
        """Choose size and clothes."""

        def one(colours: tuple[Colour, ...]) -> Colour:
            return colours[int(rng.integers(len(colours)))]

        return cls(
            size=float(np.clip(rng.normal(0.98, 0.05), 0.86, 1.1)),
            shirt=one(SHIRTS),
            trousers=one(TROUSERS),
            skin=one(SKINS),
            hair=one(HAIRS),
            shoes=one(SHOES),
            bag=one(BAGS),
            sleeves=bool(rng.random() < 0.55),
            coat=bool(rng.random() < 0.3),
            backpack=bool(rng.random() < 0.25),
            slim=float(rng.uniform(0.88, 1.1)),
        )


@dataclass(frozen=True, slots=True)
class Gait:
    """The motion of legs and arms: amplitudes in radians, and the length of a cycle of two steps in metres."""

    hip: float
    knee: float
    rest: float
    arm: float
    elbow: float
    lean: float
    hop: float
    cycle: float


WALK = Gait(hip=0.36, knee=0.75, rest=0.08, arm=0.36, elbow=0.25, lean=0.03, hop=0.0, cycle=1.2)
RUN = Gait(hip=0.66, knee=1.5, rest=0.3, arm=0.75, elbow=1.5, lean=0.17, hop=0.07, cycle=1.7)


def tinted(colour: Colour, factor: float) -> Colour:
    """The colour, made darker or lighter by a factor."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def capsule(start: Point, end: Point, radius: float, colour: Colour, taper: float = 1.0) -> BodyPart:
    """A limb."""
    return BodyPart((start, end), (radius, radius * taper), colour)


def ball(centre: Point, radius: float, colour: Colour) -> BodyPart:
    """A ball."""
    return BodyPart((centre, centre), (radius, radius), colour)


def box(low: Point, high: Point, colour: Colour, view: View) -> list[BodyPart]:
    """The three visible faces of a box: end, side, top."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    x = x1 if view.front > 0 else x0
    z = z1 if view.side > 0 else z0
    return [
        BodyPart(((x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)), None, tinted(colour, 0.72)),
        BodyPart(((x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)), None, tinted(colour, 0.86)),
        BodyPart(((x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)), None, tinted(colour, 1.08)),
    ]


def _bend(start: Point, angle: float, first: float, turn: float, second: float, side: float) -> tuple[Point, Point]:
    """Middle and end joint of a hanging limb; positive angles point forwards, `side` shifts the end sideways."""
    x, y, z = start
    middle = (x + first * math.sin(angle), y - first * math.cos(angle), z + side / 2)
    angle += turn
    return middle, (middle[0] + second * math.sin(angle), middle[1] - second * math.cos(angle), z + side)


def _leg(appearance: Appearance, joints: tuple[Point, Point, Point], shade: float) -> list[BodyPart]:
    hip, knee, ankle = joints
    trousers, shoes = tinted(appearance.trousers, shade), tinted(appearance.shoes, shade)
    shin = (ankle[0] - knee[0], ankle[1] - knee[1])
    length = math.hypot(*shin) or 1.0
    toe = (ankle[0] - 0.15 * shin[1] / length, ankle[1] - 0.04 + 0.15 * shin[0] / length, ankle[2])
    return [
        capsule((ankle[0] - 0.03, ankle[1] - 0.02, ankle[2]), toe, 0.055, shoes, 0.8),
        capsule(knee, ankle, 0.068, trousers, 0.8),
        capsule(hip, knee, 0.095 * appearance.slim, trousers, 0.75),
    ]


def _arm(appearance: Appearance, joints: tuple[Point, Point, Point], shade: float) -> list[BodyPart]:
    shoulder, elbow, hand = joints
    shirt, skin = tinted(appearance.shirt, shade), tinted(appearance.skin, shade)
    return [
        ball(hand, 0.05, skin),
        capsule(elbow, hand, 0.045, shirt if appearance.sleeves else skin, 0.85),
        capsule(shoulder, elbow, 0.062, shirt, 0.85),
    ]


def _trunk(appearance: Appearance, pelvis: Point, lean: float) -> list[BodyPart]:
    """Hips, trunk and head."""
    x, y, z = pelvis

    def at(up: float, forward: float = 0.0) -> Point:
        return x + forward + up * math.sin(lean), y + up * math.cos(lean), z

    wide = 0.165 * appearance.slim
    parts = [capsule(at(-0.02), at(0.08), 0.145 * appearance.slim, tinted(appearance.trousers, 0.95))]
    if appearance.coat:
        parts.append(capsule(at(-0.2), at(0.1), wide * 1.02, tinted(appearance.shirt, 0.92)))
    parts += [
        capsule(at(0.1), at(0.41), wide * 0.92, appearance.shirt, 1.12),
        capsule(at(0.2, 0.03), at(0.43, 0.03), wide * 0.55, tinted(appearance.shirt, 1.1), 1.1),
        capsule(at(0.55), at(0.62), 0.06, tinted(appearance.skin, 0.8)),
    ]
    if appearance.backpack:
        parts.append(capsule(at(0.2, -0.2), at(0.42, -0.19), 0.125, appearance.bag))
    return [*parts, ball(at(0.735), 0.118, appearance.hair), ball(at(0.71, 0.035), 0.09, appearance.skin)]


def pedestrian(appearance: Appearance, view: View, phase: float, gait: Gait, bag: bool = False) -> SceneObject:
    """A person on foot. `phase` is in radians; a cycle of two steps is 2 pi. `bag`: carries a bag in the right hand."""
    legs, arms = {}, {}
    for side in (-1, 1):
        swing = phase + (math.pi if side > 0 else 0.0)
        lift = ((1 + math.cos(swing)) / 2) ** 2
        hip = (0.0, 0.0, 0.09 * side)
        legs[side] = (hip, *_bend(hip, gait.hip * math.sin(swing), THIGH, -gait.rest - gait.knee * lift, SHIN, 0.0))
        shoulder = (0.46 * math.sin(gait.lean), 0.46, 0.2 * side * appearance.slim)
        arms[side] = (
            shoulder,
            *_bend(shoulder, -gait.arm * math.sin(swing) - 0.05, 0.28, gait.elbow, 0.25, 0.03 * side),
        )
    height = 0.075 - min(leg[2][1] for leg in legs.values()) + gait.hop * abs(math.sin(phase))
    far, near = -view.side, view.side
    held = {-1: [], 1: _shifted(_bag(appearance, view), arms[1][2][0], arms[1][2][1] - 0.42, 0.26) if bag else []}
    parts = (
        held[far]
        + _arm(appearance, arms[far], 0.78)
        + _leg(appearance, legs[far], 0.76)
        + _leg(appearance, legs[near], 1.0)
    )
    parts += _trunk(appearance, (0.0, 0.0, 0.0), gait.lean) + held[near] + _arm(appearance, arms[near], 0.96)
    return SceneObject.from_parts(parts, appearance.size, height)


def _shifted(parts: list[BodyPart], x: float, y: float, z: float) -> list[BodyPart]:
    return [part._replace(points=[(px + x, py + y, pz + z) for px, py, pz in part.points]) for part in parts]


def suitcase(appearance: Appearance, view: View) -> SceneObject:
    """A bag on the ground."""
    return SceneObject.from_parts(_bag(appearance, view))


def _bag(appearance: Appearance, view: View) -> list[BodyPart]:
    return [
        capsule((-0.12, 0.4, 0.0), (0.12, 0.4, 0.0), 0.025, tinted(appearance.bag, 0.6)),
        *box((-0.27, 0.0, -0.13), (0.27, 0.34, 0.13), appearance.bag, view),
    ]


def _wheel(x: float, z: float, radius: float, thick: float) -> list[BodyPart]:
    def ring(size: float) -> list[Point]:
        steps = [2 * math.pi * step / 18 for step in range(18)]
        return [(x + size * math.cos(step), radius + size * math.sin(step), z) for step in steps]

    return [BodyPart(ring(radius), None, (38, 38, 42)), BodyPart(ring(radius - thick), None, None)]


def _reach(hip: Point, foot: Point) -> Point:
    """The knee between hip and foot, bent forwards."""
    dx, dy = foot[0] - hip[0], foot[1] - hip[1]
    length = min(math.hypot(dx, dy), THIGH + SHIN - 1e-3)
    bend = math.acos((THIGH**2 + length**2 - SHIN**2) / (2 * THIGH * length))
    angle = math.atan2(dy, dx) + bend
    return hip[0] + THIGH * math.cos(angle), hip[1] + THIGH * math.sin(angle), (hip[2] + foot[2]) / 2


def cyclist(appearance: Appearance, view: View, phase: float) -> SceneObject:
    """A bicycle and its rider."""
    frame = appearance.bag
    saddle, crank, bar = (-0.22, 0.9, 0.0), (-0.02, 0.3, 0.0), (0.42, 1.0, 0.0)
    parts = [*_wheel(-0.52, 0.0, 0.34, 0.055), *_wheel(0.54, 0.0, 0.34, 0.055)]
    near = view.side
    legs = {}
    for side in (-1, 1):
        turn = phase + (math.pi if side > 0 else 0.0)
        foot = (crank[0] + 0.16 * math.cos(turn), crank[1] - 0.16 * math.sin(turn) + 0.06, 0.1 * side)
        hip = (-0.2, 0.97, 0.08 * side)
        legs[side] = (hip, _reach(hip, foot), foot)
    parts += _leg(appearance, legs[-near], 0.76)
    for start, end in (
        (saddle, crank),
        (crank, (0.38, 0.78, 0.0)),
        ((-0.16, 0.74, 0.0), (0.37, 0.8, 0.0)),
        (crank, (-0.52, 0.34, 0.0)),
        ((-0.16, 0.74, 0.0), (-0.52, 0.34, 0.0)),
        (bar, (0.54, 0.34, 0.0)),
    ):
        parts.append(capsule(start, end, 0.03, frame))
    parts.append(capsule((-0.32, 0.92, 0.0), (-0.12, 0.92, 0.0), 0.045, (32, 32, 34)))
    shoulders = (0.14, 1.4, 0.19 * near)
    parts += _leg(appearance, legs[near], 1.0) + _trunk(appearance, (-0.2, 0.99, 0.0), 0.62)
    return SceneObject.from_parts(
        parts + _arm(appearance, (shoulders, (0.27, 1.17, 0.22 * near), (0.42, 1.02, 0.2 * near)), 0.96)
    )


def skater(appearance: Appearance, view: View, phase: float) -> SceneObject:
    """A person who stands sideways on a skateboard and balances."""
    sway = 0.06 * math.sin(phase)
    near = view.side
    board = [ball((x, 0.05, 0.08 * near), 0.045, (210, 190, 120)) for x in (-0.3, 0.3)]
    board += box((-0.45, 0.09, -0.12), (0.45, 0.13, 0.12), appearance.bag, view)
    pelvis = (sway, 0.86, 0.0)
    parts = board
    for x, shade in ((-0.26, 0.8), (0.24, 1.0)):
        foot, hip = (x, 0.2, 0.02 * near), (sway + x / 4, 0.86, 0.03 * near)
        parts = parts + _leg(appearance, (hip, _reach(hip, foot), foot), shade)
    lean = 0.12 + sway
    back = (sway - 0.1, 1.28, 0.0), (-0.34 + sway, 1.12, 0.04 * near), (-0.5, 1.16 + sway, 0.05 * near)
    fore = (sway + 0.16, 1.28, 0.0), (0.4 + sway, 1.18, 0.04 * near), (0.6, 1.24 - sway, 0.05 * near)
    return SceneObject.from_parts(
        [*_arm(appearance, back, 0.8), *parts, *_trunk(appearance, pelvis, lean), *_arm(appearance, fore, 0.98)],
        appearance.size,
    )


def cart(appearance: Appearance, view: View) -> SceneObject:
    """A small service vehicle with a roof, a driver and a load."""
    paint, roof, near = appearance.shirt, (238, 236, 228), view.side
    far = -near
    parts = [ball((x, 0.26, 0.55 * far), 0.26, (30, 30, 32)) for x in (-0.85, 0.9)]
    posts = [((-0.45, 0.8), (-0.4, 1.78)), ((0.85, 0.85), (0.62, 1.78))]
    parts += [capsule((a, b, 0.56 * far), (c, d, 0.56 * far), 0.03, (70, 72, 76)) for (a, b), (c, d) in posts]
    parts += box((-1.3, 0.3, -0.62), (1.3, 0.62, 0.62), paint, view)
    parts += box((0.78, 0.6, -0.6), (1.25, 0.86, 0.6), paint, view)
    parts += box((-1.26, 0.62, -0.58), (-0.5, 1.05, 0.58), (146, 116, 78), view)
    parts += box((-0.4, 0.6, -0.52), (0.0, 0.84, 0.52), (60, 58, 56), view)
    seat = (-0.15, 0.9, 0.2 * near)
    parts += _trunk(appearance, seat, -0.08)
    parts += _leg(appearance, (seat, (0.3, 0.95, seat[2]), (0.42, 0.68, seat[2])), 0.9)
    parts += _arm(appearance, ((-0.2, 1.32, 0.38 * near), (0.1, 1.12, 0.38 * near), (0.42, 1.12, 0.3 * near)), 0.96)
    for x in (-0.85, 0.9):
        parts += [ball((x, 0.26, 0.63 * near), 0.27, (30, 30, 32)), ball((x, 0.26, 0.65 * near), 0.13, (176, 176, 172))]
    parts += [capsule((a, b, 0.58 * near), (c, d, 0.58 * near), 0.035, (84, 86, 90)) for (a, b), (c, d) in posts]
    return SceneObject.from_parts(parts + box((-0.75, 1.78, -0.66), (0.85, 1.86, 0.66), roof, view))
