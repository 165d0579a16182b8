"""`comemory serve` in a process of its own on a rendered scene, for the tests of the page and the API."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from comemory.cli.demo import shipped_bundle
from comemory.datasets import open_dataset
from comemory.video.writer import write_video

SCENE = "synthetic:seed=7,frames=60,rate=5,training=1,testing=1"
"""Twelve seconds with an event. Servers play it for as long as a package of tests takes, and five frames per second cost two
thirds of ten."""
IDLE_SCENE = "synthetic:seed=7,frames=24,rate=2,training=1,testing=1"
"""For a server whose scores no test looks at: two frames per second cost a fifth of ten, and raise no event."""
UNREACHABLE = "rtsp://operator:hunter2@127.0.0.1:9/stream?key=hunter3"

CONFIG = """
model = "{model}"
workers = 1

[cameras.gate]
url = "{video}"
loop = true
fps = 1
false_alarms = "1/min"

[cameras.yard]
url = "env:YARD_URL"

[events]
pre_capture_s = 1
post_capture_s = 1
"""


@dataclass
class Running:
    """A server that runs, and where."""

    port: int
    process: subprocess.Popen[str]
    out: Path

    @property
    def url(self) -> str:
        """Of the page, without a slash at its end."""
        return f"http://localhost:{self.port}"

    def stop(self) -> float:
        """Ask it to end as a service manager does; how long that took, in seconds."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.monotonic() - started


def wait_for(what: Callable[[], object], timeout_s: float = 240.0, every_s: float = 0.1) -> None:
    """Wait until something is true."""
    until = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > until:
            raise TimeoutError("waited in vain")
        time.sleep(every_s)


def scene_video(folder: Path, scene: str = SCENE) -> Path:
    """A rendered scene as a file; a folder has one."""
    path = folder / "scene.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        video = open_dataset(scene).testing()[0]
        assert not isinstance(video.source, str)
        write_video(iter(video.source), path)
    return path


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def serve(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, scene: str = SCENE) -> Running:
    """Start `comemory serve` with two cameras, one plays the scene and one cannot be reached; wait until it listens."""
    config, port = folder / "live.toml", free_port()
    config.write_text(CONFIG.format(model=shipped_bundle("synthetic-nano").resolve(), video=scene_video(folder, scene)))
    command = [sys.executable, "-m", "comemory", "serve", "--config", str(config), "--out", str(folder / "live")]
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [*command, "--port", str(port), *arguments],
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "YARD_URL": UNREACHABLE, **(environment or {})},
    )
    log.close()

    def said() -> str:
        text = (folder / "log").read_text()
        if process.poll() is not None:
            raise RuntimeError(f"comemory serve ended: {text}")
        return text

    wait_for(lambda: re.search(r"the page is at http", said()))
    return Running(port, process, folder / "live")


@contextmanager
def served(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, scene: str = SCENE
) -> Iterator[Running]:
    """`serve` for a while; the process is gone at the end."""
    running = serve(folder, *arguments, environment=environment, scene=scene)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(10)
