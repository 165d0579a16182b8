"""Which node watches which camera: weighted rendezvous hashing with capacity, and when a node counts as lost or back.

Everything here is a function of its arguments: times come from the caller, and nothing knows of Ray.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

LOST_S = 10.0
"""Seconds without a new heartbeat after which a node is lost. A heartbeat comes each second; a busy disk may delay some."""

START_S = 45.0
"""Seconds that a node has for its first heartbeat: it loads the program and the models first."""

SETTLE_S = 60.0
"""Seconds of heartbeats without a gap after which a node that came back gets cameras again. One that comes and goes gets none."""

NodeState = Literal["starting", "up", "settling", "lost"]
"""`starting` has not answered yet, `settling` is back but not trusted yet, `lost` does not answer."""


def rendezvous_score(camera: str, node: str, capacity: int) -> float:
    """How well a camera fits a node: higher is better. Each pair has a number of its own, whatever other nodes there are.

    Source: weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by the logarithmic method): the share of
    the cameras that a node attracts is its share of the capacity.

    >>> rendezvous_score("gate", "a", 8) == rendezvous_score("gate", "a", 8) != rendezvous_score("gate", "b", 8)
    True
    """
    digest = hashlib.blake2b(f"{camera}\0{node}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest) + 0.5) / 2**64
    return capacity / -math.log(uniform)


def preferred_placement(cameras: Iterable[str], nodes: Mapping[str, int]) -> dict[str, str]:
    """The placement that depends on the names alone: each camera at its best node that does not prefer others.

    Source: deferred acceptance (Gale and Shapley 1962). A full node keeps the cameras that fit it best, so that the
    order of the cameras does not matter.

    Args:
        cameras: names.
        nodes: capacity of each node, in cameras.

    Returns:
        Camera to node. Cameras without room are missing.

    >>> sorted(preferred_placement(["a", "b", "c"], {"one": 1, "two": 1}).values())
    ['one', 'two']
    """
    accepted: dict[str, list[tuple[float, str]]] = {node: [] for node in nodes}
    for camera in cameras:
        waiting = [(camera, _preferences(camera, nodes))]
        while waiting:
            asking, preferences = waiting.pop()
            for node in preferences:
                heapq.heappush(accepted[node], (rendezvous_score(asking, node, nodes[node]), asking))
                if len(accepted[node]) <= nodes[node]:
                    break
                _, refused = heapq.heappop(accepted[node])
                if refused != asking:
                    waiting.append((refused, _after(_preferences(refused, nodes), node)))
                    break
    return {camera: node for node, found in accepted.items() for _, camera in found}


def place_cameras(
    cameras: Collection[str],
    present: Mapping[str, str],
    settled: Mapping[str, int],
    settling: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """The next placement: what runs stays where it is, unless its node is lost or its own node is back.

    A camera without a node goes to the best one with room; to one that is settling only where no other has room. A
    camera moves to its preferred node as soon as that is settled, has room, and fits better than the present one.

    Args:
        cameras: names.
        present: camera to node, the last placement.
        settled: capacity of the nodes that are up.
        settling: capacity of the nodes that are back but not trusted yet.

    Returns:
        Camera to node. Cameras without room are missing. No node has more cameras than its capacity.
    """
    settling = settling or {}
    alive = {**settling, **settled}
    found = _within_capacity({c: n for c in cameras if (n := present.get(c)) in alive}, alive)
    _bring_home(found, preferred_placement(cameras, settled), settled)
    for group in (settled, settling):
        _fill(found, [camera for camera in cameras if camera not in found], group)
    return found


def _preferences(camera: str, nodes: Mapping[str, int]) -> list[str]:
    return sorted(
        (node for node in nodes if nodes[node] > 0),
        key=lambda node: (-rendezvous_score(camera, node, nodes[node]), node),
    )


def _after(preferences: list[str], node: str) -> list[str]:
    return preferences[preferences.index(node) + 1 :]


def _within_capacity(placed: dict[str, str], nodes: Mapping[str, int]) -> dict[str, str]:
    """What of a placement fits: a node that holds too many gives up those that fit it least."""
    by_node: dict[str, list[str]] = {}
    for camera, node in placed.items():
        by_node.setdefault(node, []).append(camera)
    kept: dict[str, str] = {}
    for node, held in by_node.items():
        best = sorted(held, key=lambda camera: (-rendezvous_score(camera, node, nodes[node]), camera))
        kept |= dict.fromkeys(best[: nodes[node]], node)
    return kept


def _bring_home(placed: dict[str, str], homes: Mapping[str, str], nodes: Mapping[str, int]) -> None:
    """Move cameras to their preferred nodes while these have room and fit them better than the present ones."""
    room = _room(placed, nodes)
    has_moved = True
    while has_moved:
        has_moved = False
        for camera, home in homes.items():
            now = placed.get(camera)
            if now is None or now == home or room[home] <= 0:
                continue
            if now in nodes and rendezvous_score(camera, home, nodes[home]) <= rendezvous_score(
                camera, now, nodes[now]
            ):
                continue
            placed[camera], has_moved = home, True
            room[home] -= 1
            if now in room:
                room[now] += 1


def _fill(placed: dict[str, str], cameras: Iterable[str], nodes: Mapping[str, int]) -> None:
    """Give cameras without a node to the best nodes with room: the pairs that fit best first."""
    room = _room(placed, nodes)
    pairs = [
        (-rendezvous_score(camera, node, nodes[node]), camera, node)
        for camera in cameras
        for node in nodes
        if room[node] > 0
    ]
    for _, camera, node in sorted(pairs):
        if camera not in placed and room[node] > 0:
            placed[camera] = node
            room[node] -= 1


def _room(placed: Mapping[str, str], nodes: Mapping[str, int]) -> dict[str, int]:
    room = dict(nodes)
    for node in placed.values():
        if node in room:
            room[node] -= 1
    return room


@dataclass
class _Seen:
    """What is known of a node: times on the caller's clock.

    Attributes:
        state: of the node.
        beat: its last heartbeat.
        changed_s: when that came.
        since_s: when the state began.
    """

    state: NodeState
    beat: object
    changed_s: float
    since_s: float


class NodeHealth:
    """Tells from heartbeats which nodes are up, with hysteresis. Heartbeats are compared, never clocks of other machines.

    A node is lost after `LOST_S` without a new heartbeat. It is up again after `SETTLE_S` without such a gap. Nodes that
    were up when an earlier process stopped stay up until they fail to answer: a restart moves no camera.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, _Seen] = {}

    def expect(self, node: str, now: float, state: NodeState = "starting") -> None:
        """Make a node known that has no heartbeat yet; one that is known already stays as it is."""
        self._nodes.setdefault(node, _Seen(state, None, now, now))

    def observe(self, node: str, beat: object, now: float) -> None:
        """Take in the newest heartbeat of a node, new or not.

        Args:
            node: its name.
            beat: anything that differs from one heartbeat to the next; None for no heartbeat.
            now: on a clock that never goes back, in seconds.
        """
        self.expect(node, now, "lost")
        seen = self._nodes[node]
        if beat is not None and beat != seen.beat:
            is_first, seen.beat, seen.changed_s = seen.beat is None, beat, now
            if not is_first and seen.state in ("starting", "lost"):  # the first one may be old
                self._enter(seen, "up" if seen.state == "starting" else "settling", now)
        limit_s = START_S if seen.state == "starting" else LOST_S
        if seen.state != "lost" and now - seen.changed_s >= limit_s:
            self._enter(seen, "lost", now)
        elif seen.state == "settling" and now - seen.since_s >= SETTLE_S:
            self._enter(seen, "up", now)

    def _enter(self, seen: _Seen, state: NodeState, now: float) -> None:
        seen.state, seen.since_s = state, now

    def forget(self, node: str) -> None:
        """Forget a node that was taken out of the fleet."""
        self._nodes.pop(node, None)

    def state(self, node: str) -> NodeState:
        """The state of a node; one that was never seen is lost."""
        return self._nodes[node].state if node in self._nodes else "lost"

    def age_s(self, node: str, now: float) -> float | None:
        """Seconds since the last heartbeat; None before the first."""
        seen = self._nodes.get(node)
        return None if seen is None or seen.beat is None else now - seen.changed_s

    def nodes(self) -> list[str]:
        """The names of all nodes that are known."""
        return sorted(self._nodes)
