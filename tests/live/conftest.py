"""Cameras for the tests: rendered clips in files, and a real RTSP server that streams them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import copied, read, write
from footage import save_video
from object_stores import bucket, s3_server  # noqa: F401

from comemory.datasets import open_dataset
from comemory.live.config import LiveSettings, read_live
from comemory.live.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).parent / "rtsp_server.py"
collect_ignore = [SERVER.name]
"""Run by the system's Python, which has GStreamer's bindings."""
PYTHON = "/usr/bin/python3"
N_FRAMES = 100


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two rendered test clips of 10 s at 10 frames per second, as H.264."""
    folder = tmp_path_factory.mktemp("clips")
    videos = open_dataset(f"synthetic:seed=9,frames={N_FRAMES},training=1,testing=2,size=96x144").testing()
    return [
        save_video(folder / f"{video.name}.mp4", [frame.image for frame in video.source])  # type: ignore[union-attr]
        for video in videos
    ]


class RtspServer:
    """A server that can be killed and started again on the same port."""

    def __init__(self, mounts: dict[str, Path]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.mounts = mounts
        self.process: subprocess.Popen[str] | None = None

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        mounts = [f"{name}={path}" for name, path in self.mounts.items()]
        command = [PYTHON, str(SERVER), str(self.port), *mounts]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "listening"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def rtsp() -> Iterator[Callable[[dict[str, Path]], RtspServer]]:
    """Makes running servers; skips if GStreamer's RTSP server is not installed."""
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if subprocess.run([PYTHON, "-c", code], capture_output=True, check=False).returncode:
        pytest.skip("needs Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi")
    servers: list[RtspServer] = []

    def make(mounts: dict[str, Path]) -> RtspServer:
        servers.append(RtspServer(mounts))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def quick_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle with optical flow on smaller images: less accurate, five times as fast, without training."""
    bundle = copied(REPOSITORY / "models" / "synthetic-nano", tmp_path_factory.mktemp("quick"))
    config = read(bundle, "config.json")
    config["clips"] |= {"flow_height": 64, "flow_width": 96}
    return write(bundle, "config.json", config)


@pytest.fixture
def live(quick_bundle: Path, tmp_path: Path) -> Callable[..., LiveSettings]:
    """Makes settings of cameras, with the quick bundle and everything written to a folder of the test."""

    def make(cameras: dict[str, dict[str, Any]], **more: Any) -> LiveSettings:
        values = {"model": str(quick_bundle), "out": str(tmp_path / "live"), "cameras": cameras, "workers": 2, **more}
        return read_live(None, values)

    return make


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    """Makes started engines, and stops them."""
    made: list[Engine] = []

    def make(settings: LiveSettings, store: Any = None) -> Engine:
        engine = Engine(settings, store)
        engine.start()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.stop()


def until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Wait until a condition holds. The time limit only ends a hang: a busy machine may take long."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.05)
