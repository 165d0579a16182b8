"""Training and experiments on a real Ray cluster of this machine: the results of one process, also after kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from research.reproduce import made as grid
from training import made

from comemory.research.reproduce.rows import read_rows

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

TIMEOUT_S = 900


def environment(address: str) -> dict[str, str]:
    return {**made.environment(), "RAY_ADDRESS": address}


@pytest.mark.parametrize(
    ("n_epochs", "killed"), [(2, False), pytest.param(10, True, marks=pytest.mark.slow)], ids=["", "after a kill"]
)
def test_ray_train_gives_the_losses_of_one_process(
    ray_address: str, tmp_path: Path, n_epochs: int, killed: bool
) -> None:
    cache = tmp_path / "cache"
    settings = [f"train.epochs={n_epochs}", "train.checkpoint_s=0", "train.devices=auto"]
    losses = [epoch["loss"] for epoch in made.fit(cache, tmp_path / "alone", *settings)[1].history]
    words = [word for one in (*made.SETTINGS, *settings) for word in ("--set", one)]
    where = ["--cluster", "auto", "--workers", "2", "--cache", str(cache)]
    command = [sys.executable, "-m", "comemory", "train", "--data", made.DATA, "--out", str(tmp_path / "gate"), *where]
    run = tmp_path / "gate.run"
    with subprocess.Popen(
        [*command, *words],
        env=environment(ray_address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if killed:
            kill_a_worker(process, run)
        out, error = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, error
    assert "wrote the bundle" in out
    assert "Training: " in error or "Training ..." in error
    history = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(history) == len(losses) == n_epochs
    for together, alone in zip(history, losses, strict=True):
        assert together == pytest.approx(alone, rel=2e-3)


def kill_a_worker(process: subprocess.Popen[str], run: Path) -> None:
    """kill -9 one of two processes of a training after its first step."""
    end_s = time.monotonic() + TIMEOUT_S
    while not made.steps_done(run):
        assert time.monotonic() < end_s
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    workers = made.descendants(os.getpid(), b"RayTrainWorker")
    assert len(workers) == 2
    os.kill(workers[-1], signal.SIGKILL)


def results(folder: Path) -> dict[tuple[str, int], Any]:
    """The results of each variant and seed, without the speed."""
    return {
        (row["variant"], row["seed"]): {k: v for k, v in row["results"].items() if k != "frames_per_second"}
        for row in read_rows(folder / "rows.jsonl")
    }


@pytest.mark.slow  # TestGrid in tests/research/reproduce/test_run.py: the same pool of processes on one machine
def test_a_grid_on_the_cluster_gives_the_rows_of_the_serial_run(ray_address: str, tmp_path: Path) -> None:
    text = (
        grid.TINY.replace("seeds = [0]", "seeds = [0, 1]")
        + '\n[[variants]]\nname = "broken"\nsettings.train.batch = 500\n'
    )
    text += '\n[[variants]]\nname = "whole"\n'
    folders = {"serial": [], "cluster": ["--cluster", "auto", "--jobs", "2"]}
    for name, options in folders.items():
        (tmp_path / name).mkdir()
        file = tmp_path / name / "tiny.toml"
        file.write_text(text, encoding="utf-8")
        done = grid.reproduce(tmp_path / name, file, *options, RAY_ADDRESS=ray_address)
        assert done.returncode == 1, done.stderr
        assert "problem: scene/broken/0: too little normal video" in done.stderr
        assert "4 runs, 0 done before, 2 now, 2 failed" in done.stdout
    assert len(results(tmp_path / "serial")) == 2
    assert results(tmp_path / "cluster") == results(tmp_path / "serial")


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--workers", "2"], 2, "--workers is for --cluster"),
        (["--cluster", "nowhere"], 2, "--cluster 'nowhere': expected auto or ray://HOST:PORT"),
        (["--cluster", "ray://127.0.0.1:9"], 75, "no Ray cluster at ray://127.0.0.1:9"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path: Path, options: list[str], code: int, reason: str) -> None:
    command = [
        sys.executable,
        "-m",
        "comemory",
        "train",
        "--data",
        made.DATA,
        "--out",
        str(tmp_path / "gate"),
        *options,
    ]
    done = subprocess.run(
        command, env=made.environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert reason in done.stderr
