"""Plans where everybody is at each frame: walkers who keep to the right, and the anomalies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from comemory.datasets.scene.bodies import Appearance
from comemory.datasets.scene.camera import SceneCamera
from comemory.datasets.scene.ground import WALKWAY

CROSSING = {"cart": (1.6, 2.0), "runner": (1.55, 1.9), "cyclist": (1.15, 1.4), "skater": (1.3, 1.6)}
"""Anomalies that cross the frame from border to border, with their speeds in metres per second."""
STAYING = ("wrong_way", "dropped")
"""Anomalies that begin and end inside the frame."""
KINDS = (*CROSSING, *STAYING)

WALKING_SPEED = (0.53, 0.78)
"""Speeds of walkers in metres per second."""
LANES = (1.3, 2.05, 2.8, 3.55, 4.3)
"""Distances of the walkers from the middle of the walkway, metres, on the side of their direction."""
VERGE = 5.05
"""Distance from the middle of the walkway at which a bag is left, metres."""
MARGIN = 3.0
"""Metres beyond the border at which actors start and end, so that neither they nor their shadows appear suddenly."""


DETOUR_S = 4.0
"""Seconds that somebody takes to leave the walkway, and the same to return."""


@dataclass(frozen=True, slots=True)
class WalkPath:
    """A smooth path through the scene.

    Attributes:
        start: frame at which the actor is at `origin`.
        origin: metres along the walkway.
        direction: 1 to the right, -1 to the left.
        speed: metres per frame.
        lane: metres across.
        sway: amplitude of a slow sideways motion, metres; the speed varies with it.
        phase: phase of the sway, radians.
        sway_rate: frequency of the sway, radians per frame.
        detour: an excursion from the lane: first frame, last frame, metres across, and frames that each transition takes.
    """

    start: float
    origin: float
    direction: int
    speed: float
    lane: float
    sway: float = 0.0
    phase: float = 0.0
    sway_rate: float = 0.05
    detour: tuple[float, float, float, float] | None = None

    def at(self, frame: float) -> tuple[float, float, float]:
        """Metres along, metres across, metres travelled."""
        time = frame - self.start
        swing = math.sin(self.sway_rate * time + self.phase)
        travelled = self.speed * (time + 0.14 / self.sway_rate * (swing - math.sin(self.phase)))
        across = self.lane + self.sway * math.sin(0.61 * self.sway_rate * time + 2 * self.phase)
        if self.detour is not None:
            first, last, metres, ease = self.detour
            across += metres * min(_ease((frame - first) / ease), _ease((last - frame) / ease))
        return self.origin + self.direction * travelled, across, travelled

    def heading(self, frame: float) -> float:
        """Radians from along the walkway towards across it."""
        (x0, y0, _), (x1, y1, _) = self.at(frame - 0.5), self.at(frame + 0.5)
        return math.atan2(y1 - y0, x1 - x0) if self.speed else 0.0

    def frame_at(self, along: float) -> float:
        """The frame at which the actor passes a place, without the variation of its speed."""
        return self.start + (along - self.origin) * self.direction / self.speed


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or thing that appears in the clip.

    Attributes:
        kind: `walker` or one of `KINDS`.
        first: first frame in which it is present.
        last: last frame in which it is present.
        phase: phase of its gait at the start, radians.
        abnormal: first and last frame in which its visible pixels are labelled abnormal.
        bag: first and last frame in which it carries a bag.
    """

    kind: str
    route: WalkPath
    appearance: Appearance
    first: int
    last: int
    phase: float
    abnormal: tuple[int, int] | None = None
    bag: tuple[float, float] | None = None


def _ease(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


class Traffic:
    """Plans the actors of one clip.

    Args:
        camera: gives the part of each lane that is in the frame.
        rng: random numbers of the clip.
        n_frames: length of the clip.
        rate_hz: frames per second.
    """

    def __init__(self, camera: SceneCamera, rng: np.random.Generator, n_frames: int, rate_hz: float) -> None:
        self._camera, self._rng, self._n_frames, self._rate_hz = camera, rng, n_frames, rate_hz
        self._lanes: dict[tuple[int, float], list[WalkPath]] = {}
        self.actors: list[Actor] = []

    def _uniform(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))

    def _speed(self, band: tuple[float, float]) -> float:
        return self._uniform(*band) / self._rate_hz

    def _side(self) -> int:
        return 1 if self._rng.random() < 0.5 else -1

    def _route(self, direction: int, across: float, speed: float, sway: float = 0.12) -> WalkPath:
        """A route that starts outside the frame, at frame 0."""
        span = self._camera.span(across)
        origin = span[0] - MARGIN if direction > 0 else span[1] + MARGIN
        pace = self._uniform(0.3, 0.5) / self._rate_hz
        return WalkPath(0.0, origin, direction, speed, across, sway, self._uniform(0, 2 * math.pi), pace)

    def _length(self, across: float) -> float:
        left, right = self._camera.span(across)
        return right - left

    def _join(self, kind: str, route: WalkPath, **more: tuple[int, int] | tuple[float, float] | None) -> None:
        leave = route.frame_at(route.origin + route.direction * (self._length(route.lane) + 2 * MARGIN))
        slack = 0.3 / route.sway_rate
        appearance = Appearance.random(self._rng)
        phase = self._uniform(0, 2 * math.pi)
        actor = Actor(kind, route, appearance, math.floor(route.start), math.ceil(leave + slack), phase, **more)  # type: ignore[arg-type]
        self.actors.append(actor)
        self._lanes.setdefault(_key(route), []).append(route)

    def _clashes(self, route: WalkPath) -> bool:
        """Whether somebody in the same lane would come too close."""
        way = self._length(route.lane) + 2 * MARGIN
        travel, key = way / route.speed, _key(route)
        self._lanes[key] = [
            other for other in self._lanes.get(key, []) if other.start + way / other.speed > route.start
        ]
        for other in self._lanes[key]:
            meet = max(route.start, other.start)
            part = min(route.start + travel, other.start + way / other.speed)
            if part < meet:
                continue
            gaps = [route.speed * (t - route.start) - other.speed * (t - other.start) for t in (meet, part)]
            if gaps[0] * gaps[1] <= 0 or min(map(abs, gaps)) < 1.3:
                return True
        return False

    def add_walkers(self, crowd: float, drift: float) -> None:
        """Add people who walk past, `crowd` in the frame on average; `drift` varies that over the clip."""
        mean_speed = sum(WALKING_SPEED) / 2 / self._rate_hz
        lead = (self._length(0.0) + 2 * MARGIN) / mean_speed * 1.3
        busy = crowd / (self._length(0.0) / mean_speed) / 1.25
        number = int(self._rng.poisson(busy * (1 + drift) * (self._n_frames + lead)))
        arrivals = np.sort(self._rng.uniform(-lead, self._n_frames, number))
        phase = self._uniform(0, 2 * math.pi)
        for start in arrivals.tolist():
            level = 1 + 0.9 * drift * math.sin(2 * math.pi * start / self._n_frames + phase)
            if self._rng.random() * (1 + drift) > level:
                continue
            direction, speed = self._side(), self._speed(WALKING_SPEED)
            order = self._rng.permutation(len(LANES)).tolist()
            if self._walk(start, direction, speed, order) and self._rng.random() < 0.25:
                self._walk(start + self._uniform(-0.5, 0.5), direction, speed, order[::-1])

    def _walk(self, start: float, direction: int, speed: float, order: Sequence[int]) -> bool:
        for lane in order:
            route = self._route(direction, direction * LANES[lane], speed)
            route = _moved(route, start)
            if not self._clashes(route):
                self._join("walker", route)
                return True
        return False

    def add_anomalies(self, kinds: Sequence[str]) -> None:
        """Add labelled anomalies one after the other, with normal frames before, between and after them.

        If two do not fit into the clip, one is left out; if one does not fit, it lasts until the end.
        """
        routes = {kind: self._crossing(kind) for kind in kinds if kind in CROSSING}
        lengths = {kind: self._stay(kind, routes.get(kind)) for kind in kinds}
        margin = max(2, round(0.04 * self._n_frames))

        def spare(chosen: Sequence[str]) -> int:
            return self._n_frames - sum(lengths[kind] for kind in chosen) - margin * (len(chosen) + 1)

        if len(kinds) > 1 and spare(kinds) < 0:
            kinds = [kind for kind in kinds if spare([kind]) >= 0][:1] or kinds[:1]
        if spare(kinds) < 0:
            first = self._n_frames // 4
            self._stage(kinds[0], routes, first, first + lengths[kinds[0]])
            return
        frame = 0.0
        for kind, share in zip(kinds, self._rng.dirichlet(np.ones(len(kinds) + 1)).tolist(), strict=False):
            frame += margin + share * spare(kinds)
            self._stage(kind, routes, round(frame), round(frame) + lengths[kind])
            frame += lengths[kind]

    def _stay(self, kind: str, route: WalkPath | None) -> int:
        """Frames for which an anomaly is visible; it has a route if it crosses the frame."""
        if route is None:
            frames = self._uniform(0.14, 0.2) * min(self._n_frames, 60 * self._rate_hz)
            return round(frames if kind == "dropped" else max(frames, 1.3 * DETOUR_S * self._rate_hz))
        return math.ceil((self._length(route.lane) + 2 * _reach(kind)) / route.speed)

    def _crossing(self, kind: str) -> WalkPath:
        direction = self._side()
        lane = self._uniform(0.0, 0.45) * direction
        return self._route(direction, lane, self._speed(CROSSING[kind]), sway=0.05)

    def _stage(self, kind: str, routes: dict[str, WalkPath], first: int, last: int) -> None:
        """Place one anomaly from frame `first` to about frame `last`."""
        whole = (0, self._n_frames - 1)
        if kind in CROSSING:
            route = routes[kind]
            enters = next(frame for frame in itertools.count() if route.at(frame)[2] >= MARGIN - _reach(kind))
            self._join(kind, _moved(route, first - enters), abnormal=whole)
        elif kind == "wrong_way":
            self._wrong_way(first, last)
        else:
            self._dropped(first, last)

    def _wrong_way(self, first: int, last: int) -> None:
        """Somebody walks across the lawn and returns; labelled while on the lawn."""
        direction = self._side()
        route = self._route(direction, direction * LANES[-1], self._speed(WALKING_SPEED), sway=0.0)
        left, right = self._camera.span(route.lane)
        middle = (left + right) / 2 + self._uniform(-1, 1)
        route = _moved(route, (first + last) / 2 - route.frame_at(middle))
        metres = self._uniform(2.1, 2.9) * direction
        ease = DETOUR_S * self._rate_hz
        detour = first - 0.4 * ease, last + 0.4 * ease
        route = replace(route, detour=(*detour, metres, ease))
        frames = range(math.floor(detour[0]), math.ceil(detour[1]) + 1)
        outside = [frame for frame in frames if abs(route.at(frame)[1]) > WALKWAY]
        self._join("wrong_way", route, abnormal=(outside[0], outside[-1]))

    def _dropped(self, first: int, last: int) -> None:
        """Somebody puts down a bag, somebody else takes it; labelled while nobody holds it."""
        direction = self._side()
        left, right = self._camera.span(direction * VERGE)
        place = left + (right - left) * self._uniform(0.25, 0.75)
        appearance, whole = Appearance.random(self._rng), (first, min(last, self._n_frames - 1))
        for frame, bag in ((first, (-math.inf, float(first))), (last, (float(last), math.inf))):
            route = self._route(direction, direction * (VERGE - 0.4), self._speed(WALKING_SPEED), sway=0.0)
            route = _moved(route, frame - route.frame_at(place))
            route = replace(route, origin=route.origin + place - route.at(frame)[0])
            self._join("walker", route, bag=bag)
            self.actors[-1] = replace(
                self.actors[-1], appearance=replace(self.actors[-1].appearance, bag=appearance.bag)
            )
        stand = WalkPath(0.0, place, direction, 0.0, direction * VERGE)
        self.actors.append(Actor("dropped", stand, appearance, *whole, 0.0, abnormal=whole))


def _reach(kind: str) -> float:
    """Distance from its middle to its end, metres: from there on it is visible."""
    return 2.0 if kind == "cart" else 1.1


def _key(route: WalkPath) -> tuple[int, float]:
    return route.direction, round(abs(route.lane), 1)


def _moved(route: WalkPath, frames: float) -> WalkPath:
    return replace(route, start=route.start + frames)
