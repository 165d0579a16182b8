"""Cameras on nodes as a simulation of discrete events, in two steps.

`simulate_node` follows every frame on one machine: when it is due, when a worker takes it, whether a newer one replaces it.
`simulate_fleet` follows nodes, cameras, events and alerts over a day. It takes from the first the share of frames that a node
drops at a load, because nobody can follow 40 billion frames.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import simpy
from capacity_inputs import GIB, Costs, Fleet
from numpy.typing import NDArray

from comemory.cluster.placement import place_cameras

BUSIEST_S = 14 * 3600.0
"""The busiest second of the day."""
MINUTE_S = 60.0
LOADS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6, 2.0, 3.0)
"""At which the share of dropped frames is simulated, in shares of a node."""


@dataclass
class NodeResult:
    """What happened to the frames of a node. Times in seconds.

    Attributes:
        n_due: frames that were to be scored.
        n_waiting: that neither were scored nor dropped when the time was over.
        busy: share of the cores that worked.
    """

    n_due: int = 0
    n_scored: int = 0
    n_dropped: int = 0
    n_waiting: int = 0
    busy: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def latency_ms(self, percent: float) -> float:
        """A percentile of the time from due to scored."""
        return 1000 * float(np.percentile(self.latencies_s, percent)) if self.latencies_s else math.nan


class _Node:
    """A machine whose workers take the camera that has waited longest. A newer frame replaces one that still waits."""

    def __init__(self, env: simpy.Environment, workers: int, service_s: float, spread: float, seed: int) -> None:
        self.env, self.result, self._workers = env, NodeResult(), workers
        self._service_s, self._spread, self._random = service_s, spread, random.Random(seed)
        self._due_s: dict[int, float] = {}
        self._queue = simpy.Store(env)
        self._served: set[int] = set()
        self._busy_s = 0.0

    def camera(self, number: int, first_s: float, period_s: float) -> Iterator[simpy.Event]:
        """Frames of a camera, one each period."""
        yield self.env.timeout(first_s)
        while True:
            self.result.n_due += 1
            is_waiting = number in self._due_s
            self.result.n_dropped += is_waiting
            self._due_s[number] = self.env.now
            if not is_waiting and number not in self._served:
                self._queue.put(number)
            yield self.env.timeout(period_s)

    def worker(self) -> Iterator[simpy.Event]:
        """Score what waits."""
        while True:
            number = yield self._queue.get()
            due_s = self._due_s.pop(number)
            self._served.add(number)
            # Lognormal with the given mean: no frame costs less than nothing.
            factor = math.exp(self._random.gauss(-(self._spread**2) / 2, self._spread)) if self._spread else 1.0
            began_s = self.env.now
            yield self.env.timeout(self._service_s * factor)
            self._busy_s += self.env.now - began_s
            self.result.n_scored += 1
            self.result.latencies_s.append(self.env.now - due_s)
            self._served.discard(number)
            if number in self._due_s:
                self._queue.put(number)

    def finish(self) -> NodeResult:
        """The result, with what is left."""
        self.result.n_waiting = len(self._due_s) + len(self._served)
        self.result.busy = self._busy_s / (self.env.now * self._workers)
        return self.result


def simulate_node(
    n_cameras: int,
    workers: int,
    scored_fps: float,
    service_ms: float,
    *,
    seconds: float = 30.0,
    spread: float = 0.1,
    seed: int = 0,
    spaced: bool = False,
) -> NodeResult:
    """Follow each frame of a machine.

    Args:
        n_cameras: at this machine.
        workers: cores, each with a worker.
        scored_fps: frames per second that are due, of each camera.
        service_ms: of a core for a frame that is scored, with the frames that are decoded for it.
        seconds: simulated.
        spread: standard deviation of the logarithm of the service time.
        seed: of the times at which the cameras begin.
        spaced: cameras begin one after the other at equal distances, as in `bench_eight_cameras.py`; else at random.
    """
    env, dice = simpy.Environment(), random.Random(seed)
    node = _Node(env, workers, service_ms / 1000, spread, seed)
    for number in range(n_cameras):
        first_s = (number / n_cameras if spaced else dice.random()) / scored_fps
        env.process(node.camera(number, first_s, 1 / scored_fps))
    for _ in range(workers):
        env.process(node.worker())
    env.run(seconds)
    return node.finish()


def drop_curve(fleet: Fleet, costs: Costs) -> NDArray[np.float64]:
    """Share of frames that a node drops at each of `LOADS`: float64 (n,)."""
    service_ms = 1000 * fleet.camera_cores(costs, fleet.busy_share_day) / fleet.scored_fps
    shares = []
    for load in LOADS:
        n_cameras = max(1, round(load * fleet.cores * 1000 / (service_ms * fleet.scored_fps)))
        found = simulate_node(n_cameras, fleet.cores, fleet.scored_fps, service_ms, seconds=10, seed=fleet.seed)
        shares.append(found.n_dropped / max(found.n_due, 1))
    return np.array(shares)


@dataclass
class FleetResult:
    """A day of a fleet. Frames are those that are due to be scored.

    Attributes:
        frames_unwatched: of cameras that no node had at the time.
        moves: cameras that changed their node.
        longest_gap_s: without a node.
        events_missed: while their camera was unwatched.
        alert_delay_s: from the event to the receiver, one an alert that arrived.
        backlog_s: longest wait of a write for the database.
    """

    cells: int = 0
    nodes: int = 0
    cameras_a_node: int = 0
    frames_due: float = 0.0
    frames_scored: float = 0.0
    frames_dropped: float = 0.0
    frames_unwatched: float = 0.0
    cores_mean: float = 0.0
    cores_peak: float = 0.0
    busy_peak: float = 0.0
    losses: int = 0
    moves: int = 0
    longest_gap_s: float = 0.0
    events: int = 0
    events_missed: int = 0
    alerts: int = 0
    alerts_delivered: int = 0
    alert_tries: int = 0
    alerts_waiting_peak: int = 0
    alert_delay_s: list[float] = field(default_factory=list)
    writes_mean_s: float = 0.0
    writes_peak_s: float = 0.0
    backlog_s: float = 0.0
    network_mbit_s: float = 0.0
    node_mbit_s: float = 0.0
    media_gib_a_day: float = 0.0
    database_gib_a_day: float = 0.0

    @property
    def watched_share(self) -> float:
        """Share of the camera time in which a node had the camera."""
        return 1 - self.frames_unwatched / max(self.frames_due, 1)

    @property
    def dropped_share(self) -> float:
        """Share of the frames that a node had and did not score."""
        return self.frames_dropped / max(self.frames_due - self.frames_unwatched, 1)


def activity(at_s: float) -> float:
    """How busy the scenes are, from 0 at the quietest hour to 1 at the busiest.

    >>> activity(BUSIEST_S), round(activity(BUSIEST_S + 43200), 3)
    (1.0, 0.0)
    """
    return 0.5 + 0.5 * math.cos(2 * math.pi * (at_s - BUSIEST_S) / 86400)


def nodes_of_a_cell(fleet: Fleet, costs: Costs, n_cameras: int) -> tuple[int, int]:
    """Nodes, with spare ones, and how many cameras each can take."""
    capacity = max(1, int(fleet.cores * fleet.target / fleet.camera_cores(costs, fleet.busy_share_day)))
    needed = math.ceil(n_cameras / capacity)
    return needed + max(1, math.ceil(fleet.spare * needed)), capacity


class _Cell:
    """Cameras that share a database, and their nodes."""

    def __init__(
        self,
        env: simpy.Environment,
        fleet: Fleet,
        costs: Costs,
        n_cameras: int,
        curve: NDArray[np.float64],
        dice: np.random.Generator,
        result: FleetResult,
    ) -> None:
        self.env, self.fleet, self.costs, self.n_cameras, self.result = env, fleet, costs, n_cameras, result
        self._curve, self._dice = curve, dice
        self.n_nodes, self.capacity = nodes_of_a_cell(fleet, costs, n_cameras)
        self._names = [f"camera-{number}" for number in range(n_cameras)]
        self._state = ["up"] * self.n_nodes
        self._node = np.full(n_cameras, -1)
        self._is_watched = np.ones(n_cameras, bool)
        self._gap_began_s = np.zeros(n_cameras)
        self._accounted_s = 0.0
        self._database_free_s = 0.0
        self._writes_in_minute = 0.0
        self._sink_free_s, self._is_sink_up, self._n_waiting = 0.0, True, 0
        self._place()
        self._is_watched[:] = self._node >= 0
        env.process(self._tick())
        env.process(self._raise_events())
        env.process(self._burst())
        env.process(self._outages())
        for node in range(self.n_nodes):
            env.process(self._live(node))

    def _live(self, node: int) -> Iterator[simpy.Event]:
        """A node is lost and comes back, again and again."""
        fleet = self.fleet
        while True:
            yield self.env.timeout(self._dice.exponential(fleet.node_lost_h * 3600))
            back_s = self.env.now + max(MINUTE_S, self._dice.exponential(fleet.node_away_min * 60))
            self.account()
            self.result.losses += 1
            self._state[node] = "dead"
            self._interrupt(np.flatnonzero(self._node == node))
            yield self.env.timeout(fleet.lost_s)
            self._state[node] = "lost"
            self._place()
            yield self.env.timeout(max(0.0, back_s - self.env.now))
            self._state[node] = "settling"
            self._place()
            yield self.env.timeout(fleet.settle_s)
            self._state[node] = "up"
            self._place()

    def _place(self) -> None:
        """Place the cameras as the fleet does: what runs stays, unless its node is lost or its own node is back."""
        alive: dict[str, dict[str, int]] = {"up": {}, "settling": {}}
        for node, state in enumerate(self._state):
            # A node that is dead and not yet lost looks as if it were up.
            if state != "lost":
                alive["settling" if state == "settling" else "up"][str(node)] = self.capacity
        present = {self._names[camera]: str(node) for camera, node in enumerate(self._node) if node >= 0}
        found = place_cameras(self._names, present, alive["up"], alive["settling"])
        after = np.array([int(found.get(name, -1)) for name in self._names])
        moved = np.flatnonzero(after != self._node)
        self._interrupt(moved)
        self._node = after
        moved = moved[after[moved] >= 0]
        if len(moved) and self.env.now:
            self.result.moves += len(moved)
            self.env.process(self._start(moved))

    def _interrupt(self, cameras: NDArray[np.int64]) -> None:
        self.account()
        fresh = cameras[self._is_watched[cameras]]
        self._gap_began_s[fresh] = self.env.now
        self._is_watched[cameras] = False

    def _start(self, cameras: NDArray[np.int64]) -> Iterator[simpy.Event]:
        nodes = self._node[cameras].copy()
        yield self.env.timeout(self.fleet.start_s)
        self.account()
        stayed = cameras[(self._node[cameras] == nodes) & ~self._is_watched[cameras]]
        stayed = stayed[[self._state[node] != "dead" for node in self._node[stayed]]]
        if len(stayed):
            gaps = self.env.now - self._gap_began_s[stayed]
            self.result.longest_gap_s = max(self.result.longest_gap_s, float(gaps.max()))
            self._is_watched[stayed] = True

    def account(self) -> None:
        """Count the frames since the last change: until then all rates were constant."""
        passed_s, self._accounted_s = self.env.now - self._accounted_s, self.env.now
        if passed_s <= 0:
            return
        fleet, result = self.fleet, self.result
        on_node = np.bincount(self._node[self._is_watched], minlength=self.n_nodes)
        load = on_node * fleet.camera_cores(self.costs, self.busy_share()) / fleet.cores
        frames = on_node * fleet.scored_fps * passed_s
        dropped = frames * np.interp(load, (0.0, *LOADS), (0.0, *self._curve))
        result.frames_due += self.n_cameras * fleet.scored_fps * passed_s
        result.frames_unwatched += (self.n_cameras - on_node.sum()) * fleet.scored_fps * passed_s
        result.frames_dropped += dropped.sum()
        result.frames_scored += frames.sum() - dropped.sum()
        result.cores_mean += np.minimum(load, 1).sum() * fleet.cores * passed_s / (fleet.days * 86400)
        result.busy_peak = max(result.busy_peak, float(load.max()))

    def busy_share(self) -> float:
        """Share of frames in which something moves, now."""
        low, high = self.fleet.busy_share_night, self.fleet.busy_share_day
        return low + (high - low) * activity(self.env.now)

    def _tick(self) -> Iterator[simpy.Event]:
        """Each minute the scenes are a little busier or quieter, and each camera writes its scores."""
        while True:
            self._write(self.n_cameras * self.costs.day_of_scores_transactions / 1440)
            yield self.env.timeout(MINUTE_S)
            self.account()
            self.result.writes_peak_s = max(self.result.writes_peak_s, self._writes_in_minute / MINUTE_S)
            self._writes_in_minute = 0.0

    def _write(self, transactions: float) -> None:
        """The database serves `database_clients` writers at a time, each as fast as the one that was measured."""
        fleet, costs, result = self.fleet, self.costs, self.result
        each_s = costs.database_ms / 1000 / costs.database_transactions / fleet.database_clients
        self._database_free_s = max(self._database_free_s, self.env.now) + transactions * each_s
        result.backlog_s = max(result.backlog_s, self._database_free_s - self.env.now)
        result.writes_mean_s += transactions / (fleet.days * 86400)
        self._writes_in_minute += transactions

    def _raise_events(self) -> Iterator[simpy.Event]:
        """Events of single cameras, more at busy hours: a Poisson process, thinned."""
        rate_s = 2 * self.n_cameras * self.fleet.events_a_day / 86400
        while rate_s:
            yield self.env.timeout(self._dice.exponential(1 / rate_s))
            if self._dice.random() < activity(self.env.now):
                self._event(int(self._dice.integers(self.n_cameras)))

    def _burst(self) -> Iterator[simpy.Event]:
        """Something that many cameras see within a minute."""
        fleet = self.fleet
        while fleet.bursts_a_day:
            yield self.env.timeout(self._dice.exponential(86400 / fleet.bursts_a_day))
            cameras = self._dice.choice(self.n_cameras, round(fleet.burst_share * self.n_cameras), replace=False)
            for camera in cameras:
                self.env.process(self._later(self._dice.random() * fleet.burst_s, int(camera)))

    def _later(self, wait_s: float, camera: int) -> Iterator[simpy.Event]:
        yield self.env.timeout(wait_s)
        self._event(camera)

    def _event(self, camera: int) -> None:
        fleet, costs, result = self.fleet, self.costs, self.result
        result.events += 1
        if not self._is_watched[camera]:
            result.events_missed += 1
            return
        self._write(costs.database_transactions)
        clip = (fleet.event_s + fleet.margin_s) * fleet.camera_mbit_s * 1e6 / 8
        images = costs.thumbnail_bytes + costs.crop_bytes + costs.heat_bytes
        result.media_gib_a_day += (clip + images) / GIB / fleet.days
        result.database_gib_a_day += costs.database_bytes / GIB / fleet.days
        self.env.process(self._deliver())

    def _deliver(self) -> Iterator[simpy.Event]:
        """An alert is tried until the receiver takes it. It is never given up within a day."""
        fleet, result, raised_s, attempt = self.fleet, self.result, self.env.now, 0
        result.alerts += 1
        self._n_waiting += 1
        result.alerts_waiting_peak = max(result.alerts_waiting_peak, self._n_waiting)
        while True:
            result.alert_tries += 1
            if self._is_sink_up:
                self._sink_free_s = max(self._sink_free_s, self.env.now) + 1 / fleet.sink_rate_s
                yield self.env.timeout(self._sink_free_s - self.env.now)
                self._n_waiting -= 1
                result.alerts_delivered += 1
                result.alert_delay_s.append(self.env.now - raised_s)
                return
            longest_s = min(fleet.retry_max_s, fleet.retry_s * 2.0 ** min(attempt, 40))
            attempt += 1
            yield self.env.timeout(longest_s * self._dice.uniform(0.5, 1.0))

    def _outages(self) -> Iterator[simpy.Event]:
        while self.fleet.outages_a_day:
            yield self.env.timeout(self._dice.exponential(86400 / self.fleet.outages_a_day))
            self._is_sink_up = False
            yield self.env.timeout(self._dice.exponential(60 * self.fleet.outage_min))
            self._is_sink_up = True


def simulate_fleet(fleet: Fleet, costs: Costs, curve: NDArray[np.float64] | None = None) -> FleetResult:
    """Follow a fleet over `fleet.days`. The same inputs give the same result.

    Args:
        fleet: the inputs.
        costs: measured.
        curve: see `drop_curve`; None simulates it.
    """
    env, result = simpy.Environment(), FleetResult()
    curve = drop_curve(fleet, costs) if curve is None else curve
    seeds = np.random.SeedSequence(fleet.seed)
    cells = [
        _Cell(env, fleet, costs, n_cameras, curve, np.random.default_rng(seed), result)
        for n_cameras, seed in zip(sizes(fleet), seeds.spawn(len(sizes(fleet))), strict=True)
    ]
    env.run(fleet.days * 86400)
    for cell in cells:
        cell.account()
    result.cells, result.nodes = len(cells), sum(cell.n_nodes for cell in cells)
    result.cameras_a_node = cells[0].capacity
    result.cores_peak = fleet.cameras * fleet.camera_cores(costs, fleet.busy_share_day)
    result.network_mbit_s = fleet.cameras * fleet.camera_mbit_s
    result.node_mbit_s = result.cameras_a_node * fleet.camera_mbit_s
    result.database_gib_a_day += fleet.cameras * costs.day_of_scores_bytes / GIB
    return result


def sizes(fleet: Fleet) -> Sequence[int]:
    """Cameras of each cell: as equal as they can be.

    >>> sizes(Fleet(cameras=5, cameras_a_cell=2))
    [2, 2, 1]
    """
    n_cells = math.ceil(fleet.cameras / fleet.cameras_a_cell)
    return [fleet.cameras // n_cells + (number < fleet.cameras % n_cells) for number in range(n_cells)]
