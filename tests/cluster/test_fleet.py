"""A fleet on real Ray and PostgreSQL: a node is lost and comes back, the page and the head are killed, and no event is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cluster.test_archive_ray import ENVIRONMENT, answers, kill_node, start_node
from services import postgres  # noqa: F401
from stored import Received, http_server

from comemory.cluster.fleet_claim import running_pid
from comemory.cluster.fleet_files import FleetFolder, Heartbeat

pytest.importorskip("ray", reason="needs ray: pip install '.[cluster]'")
pytestmark = pytest.mark.slow
LIMIT_S = 240.0
ROOT = Path(__file__).resolve().parents[2]
CAMERAS = ("gate", "yard", "dock", "hall")
CONFIG = """
model = "{model}"
workers = 1
[store]
url = "{url}"
[web]
port = 0
[events]
pre_capture_s = 0
post_capture_s = 0
[alerts.hook]
kind = "webhook"
url = "{hook}"
allow_private = true
kinds = ["system"]
[health]
frozen_s = 60
"""
CAMERA = """
[cameras.{name}]
url = "{video}"
loop = true
fps = 2
false_alarms = "1/min"
"""
SERVE = "from comemory.cluster import placement; placement.SETTLE_S = 5.0; from comemory.cli import main; main()"
"""The command with a shorter time until cameras return."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, itself or through others, parents first."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [pid]
    for one in found:
        found += [child for child, parent in pairs if parent == one]
    return found


def lost_nodes(received: Received) -> list[tuple[str, str]]:
    """Part and state of the system alerts about nodes."""
    bodies = [json.loads(body)["after"] for _, body in list(received.requests)]
    return [(body["part"], body["state"]) for body in bodies if body["part"].startswith("nodes.")]


class Cluster:
    """A head without cores, two nodes that watch, and the page."""

    def __init__(self, folder: Path, config: Path, received: Received) -> None:
        self.port, self.config, self.out = free_port(), config, folder / "out"
        self.received = received
        self.fleet, self.log = FleetFolder(self.out), folder / "page.log"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.page: subprocess.Popen[bytes] | None = None

    def start(self, name: str) -> None:
        named = [f"--node-name={name}", "--resources", '{"cameras": 4}']
        if name == "head":
            folder = f"--temp-dir={tempfile.gettempdir()}/ray-{os.getpid()}-fleet"
            named = ["--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false", folder]
        else:
            named.append(f"--address=127.0.0.1:{self.port}")
        self.nodes[name] = start_node(*named)
        limit_s = time.monotonic() + LIMIT_S
        while name == "head" and not answers(self.port):
            assert time.monotonic() < limit_s, "the head does not start"
            if self.nodes[name].poll() is not None:  # Ray gives up after 30 s on a busy machine
                kill_node(self.nodes[name])
                self.nodes[name] = start_node(*named)
            time.sleep(0.2)

    def serve(self, *more: str) -> None:
        command = [sys.executable, "-c", SERVE, "serve", "--config", str(self.config), "--out", str(self.out)]
        environment = {**ENVIRONMENT, "RAY_ADDRESS": f"127.0.0.1:{self.port}"}
        with self.log.open("wb") as log:
            self.page = subprocess.Popen(
                [*command, "--cluster", "auto", *more], env=environment, stdout=log, stderr=log
            )

    def url(self) -> str:
        found = re.search(r"the page is at (http\S+)/", self.log.read_text(encoding="utf-8"))
        return found[1] if found else ""

    def read(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url()}/api/v1/{path}", timeout=30) as answer:
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        return json.loads(self.read(path))

    def events(self, camera: str) -> list[Any]:
        found: list[Any] = self.get(f"events?limit=200&camera={camera}")["events"]
        return found

    def watched(self) -> dict[str, str]:
        """Camera to node, by what the nodes say."""
        return {camera: name for name, node in self.nodes_view().items() for camera in node["watched"]}

    def nodes_view(self) -> dict[str, Any]:
        return {node["name"]: node for node in self.get("nodes")["nodes"]}

    def are_live(self) -> bool:
        return {camera["state"] for camera in self.get("cameras")} <= {"live", "degraded"}

    def heartbeat(self, name: str) -> Heartbeat:
        found = self.fleet.read_heartbeat(name)
        assert found is not None
        return found

    def scored(self, name: str) -> int:
        return sum(status.scored for status in self.heartbeat(name).cameras)

    def kill_machine(self, name: str) -> None:
        """The node of Ray with its actors, and its group, all at once, as when the power fails."""
        for pid in (*descendants(self.nodes[name].pid), self.heartbeat(name).pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        kill_node(self.nodes[name])

    def are_up(self, *names: str) -> bool:
        return all(self.nodes_view().get(name, {}).get("state") == "up" for name in names)

    def wait(self, what: str, condition: Callable[[], object]) -> None:
        """Wait for a condition. What cannot start on a busy machine is started again, as a service manager does."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < LIMIT_S, f"{what}: not in time\n{self.log.read_text()}"
            for name, node in self.nodes.items():
                if node.poll() not in (None, -signal.SIGKILL) and self.nodes["head"].returncode != -signal.SIGKILL:
                    kill_node(node)
                    self.start(name)
            if self.page is not None and self.page.poll() is not None:
                print(self.log.read_text())
                self.serve()
            time.sleep(0.2)
        print(f"{what}: after {time.monotonic() - began:.1f} s")

    def kill_page(self) -> None:
        if self.page is not None:
            self.page.kill()
            self.page.wait()
            self.page = None

    def close(self) -> None:
        self.kill_page()
        for node in self.nodes.values():
            kill_node(node)
        for name in ("a", "b"):
            if (pid := running_pid(self.out, name)) is not None:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path, postgres: Callable[[], str]) -> Iterator[Cluster]:  # noqa: F811
    sys.path.insert(0, str(ROOT / "tests" / "server"))
    from serving import scene_video

    video, config = scene_video(tmp_path), tmp_path / "live.toml"
    with http_server() as received:
        hook = f"http://127.0.0.1:{received.port}/"
        text = CONFIG.format(model=ROOT / "models" / "synthetic-nano", url=postgres(), hook=hook)
        config.write_text(text + "".join(CAMERA.format(name=name, video=video) for name in CAMERAS), encoding="utf-8")
        cluster = Cluster(tmp_path, config, received)
        try:
            cluster.start("head")
            for name in ("a", "b"):
                cluster.start(name)
            yield cluster
        finally:
            cluster.close()


def test_cameras_outlive_a_node_the_page_and_the_head(cluster: Cluster) -> None:
    cluster.serve()
    cluster.wait("a page", cluster.url)
    cluster.wait("all cameras live", lambda: cluster.are_up("a", "b") and cluster.are_live())
    home = cluster.watched()
    assert set(home.values()) == {"a", "b"}, "four cameras are spread over two nodes"

    cluster.wait("a picture", lambda: cluster.read("cameras/gate/picture")[:3] == b"\xff\xd8\xff")

    cluster.kill_machine("a")
    moved = dict.fromkeys(CAMERAS, "b")
    cluster.wait("watched elsewhere", lambda: cluster.watched() == moved and cluster.are_live())
    assert cluster.nodes_view()["a"]["state"] == "lost"
    cluster.wait("an alert of the lost node", lambda: lost_nodes(cluster.received) == [("nodes.a", "error")])
    cluster.start("a")
    cluster.wait("cameras are back", lambda: cluster.watched() == home and cluster.are_live())
    cluster.wait("an alert of its return", lambda: lost_nodes(cluster.received)[-1] == ("nodes.a", "ok"))

    pids = {name: cluster.heartbeat(name).pid for name in ("a", "b")}
    kill_node(cluster.nodes["head"])
    cluster.kill_page()
    before = {name: cluster.scored(name) for name in pids}
    cluster.wait("on without the head", lambda: all(cluster.scored(name) > before[name] + 4 for name in pids))
    cluster.serve()
    cluster.wait("a page without the head", cluster.url)
    assert cluster.watched() == home
    assert cluster.are_live()
    kill_node(cluster.nodes["b"])
    for name in ("head", "b"):
        cluster.start(name)
    cluster.wait("found by the new head", lambda: re.search(r"ray +connected", cluster.log.read_text()))
    assert {name: cluster.heartbeat(name).pid for name in pids} == pids, "groups are adopted, not started again"
    assert cluster.watched() == home
    cluster.wait("events of each camera", lambda: all(len(cluster.events(name)) > 2 for name in CAMERAS))
    for name in CAMERAS:
        assert_whole(name, cluster.events(name))

    cluster.kill_page()
    cluster.serve("--stop")
    assert cluster.page is not None
    assert cluster.page.wait(120) == 0, cluster.log.read_text()


def assert_whole(camera: str, events: list[Any]) -> None:
    """A camera has no two events at one time: whatever is in the picture begins one event, on one node."""
    spans = sorted((event["start"], event["end"] or "9") for event in events)
    assert all(first[1] <= second[0] for first, second in pairwise(spans)), f"an event of {camera} is doubled"
