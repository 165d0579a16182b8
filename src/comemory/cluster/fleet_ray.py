"""The connection to Ray: a process that lists the nodes of the cluster, and has an actor on each keep its group running.

`main` runs in a process of its own, because Ray ends the process of a driver whose head is gone for a minute, and the page
must go on. It writes what it sees as lines of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

from comemory.cluster.archive_ray import connect
from comemory.cluster.fleet_keeper import GroupKeeper
from comemory.errors import ComemoryError, last_line, mask_password
from comemory.store.media import unique_slug

POLL_S = 2.0
"""Seconds between two listings of the nodes."""
CAMERAS_PER_CORE = 8
"""Capacity of a node that names none. Measured: one core scores 14 cameras of 640x360 five times a second."""
RESOURCE = "cameras"
"""Ray's resource with which a node names its capacity: `ray start --resources '{"cameras": 16}'`."""


class GroupActor:
    """A `GroupKeeper` in a process of Ray, one for each node. Ray starts it again when it dies.

    Args:
        out: the output folder of the fleet.
        node: name of the node.
    """

    def __init__(self, out: str, node: str) -> None:
        keeper = GroupKeeper(Path(out), node)
        threading.Thread(target=keeper.run, args=(threading.Event(),), name="keeper", daemon=True).start()

    def ready(self) -> bool:
        """Whether it runs: it does, if this returns."""
        return True


def node_name(node: dict[str, Any]) -> str:
    """The name of a node: that of `ray start --node-name`, else that of the machine. It must be the same after a restart."""
    given, address = str(node.get("NodeName") or ""), str(node.get("NodeManagerAddress") or "")
    name = given if given and given != address else str(node.get("NodeManagerHostname") or address)
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) else unique_slug(name)


def capacity_of(resources: dict[str, float]) -> int:
    """How many cameras a node may watch: as many as its resource `cameras` says, else `CAMERAS_PER_CORE` a core."""
    return int(resources.get(RESOURCE, CAMERAS_PER_CORE * resources.get("CPU", 0)))


class NodeStarter:
    """Sees to it that each node has its actor.

    Args:
        ray: the package, connected.
        out: the output folder of the fleet.
    """

    def __init__(self, ray: Any, out: Path) -> None:
        self._ray, self._out = ray, out
        self._actors: dict[str, tuple[Any, Any]] = {}

    def list_nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes that Ray has, by name, each with its `capacity` and `error`; those that have no actor get one."""
        found: dict[str, dict[str, Any]] = {}
        for node in self._ray.nodes():
            name = node_name(node)
            if node["Alive"] and name not in found and (capacity := capacity_of(node["Resources"])) > 0:
                found[name] = {"capacity": capacity, "error": self._start(name, node["NodeID"])}
        return found

    def _start(self, name: str, node_id: str) -> str:
        """Start the actor of a node, or find the one of an earlier process; why it does not run, empty where it does."""
        if node_id in self._actors:
            _, ready = self._actors[node_id]
            try:
                self._ray.get(ready, timeout=0.01)
            except self._ray.exceptions.GetTimeoutError:
                pass
            except self._ray.exceptions.RayError as error:
                del self._actors[node_id]
                return last_line(error)[:300]
            return ""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "name": f"comemory fleet {self._out} {name} {node_id}",
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        }
        actor = self._ray.remote(GroupActor).options(**options).remote(str(self._out), name)
        self._actors[node_id] = actor, actor.ready.remote()
        return ""


def main(arguments: list[str]) -> int:
    """List the nodes repeatedly until standard input ends; the exit code."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        starter = NodeStarter(connect(arguments[1]), Path(arguments[0]))
        while True:
            lines.write(json.dumps({"nodes": starter.list_nodes()}) + "\n")
            lines.flush()
            time.sleep(POLL_S)
    except (ComemoryError, OSError, RuntimeError, ValueError) as error:
        lines.write(json.dumps({"error": mask_password(str(error)).splitlines()[0] or "Ray failed"}) + "\n")
        lines.flush()
        return 1


def _end_with_parent() -> None:
    """End as soon as the placing process is gone, however it ended."""
    sys.stdin.read()
    os._exit(0)
