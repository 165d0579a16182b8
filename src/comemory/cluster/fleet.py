"""A fleet: the process that places cameras on nodes. It watches nothing itself, and the nodes go on without it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from comemory.cluster.archive import Cluster
from comemory.cluster.fleet_files import FleetFolder, FleetPlan, Heartbeat, PlannedNode, utc_now
from comemory.cluster.fleet_group import ERROR
from comemory.cluster.fleet_keeper import GroupKeeper
from comemory.cluster.placement import START_S, NodeHealth, NodeState, place_cameras
from comemory.errors import ComemoryError, ConfigError, TemporaryError
from comemory.live.config import LiveSettings
from comemory.store.sites import Sites
from comemory.store.store import EventStore
from comemory.store.write_ahead import read_entries

TICK_S = 1.0
MAX_STEP_S = 2.0
"""The most by which the fleet's clock advances from one check to the next: time in which nothing was checked, as when the
shared path hung, must not make all nodes lost at once."""
RESTART_S = 5.0
"""Seconds until the connection to Ray is started again after it has ended."""
FIRST_ANSWER_S = 120.0
"""Seconds that Ray has to name its nodes at the first start."""
TIDY_S = 600.0
"""Seconds between two rounds through the stores of lost nodes."""
TIDY_RETRY_S = 30.0
"""Seconds until the next attempt where that failed: the lock of a lost machine may outlast it for some time."""
FORGET_S = 86400.0
"""Seconds after which a lost node that Ray does not have either is no longer shown."""
STOP_S = 30.0
"""Seconds that groups have to end when the fleet is stopped."""
QUIET_S = 6.0
"""Seconds without a heartbeat after which a stopped group has ended: it may take 5 s for that."""
DEFAULT_LOCAL_CAPACITY = 16
log = logging.getLogger(__name__)


class NodeProvider(Protocol):
    """Lists the nodes, and keeps a group of cameras running on each."""

    def nodes(self) -> Mapping[str, int] | None:
        """Node to capacity; None as long as that is not known."""
        ...

    @property
    def error(self) -> str:
        """Why the nodes are not known; empty where they are."""
        ...

    def node_errors(self) -> Mapping[str, str]:
        """Nodes on which no group can be kept, and why."""
        ...

    def close(self) -> None:
        """Stop looking after the groups; they go on."""
        ...


class RayNodeProvider:
    """The process of `fleet_ray`, started again when it ends.

    Args:
        out: the output folder.
        address: of Ray.
    """

    def __init__(self, out: Path, address: str) -> None:
        self._arguments = [str(out), address]
        self._nodes: dict[str, int] | None = None
        self._node_errors: dict[str, str] = {}
        self.error = "Ray has not answered yet"
        self._closing = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="ray", daemon=True)
        self._thread.start()

    def nodes(self) -> Mapping[str, int] | None:
        """See `NodeProvider.nodes`: the last ones that Ray named while it cannot be asked."""
        return self._nodes

    def node_errors(self) -> Mapping[str, str]:
        """See `NodeProvider.node_errors`."""
        return self._node_errors

    def close(self) -> None:
        """See `NodeProvider.close`."""
        self._closing.set()
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._thread.join(2)

    def _run(self) -> None:
        code = "import os, sys; from comemory.cluster.fleet_ray import main; os._exit(main(sys.argv[1:]))"
        while not self._closing.is_set():
            with suppress(OSError):
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", code, *self._arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                with self._process as process:
                    assert process.stdout is not None
                    for line in process.stdout:
                        self._read(line)
                self.error = self.error or "the connection to Ray has ended"
            self._closing.wait(RESTART_S)

    def _read(self, line: str) -> None:
        with suppress(ValueError, LookupError, TypeError):
            found = json.loads(line)
            self.error = found.get("error", "")
            if "nodes" in found:
                self._nodes = {name: int(node["capacity"]) for name, node in found["nodes"].items()}
                self._node_errors = {name: node["error"] for name, node in found["nodes"].items() if node["error"]}


class LocalNodeProvider:
    """Groups on this machine without Ray, each a process of its own.

    Args:
        out: the output folder.
        n_nodes: number of groups.
    """

    error = ""

    def __init__(self, out: Path, n_nodes: int) -> None:
        self._names = [f"local-{k + 1}" for k in range(n_nodes)]
        self._closing = threading.Event()
        for name in self._names:
            keeper = GroupKeeper(out, name)
            threading.Thread(target=keeper.run, args=(self._closing,), name=name, daemon=True).start()

    def nodes(self) -> Mapping[str, int]:
        """See `NodeProvider.nodes`."""
        return dict.fromkeys(self._names, DEFAULT_LOCAL_CAPACITY)

    def node_errors(self) -> Mapping[str, str]:
        """See `NodeProvider.node_errors`."""
        return {}

    def close(self) -> None:
        """See `NodeProvider.close`."""
        self._closing.set()


def open_node_provider(cluster: Cluster, out: Path) -> NodeProvider:
    """The node provider of `--cluster`.

    Raises:
        ConfigError: it names a share of an archive.
    """
    if cluster.kind == "ray":
        return RayNodeProvider(out, cluster.address)
    if cluster.kind == "local":
        return LocalNodeProvider(out, cluster.n_workers or 1)
    raise ConfigError("--cluster of cameras is auto, ray://HOST:PORT or local:N")


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node for the page.

    Attributes:
        name: of the node.
        state: see `placement.NodeHealth`.
        capacity: cameras that it may watch.
        placed: the cameras that it is to watch.
        heartbeat: its last one; None before the first.
        age_s: seconds since that came; None before the first.
        error: what does not work, in one line.
    """

    name: str
    state: NodeState
    capacity: int
    placed: tuple[str, ...]
    heartbeat: Heartbeat | None
    age_s: float | None
    error: str


class Fleet:
    """Places the cameras on the nodes, and moves those of a lost one. `with Fleet(...) as fleet:` runs it.

    A running fleet is adopted as it is: nothing starts again, nothing moves.

    Args:
        settings: of the system. `out` is a path that all nodes share.
        provider: opens the one of `--cluster`, see `NodeProvider`.
        store_url: of the database; None tidies no store.

    Raises:
        ConfigError: another process places its cameras, or the plan is not of this version.
    """

    def __init__(
        self, settings: LiveSettings, provider: Callable[[], NodeProvider], store_url: str | None = None
    ) -> None:
        self.folder = FleetFolder(settings.out)
        self._lock_file = self.folder.lock()
        self._store_url, self._open_provider = store_url, provider
        self._changing = threading.RLock()
        self.health = NodeHealth()
        self.heartbeats: dict[str, Heartbeat] = {}
        self._capacities: dict[str, int] = {}
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._clock = self._real = self._began = time.monotonic()
        self._lost_since: dict[str, float] = {}
        self.on_change: Callable[[str], None] = lambda line: None
        self.on_heartbeat: Callable[[Heartbeat], None] = lambda heartbeat: None
        try:
            last = self.folder.read_plan()
        except BaseException:
            self._lock_file.close()
            raise
        self.is_adopted = last is not None and not last.is_stopped and self._is_beating(last)
        number = 0 if last is None else last.number
        self.plan = FleetPlan(number, settings) if last is None else replace(last, settings=settings, is_stopped=False)
        if self.is_adopted:
            for name, node in self.plan.nodes.items():
                self.health.expect(name, self._clock, "up" if node.state == "starting" else node.state)
                self._capacities[name] = node.capacity

    def _is_beating(self, plan: FleetPlan) -> bool:
        """Whether a group of the last plan is there: its last heartbeat changes within three beats."""
        before = {name: self._beat(name) for name in plan.nodes}
        deadline = time.monotonic() + 4.0
        while any(before.values()) and time.monotonic() < deadline:
            if any(self._beat(name) != beat for name, beat in before.items()):
                return True
            time.sleep(0.2)
        return False

    def _beat(self, name: str) -> object:
        found = self.folder.read_heartbeat(name)
        return None if found is None else found.beat

    def __enter__(self) -> Fleet:
        self._provider = self._open_provider()
        try:
            if not self.is_adopted:
                self._wait_for_nodes()
            self._check_nodes()
            self.change()
        except BaseException:
            self._provider.close()
            self._lock_file.close()
            raise
        for work in (self._run, self._tidy):
            thread = threading.Thread(target=work, name=f"fleet-{work.__name__.strip('_')}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(2)
        self._provider.close()
        self._lock_file.close()

    def _wait_for_nodes(self) -> None:
        """At the first start, take the nodes that there are as they are.

        Raises:
            TemporaryError: Ray does not answer, or has no nodes.
        """
        deadline = time.monotonic() + FIRST_ANSWER_S
        while not self._provider.nodes():
            failed = self._provider.error and self._provider.error != "Ray has not answered yet"
            if failed or time.monotonic() > deadline:
                raise TemporaryError(self._provider.error or "Ray has no node with cores: start one with ray start")
            time.sleep(0.1)
        self._clock = self._real = self._began = time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Whether cameras are still placed."""
        return all(thread.is_alive() for thread in self._threads)

    def node_provider_error(self) -> str:
        """Why Ray cannot be asked; empty where it can."""
        return self._provider.error

    def change(self, **values: Any) -> None:
        """Change the plan, and place the cameras that it has then.

        Raises:
            SourceError: it cannot be written; nothing has changed then.
        """
        with self._changing:
            wanted = replace(self.plan, **values)
            nodes = {n: PlannedNode(self._capacities.get(n, 0), self.health.state(n)) for n in self.health.nodes()}
            placed = self._placed(wanted, nodes)
            wanted = replace(wanted, nodes=nodes, cameras=placed, number=self.plan.number + 1)
            self.folder.write_plan(wanted)
            before, self.plan = self.plan, wanted
        self._report_changes(before, wanted)

    def _placed(self, plan: FleetPlan, nodes: Mapping[str, PlannedNode]) -> dict[str, str]:
        cameras = [name for name, camera in plan.settings.cameras.items() if camera.enabled]
        trusted = {name: node.capacity for name, node in nodes.items() if node.state in ("up", "starting")}
        settling = {name: node.capacity for name, node in nodes.items() if node.state == "settling"}
        if not (trusted or settling):  # nobody is there to take over: who watches unseen must not stop
            return {camera: node for camera, node in plan.cameras.items() if camera in cameras}
        return place_cameras(cameras, plan.cameras, trusted, settling)

    def _report_changes(self, before: FleetPlan, after: FleetPlan) -> None:
        for name, node in after.nodes.items():
            was = before.nodes.get(name)
            if was is None or was.state != node.state:
                self.on_change(f"node {name}: {node.state}, {node.capacity} cameras at most")
        for camera in after.settings.cameras:
            old, new = before.cameras.get(camera), after.cameras.get(camera)
            if old != new:
                self.on_change(f"{camera}: watched by {new}" if new else f"{camera}: not watched, no node has room")

    def _run(self) -> None:
        while not self._ending.wait(TICK_S):
            try:
                if self._check_nodes():
                    self.change()
            except (ComemoryError, OSError) as error:
                log.error("%s", error)

    def _check_nodes(self) -> bool:
        """Read the heartbeats; whether the plan must follow."""
        real = time.monotonic()
        self._clock, self._real = self._clock + min(real - self._real, MAX_STEP_S), real
        known = self._provider.nodes() or {}
        self._capacities |= known
        if not self.is_adopted and self._clock - self._began < START_S:
            for name in known:  # the nodes of a new fleet need not come at the same moment
                self.health.expect(name, self._clock)
        for name in {*known, *self.folder.nodes(), *self.health.nodes()}:
            heartbeat = self.folder.read_heartbeat(name)
            if heartbeat is None and name not in known and self.health.state(name) == "lost":
                self.health.forget(name)
                continue
            is_new = heartbeat is not None and (
                name not in self.heartbeats or self.heartbeats[name].beat != heartbeat.beat
            )
            self.health.observe(name, None if heartbeat is None else heartbeat.beat, self._clock)
            if heartbeat is not None and is_new:
                self.heartbeats[name] = heartbeat
                try:
                    self.on_heartbeat(heartbeat)
                except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                    log.error("a heartbeat of %s cannot be shown: %s", name, error)
            self._forget_old(name, name in known)
        present = {name: (self._capacities.get(name, 0), self.health.state(name)) for name in self.health.nodes()}
        return present != {name: (node.capacity, node.state) for name, node in self.plan.nodes.items()}

    def _forget_old(self, name: str, is_known: bool) -> None:
        if is_known or self.health.state(name) != "lost":
            self._lost_since.pop(name, None)
        elif self._clock - self._lost_since.setdefault(name, self._clock) > FORGET_S:
            self.health.forget(name)
            with suppress(OSError):
                (self.folder.node(name) / "heartbeat.json").unlink(missing_ok=True)

    def reports(self) -> list[NodeReport]:
        """All nodes, by name."""
        plan, errors = self.plan, self._provider.node_errors()
        found = []
        for name, node in plan.nodes.items():
            heartbeat = self.heartbeats.get(name)
            placed = tuple(sorted(camera for camera, at in plan.cameras.items() if at == name))
            error = errors.get(name) or ("" if heartbeat is None else heartbeat.error)
            if node.state in ("lost", "starting") and not error:
                with suppress(OSError):
                    error = (self.folder.node(name) / ERROR).read_text(encoding="utf-8").strip()
            age_s = self.health.age_s(name, self._clock)
            found.append(NodeReport(name, self.health.state(name), node.capacity, placed, heartbeat, age_s, error))
        return sorted(found, key=lambda report: report.name)

    def heartbeat_of(self, camera: str) -> Heartbeat | None:
        """The last heartbeat of the node that watches a camera; None where that is lost or has said nothing."""
        node = self.plan.cameras.get(camera)
        return None if node is None or self.health.state(node) == "lost" else self.heartbeats.get(node)

    def _tidy(self) -> None:
        """End the events that lost nodes left open, store what they had not stored, and delete what is too old."""
        tidied: dict[str, float] = {}
        while not self._ending.wait(TICK_S):
            lost = [name for name in self.health.nodes() if self.health.state(name) == "lost"]
            tidied = {name: at for name, at in tidied.items() if name in lost}
            for name in lost:
                if self._store_url is None or time.monotonic() - tidied.get(name, float("-inf")) < TIDY_S:
                    continue
                tidied[name] = time.monotonic() - TIDY_S + TIDY_RETRY_S
                media = self.folder.node(name) / "media"
                if media.is_dir():
                    with suppress(ComemoryError, OSError):
                        clean_up_store(self._store_url, media, self.plan.settings, self.folder)
                        tidied[name] = time.monotonic()


def clean_up_store(url: str, media: Path, settings: LiveSettings, folder: FleetFolder) -> None:
    """Repair and sweep the store of a node that is gone, as its group would do at its next start.

    Raises:
        StoreError: its group is there after all and owns the folder, or the database does not answer.
    """
    retention = settings.retention
    with EventStore.open(url, media, sites=Sites(folder.path), media_url=settings.store.media_url) as store:
        store.replay()
        store.sweep(utc_now(), retention.days, int(retention.max_gb * 1e9), int(retention.min_free_gb * 1e9))


def stop_nodes(folder: FleetFolder) -> list[str]:
    """End a fleet: all groups stop and stay stopped. Gives the nodes whose group has not ended in time.

    Raises:
        ConfigError: there is no fleet, or a process places its cameras.
    """
    if (folder.path / "plan.json").exists():
        with folder.lock():
            plan = folder.read_plan()
            if plan is not None:
                folder.write_plan(replace(plan, number=plan.number + 1, is_stopped=True))
                return _wait_for_end(folder, [name for name, node in plan.nodes.items() if node.state != "lost"])
    raise ConfigError(f"there is no fleet in {folder.path}: is --out the one it was started with?")


def waiting_changes(folder: FleetFolder) -> dict[Path, int]:
    """How many changes the groups could not store, by the file in which these wait; without the files that hold none."""
    found = {}
    announced = (media / ".write-ahead" for media in Sites(folder.path).folders().values())
    for path in sorted({*folder.path.glob("*/media/.write-ahead"), *announced}):
        with suppress(OSError):
            if n_changes := len(read_entries(path)):
                found[path] = n_changes
    return found


def _wait_for_end(folder: FleetFolder, names: list[str]) -> list[str]:
    """Wait until no group of these nodes gives a heartbeat any more; the nodes that still do."""
    since = time.monotonic()
    deadline = since + STOP_S
    beats: dict[str, tuple[str, int]] = {}
    while time.monotonic() < deadline:
        heartbeats = {name: folder.read_heartbeat(name) for name in names}
        present = {name: one.beat for name, one in heartbeats.items() if one is not None}
        if present != beats:
            beats, since = present, time.monotonic()
        elif time.monotonic() - since > QUIET_S:
            return []
        time.sleep(0.2)
    return names


def require_fleet_settings(settings: LiveSettings) -> None:
    """Refuse settings that several machines cannot share.

    Raises:
        ConfigError: there is no PostgreSQL, or the media folder is set without an object store.
    """
    if not settings.store.enabled or not settings.store_url.startswith(("postgresql:", "postgresql+", "postgres:")):
        raise ConfigError(
            "a fleet needs PostgreSQL, where the events of all nodes meet: give --store postgresql+psycopg://USER@HOST/NAME"
        )
    if settings.store.media is not None and settings.store.media_url is None:
        raise ConfigError(
            "the media of a fleet are in the folder of --out, one folder a node: remove store.media, or set "
            "store.media_url to an object store where all nodes find them"
        )


def with_absolute_paths(settings: LiveSettings) -> LiveSettings:
    """The settings with absolute paths: the groups run in other folders."""
    cameras = {
        name: camera if camera.model is None else camera.model_copy(update={"model": camera.model.absolute()})
        for name, camera in settings.cameras.items()
    }
    model = settings.model and settings.model.absolute()
    store = settings.store.model_copy(update={"media": settings.store.media and settings.store.media.absolute()})
    changes = {"out": settings.out.absolute(), "model": model, "cameras": cameras, "store": store}
    return settings.model_copy(update=changes)
