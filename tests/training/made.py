"""A training small enough for tests: rendered walkers, frames of 32x48, a network of width 4."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comemory.datasets import open_dataset
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.config import TrainingConfig, read_training_config

DATA = "synthetic:frames=30,training=3,testing=0,size=64x96,crowd=3"
SETTINGS = (
    *("clips.height=32", "clips.width=48", "clips.flow_height=64", "clips.flow_width=96", "flow.preset=ultrafast"),
    *("network.base_width=4", "network.motion_items=3", "network.appearance_items=3", "network.appearance_width=6"),
    *("train.epochs=2", "train.calibration_share=0.5", "train.threads=1", "train.accelerator=cpu", "train.devices=1"),
    *("scoring.fusion=maximum", "scoring.smoothing_s=0", 'scoring.appearance=["frame_error:32"]'),
    'scoring.motion=["flow_speed:8", "relative_speed:8", "agitation:12", "flow_residual:8"]',
)
N_STEPS = 12
"""Steps of a training on the first of the videos."""

CHECKPOINT = "checkpoint.safetensors"

TESTS = Path(__file__).resolve().parent.parent


def config(*settings: str) -> TrainingConfig:
    return read_training_config("small", settings=[*SETTINGS, *settings])


def videos(cache: Path, spec: TrainingConfig | None = None) -> list[PreparedVideo]:
    spec = spec or config()
    prepared, problems = prepare_videos(open_dataset(DATA).training(), cache, spec.clips, spec.flow, dataset=DATA)
    assert not problems
    return prepared


def fit(cache: Path, run: Path, *settings: str, n_videos: int = 1, **options: Any) -> tuple[Any, Any]:
    """The network and the state that `training.loop.fit` returns, on the first `n_videos` of the prepared videos."""
    from comemory.training import loop

    spec = config(*settings)
    run.mkdir(exist_ok=True)
    return loop.fit(loop.make_fabric(spec.train), spec, videos(cache, spec)[:n_videos], run, **options)


def environment() -> dict[str, str]:
    """For scripts that import from the tests."""
    return {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}


def run_script(script: Path, *arguments: object) -> None:
    """Run a script that may start others, in a session of its own, so that all of them can be ended after a hang."""
    command = [sys.executable, str(script), *map(str, arguments)]
    with subprocess.Popen(
        command,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, said


def steps_done(run: Path) -> int:
    """Steps in the checkpoint of a run folder; 0 without one."""
    try:
        content = (run / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return 0
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return int(json.loads(header["__metadata__"]["note"])["step"])


def descendants(process: int, word: bytes) -> list[int]:
    """The processes that a process has started, or those have, with a word in their command line or first variables."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if word in (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [child for child in sorted(found) if process in _ancestors(child, parents)]


def _ancestors(child: int, parents: dict[int, int]) -> list[int]:
    above = []
    while (child := parents.get(child, 0)) > 1:
        above.append(child)
    return above


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[None]:
    """Limit `folder` to `n_bytes`: by a file system of that size where mounting is allowed, else by the size of a file."""
    folder.mkdir(parents=True, exist_ok=True)
    mount: Sequence[str] = ("mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder))
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES):
            raise
        mounted = False
    if mounted:
        try:
            yield
        finally:
            subprocess.run(("umount", str(folder)), check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
