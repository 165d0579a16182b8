"""Archives on real Ray: two raylets as two nodes of one core each, one of which is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from archives import BUNDLE, contents, make_archive

from comemory.cluster.archive import parse_cluster, score_archive

pytest.importorskip("ray", reason="needs ray: pip install '.[cluster]'")
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_node(*options: str) -> subprocess.Popen[bytes]:
    """`ray start`, which stays in the foreground with the processes of its node in its group."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    command += ["--object-store-memory=80000000", f"--dashboard-agent-listen-port={free_port()}", *options]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def kill_node(node: subprocess.Popen[bytes]) -> None:
    """Kill all processes of a node at once."""
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


@dataclass(frozen=True)
class RayCluster:
    """Two nodes: the head, and one that may be killed."""

    address: str
    second: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    # The path of a socket in it may have 107 characters.
    folder = Path("/tmp") / f"ray-{os.getpid()}"
    port = free_port()
    nodes = [
        start_node(
            "--head",
            f"--port={port}",
            "--include-dashboard=false",
            f"--temp-dir={folder}",
        )
    ]
    try:
        wait_for(lambda: answers(port))
        nodes.append(start_node(f"--address=127.0.0.1:{port}"))
        wait_for(lambda: n_nodes(port) == 2)
        yield RayCluster(f"127.0.0.1:{port}", nodes[1])
    finally:
        for node in reversed(nodes):
            kill_node(node)


def wait_for(condition: object, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the cluster does not start"
        time.sleep(0.2)


def answers(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def n_nodes(port: int) -> int:
    code = (
        "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR');"
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    command = [sys.executable, "-c", code, f"127.0.0.1:{port}"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0


def test_a_killed_node_loses_and_doubles_nothing(cluster: RayCluster, tmp_path: Path) -> None:
    make_archive(tmp_path / "in", 8)
    score_archive([str(tmp_path / "in")], parse_cluster("local:2"), bundle=str(BUNDLE), out=str(tmp_path / "local"))
    code = "from comemory.cli import main; import sys; main(sys.argv[1:])"
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, "score", str(BUNDLE), str(tmp_path / "in"), "--out", str(out)]
    with subprocess.Popen(
        [*command, "--cluster", "auto"],
        env={**ENVIRONMENT, "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        deadline = time.monotonic() + 180
        while not any((out / "scores").rglob("*.parquet")) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        kill_node(cluster.second)
        printed, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert "scored 8 of 8 videos" in printed
    found = {name: text for name, text in contents(out).items() if not name.endswith(".part")}
    assert found == contents(tmp_path / "local")
