"""An archive on many workers as a simulation of discrete events: files, losses of workers, nodes and the driver, retries."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simpy
from capacity_inputs import Archive, Costs
from numpy.typing import NDArray

from comemory.cluster.archive import MAX_DEATHS


@dataclass
class ArchiveResult:
    """What became of an archive.

    Attributes:
        done: times that each file was finished: int64 (n,). One each, or 0 for those that failed.
        failed: files that are in the report: a request failed at every attempt, or the worker was lost three times.
        makespan_h: from the start to the last file.
        tail_h: from the first worker without work to the end.
        wasted_share: of the workers' time that was spent on files whose worker was lost then.
        starting_share: spent on starting.
        idle_share: spent on waiting: for the driver, for a node, and at the end.
        driver_busy: share of the driver's time.
        requests: to the store, with those that failed.
        requests_s: a second, mean.
        fetch_mbit_s: from the store, mean.
        result_bytes: of Parquet.
    """

    n_files: int
    hours: float
    done: NDArray[np.int64]
    failed: int = 0
    worker_losses: int = 0
    node_losses: int = 0
    driver_losses: int = 0
    makespan_h: float = 0.0
    tail_h: float = 0.0
    busy_h: float = 0.0
    wasted_share: float = 0.0
    starting_share: float = 0.0
    idle_share: float = 0.0
    driver_busy: float = 0.0
    requests: int = 0
    requests_s: float = 0.0
    fetch_mbit_s: float = 0.0
    result_bytes: float = 0.0

    @property
    def hours_an_hour(self) -> float:
        """Hours of video scored in an hour."""
        return self.hours / self.makespan_h


def core_s_of_an_hour(archive: Archive, costs: Costs) -> float:
    """Seconds of a core for an hour of video, without the overhead of files."""
    score_ms = archive.busy_share * costs.scored_ms + (1 - archive.busy_share) * costs.static_ms
    scored_fps = min(archive.scored_fps, archive.fps)
    return 3.6 * (archive.fps * costs.decode_ms(archive.video) + scored_fps * score_ms)


class _Run:
    """The driver and its workers."""

    def __init__(self, env: simpy.Environment, archive: Archive, costs: Costs) -> None:
        self.env, self.archive, self.costs = env, archive, costs
        self._dice = np.random.default_rng(archive.seed)
        n_files = max(1, round(archive.hours * 60 / archive.file_min))
        lengths = self._dice.lognormal(0, archive.file_spread, n_files) if archive.file_spread else np.ones(n_files)
        self.lengths_h = lengths * (archive.hours / lengths.sum())
        n_failures, self._has_failed = self._failures(n_files)
        self.result = ArchiveResult(n_files, archive.hours, np.zeros(n_files, np.int64))
        self.result.requests = n_files * archive.requests_a_file + int(n_failures.sum())
        self.wait_s = self._waits(n_failures)
        self._next, self._again = 0, deque[int]()
        self._n_deaths: dict[int, int] = {}
        self._n_open = n_files
        self._changed = env.event()
        self._driver_free_s = 0.0
        self._driver_back_s = 0.0
        self._driver_lost_s = self._draw_driver_loss()
        self._driver_busy_s = 0.0
        self._first_idle_s = math.inf
        n_nodes = math.ceil(archive.workers / archive.cores)
        self._slow = np.where(self._dice.random(n_nodes) < archive.slow_share, archive.slow_factor, 1.0)
        self._node_lost_s = self._dice.exponential(archive.node_lost_h * 3600, n_nodes)
        self._node_back_s = np.zeros(n_nodes)
        self._busy_s = self._wasted_s = self._starting_s = 0.0
        self._end_s = 0.0
        for number in range(archive.workers):
            env.process(self._work(number))

    def _failures(self, n_files: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Requests of each file that fail, and whether one of them fails at each attempt."""
        archive = self.archive
        n, has_failed = np.zeros(n_files, np.int64), np.zeros(n_files, bool)
        for _ in range(archive.requests_a_file if archive.failed_requests else 0):
            failures = self._dice.geometric(1 - archive.failed_requests, n_files) - 1
            has_failed |= failures >= archive.attempts
            n += np.minimum(failures, archive.attempts)
        return n, has_failed

    def _waits(self, failures: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds of pauses of each file: half to all of 0.2, 0.4, 0.8, ... for one request after the other."""
        archive = self.archive
        pauses = np.minimum(
            archive.pause_s * 2.0 ** np.arange(max(1, int(failures.max(initial=0)))), archive.pause_max_s
        )
        total = np.concatenate([[0.0], np.cumsum(0.75 * pauses)])
        return total[failures]

    def _draw_driver_loss(self) -> float:
        return self.env.now + float(self._dice.exponential(self.archive.driver_lost_h * 3600))

    def _take(self) -> int | None:
        """The next file: one that was lost, or a new one."""
        if self._again:
            return self._again.popleft()
        if self._next < self.result.n_files:
            self._next += 1
            return self._next - 1
        return None

    def _put_back(self, number: int) -> None:
        self._again.append(number)
        self._changed.succeed()
        self._changed = self.env.event()

    def _service_s(self, number: int, node: int) -> float:
        archive, costs = self.archive, self.costs
        hours = self.lengths_h[number]
        if self._has_failed[number]:
            return float(self.wait_s[number])
        score_s = hours * core_s_of_an_hour(archive, costs) + costs.file_ms / 1000
        fetch_s = hours * 3600 * archive.mbit_s / archive.fetch_mbit_s if archive.fetch_mbit_s else 0.0
        return float(score_s * self._slow[node] + fetch_s + self.wait_s[number])

    def _work(self, worker: int) -> Iterator[simpy.Event]:
        """A worker: starts, scores one file after the other, is lost, and is replaced."""
        archive, env, node = self.archive, self.env, worker // self.archive.cores
        own_lost_s = env.now + float(self._dice.exponential(archive.worker_lost_h * 3600))
        must_start = True
        while self._n_open:
            number = self._take()
            if number is None:
                # Nothing to do now, but a worker that is lost may give its file back.
                self._first_idle_s = min(self._first_idle_s, env.now)
                yield self._changed
                continue
            ready_s = max(env.now, self._node_back_s[node], self._driver_back_s)
            if must_start:
                self._starting_s += self.costs.worker_start_s
                ready_s, must_start = ready_s + self.costs.worker_start_s, False
            begin_s = self._driver_free_s = max(self._driver_free_s, ready_s) + archive.driver_ms / 1000
            self._driver_busy_s += archive.driver_ms / 1000
            service_s = self._service_s(number, node)
            lost_s = min(own_lost_s, self._node_lost_s[node], self._driver_lost_s)
            if lost_s > begin_s + service_s:
                yield env.timeout(begin_s + service_s - env.now)
                self._busy_s += service_s
                self._close(number, is_done=not self._has_failed[number])
                continue
            yield env.timeout(max(0.0, lost_s - env.now))
            self._wasted_s += max(0.0, lost_s - begin_s)
            must_start = True
            if lost_s < self._driver_lost_s:
                self._n_deaths[number] = self._n_deaths.get(number, 0) + 1
            if env.now >= own_lost_s:
                self.result.worker_losses += 1
                own_lost_s = env.now + float(self._dice.exponential(archive.worker_lost_h * 3600))
            if env.now >= self._node_lost_s[node]:
                self._lose_node(node)
            if env.now >= self._driver_lost_s:
                self.result.driver_losses += 1
                self._driver_back_s = env.now + 60 * archive.driver_away_min
                self._driver_lost_s = self._driver_back_s + float(self._dice.exponential(archive.driver_lost_h * 3600))
            if self._n_deaths.get(number, 0) < MAX_DEATHS:
                self._put_back(number)
            else:
                self._close(number, is_done=False)

    def _lose_node(self, node: int) -> None:
        archive = self.archive
        self.result.node_losses += 1
        self._node_back_s[node] = self.env.now + self._dice.exponential(60 * archive.node_away_min)
        self._node_lost_s[node] = self._node_back_s[node] + self._dice.exponential(archive.node_lost_h * 3600)

    def _close(self, number: int, *, is_done: bool) -> None:
        """A file is done, or has failed for good."""
        self.result.done[number] += is_done
        self.result.failed += not is_done
        self._n_open -= 1
        self._end_s = self.env.now
        if not self._n_open:
            self._changed.succeed()
            self._changed = self.env.event()

    def finish(self) -> ArchiveResult:
        """The result, with its shares."""
        archive, result = self.archive, self.result
        end_s = max(self._end_s, 1e-9)
        whole_s = archive.workers * end_s
        result.makespan_h = end_s / 3600
        result.tail_h = max(0.0, end_s - self._first_idle_s) / 3600
        result.busy_h = (self._busy_s + self._wasted_s + self._starting_s) / 3600
        result.wasted_share = self._wasted_s / whole_s
        result.starting_share = self._starting_s / whole_s
        result.idle_share = 1 - (self._busy_s + self._wasted_s + self._starting_s) / whole_s
        result.driver_busy = self._driver_busy_s / end_s
        result.requests_s = result.requests / end_s
        result.fetch_mbit_s = archive.hours * 3600 * archive.mbit_s / end_s
        frames = archive.hours * 3600 * archive.fps
        result.result_bytes = frames * self.costs.score_bytes + result.n_files * self.costs.file_bytes
        return result


def simulate_archive(archive: Archive, costs: Costs) -> ArchiveResult:
    """Follow an archive until each of its files is done. The same inputs give the same result."""
    env = simpy.Environment()
    run = _Run(env, archive, costs)
    env.run()
    return run.finish()
