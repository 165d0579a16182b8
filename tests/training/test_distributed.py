"""Several processes train as one: torchrun starts them, gloo connects them, and kill -9 ends some of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from training import made  # noqa: E402

from comemory.errors import TrainingError  # noqa: E402
from comemory.training import loop  # noqa: E402
from comemory.training.checkpoint import TrainingState  # noqa: E402

TIMEOUT_S = 300
LOSS_TOLERANCE = 2e-3
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
            kill_all(process)


def kill_all(process: subprocess.Popen[str]) -> None:
    """End a command and its processes, which torchrun puts into sessions of their own."""
    for child in [*made.descendants(process.pid, b""), *([process.pid] if process.poll() is None else [])]:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


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


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
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


def arguments(out: Path, *settings: str, data: str = made.DATA, n_epochs: int = 10) -> list[object]:
    """`comemory train` on the data and settings of these tests."""
    ours = (*made.SETTINGS, "train.devices=auto", f"train.epochs={n_epochs}", "train.checkpoint_s=0", *settings)
    return ["train", "--data", data, "--out", out, *(word for one in ours for word in ("--set", one))]


def wait_for(run: Path, more_than: int, process: subprocess.Popen[str]) -> int:
    """Wait until the checkpoint has more steps, and return them."""
    end_s = time.monotonic() + TIMEOUT_S
    while (done := made.steps_done(run)) <= more_than:
        assert time.monotonic() < end_s, "the training does not go on"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return done


@pytest.mark.parametrize("n_then", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_training_goes_on_after_kills_with_other_numbers_of_processes(
    cache: Path, tmp_path: Path, n_then: int
) -> None:
    """kill -9 of one of two processes: torchrun starts them again. kill -9 of all: other numbers of them continue."""
    settings = ["train.epochs=10", "train.checkpoint_s=0"]
    losses = [epoch["loss"] for epoch in made.fit(cache, tmp_path / "alone", *settings)[1].history]
    out, run = tmp_path / "gate", tmp_path / "gate.run"
    command = [*arguments(out), "--cache", cache]
    with started(torchrun(2, "-m", "comemory", *command, n_restarts=1)) as process:
        done = wait_for(run, 0, process)
        [second] = made.descendants(process.pid, b"\0RANK=1\0")
        os.kill(second, signal.SIGKILL)
        resumed = wait_for(run, max(done, made.steps_done(run)) + 2, process)
        kill_all(process)
        process.communicate(timeout=TIMEOUT_S)
    assert done < resumed < 60
    assert not out.exists()
    code, printed, error = finished(torchrun(n_then, "-m", "comemory", *command, "--resume"))
    assert code == 0, error
    assert printed.count("wrote the bundle") == 1, "one process prints"
    history = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(history) == len(losses) == 10
    for together, alone in zip(history, losses, strict=True):
        assert together == pytest.approx(alone, rel=LOSS_TOLERANCE)


@pytest.mark.slow
def test_one_process_names_an_error_that_all_have(tmp_path: Path) -> None:
    command = arguments(tmp_path / "gate", data=f"folder:{tmp_path / 'nothing'}")
    code, out, error = finished(torchrun(2, "-m", "comemory", *command))
    assert (code, out) == (1, "")
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "nothing: cannot open this folder dataset" in lines[0]
    assert "bug in comemory" not in error


def test_an_error_of_one_process_ends_all_and_is_named(tmp_path: Path) -> None:
    """A node whose disk lacks the video."""
    script = tmp_path / "node.py"
    script.write_text(
        "import os, sys\nfrom comemory.cli import main\n"
        "if os.environ['RANK'] == '1': sys.argv = [word.replace('synthetic:', 'folder:/nowhere/') for word in sys.argv]\n"
        "main()\n",
        encoding="utf-8",
    )
    code, _, error = finished(torchrun(2, script, *arguments(tmp_path / "gate")))
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert len(lines) == 1
    assert "process 1 of the training, on " in lines[0]
    assert "/nowhere/" in lines[0]


def test_a_number_of_processes_that_cannot_share_a_batch_is_refused() -> None:
    settings = made.config("train.batch=3").train
    assert loop._steps_per_epoch(30, settings, n_processes=3) == 10
    with pytest.raises(TrainingError) as refused:
        loop._steps_per_epoch(30, settings, n_processes=2)
    assert (
        str(refused.value) == "2 processes cannot share train.batch=3 clips evenly: set train.batch to a multiple of 2"
    )
