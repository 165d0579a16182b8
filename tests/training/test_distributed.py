"""Several processes train as one: torchrun starts them, gloo connects them, and kill -9 ends some of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from training import made  # noqa: E402

from comemory.training.checkpoint import CHECKPOINT, TrainingState  # noqa: E402

TIMEOUT_S = 300
LOSS_TOLERANCE = 1e-3
"""Of the loss of each step, against one process: what the order of floating-point sums can change over a training."""

CURVE = """
import hashlib, json, os, sys
from pathlib import Path
from comemory.training import loop
from comemory.training.cache import PreparedVideo
from training import made

cache, out = map(Path, sys.argv[1:3])
record = {"losses": [], "items": [], "clips": [], "norm": []}
step, clip = loop._step, PreparedVideo.clip

def recorded_step(fabric, model, *rest):
    record["losses"].append(step(fabric, model, *rest))
    states = {name: memory.items for name, memory in model.memories().items()}
    record["items"].append(hashlib.sha256(b"".join(one.numpy().tobytes() for one in states.values())).hexdigest())
    buffers = b"".join(one.numpy().tobytes() for name, one in model.module.named_buffers())
    record["norm"].append(hashlib.sha256(buffers).hexdigest())
    return record["losses"][-1]

loop._step = recorded_step
PreparedVideo.clip = lambda self, t, spec: (record["clips"].append(t), clip(self, t, spec))[1]
made.fit(cache, out / "run", "train.devices=auto", *sys.argv[3:])
(out / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(record))
"""


def torchrun(n_processes: int, *arguments: object, n_restarts: int = 0) -> list[str]:
    options = ["--standalone", f"--nproc-per-node={n_processes}", f"--max-restarts={n_restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *options, *map(str, arguments)]


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own, so that whatever it started is ended too."""
    process = subprocess.Popen(
        command,
        env={**made.environment(), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                process.poll()


def finished(command: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with started(command) as process:
        out, error = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, out, error


@pytest.fixture(scope="module")
def alone(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], TrainingState]:
    """The losses of one process, and its last state."""
    losses: list[float] = []
    _, state = made.fit(cache, tmp_path_factory.mktemp("alone"), on_step=lambda state, loss: losses.append(loss))
    return losses, state


@pytest.fixture(scope="module", params=[2, 4])
def records(request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of the processes recorded of a training together."""
    out = tmp_path_factory.mktemp("together")
    made.videos(cache)
    (out / "curve.py").write_text(CURVE, encoding="utf-8")
    code, _, error = finished(torchrun(request.param, out / "curve.py", cache, out))
    assert code == 0, error
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(request.param)]


def test_the_memories_are_identical_in_all_processes_after_every_step(records: list[Any]) -> None:
    for record in records:
        assert len(record["items"]) == made.N_STEPS
        assert record["items"] == records[0]["items"]
        assert record["norm"] == records[0]["norm"], "and so are the statistics of batch normalisation"
    assert len(set(records[0]["items"])) == made.N_STEPS, "every step changes them"


def test_the_losses_are_those_of_one_process(records: list[Any], alone: tuple[list[float], TrainingState]) -> None:
    np.testing.assert_allclose(records[0]["losses"], alone[0], rtol=LOSS_TOLERANCE)
    for record in records:
        assert record["losses"] == records[0]["losses"]


def test_the_processes_share_each_batch_exactly(
    records: list[Any], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comemory.training.cache import PreparedVideo

    seen: list[int] = []
    clip = PreparedVideo.clip
    monkeypatch.setattr(PreparedVideo, "clip", lambda self, t, spec: (seen.append(t), clip(self, t, spec))[1])
    made.fit(cache, tmp_path, "train.epochs=1")
    n_own = 4 // len(records)
    first_epoch = [record["clips"][: 6 * n_own] for record in records]
    together = [t for step in range(6) for clips in first_epoch for t in clips[step * n_own : (step + 1) * n_own]]
    assert together == seen
