"""Real grids of tiny trainings: executed once, skipped then, continued after a kill; a failing run is named."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from research.reproduce import made

from comemory.bundle import open_bundle
from comemory.research.reproduce.rows import read_rows

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

BROKEN = '\n[[variants]]\nname = "broken"\nsettings.train.batch = 500\n'
LONG = "epochs = 12, checkpoint_s = 0.0,"
TIMEOUT_S = 400


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The shipped synthetic experiment with a variant that cannot be trained: its folder, and the finished command."""
    folder = tmp_path_factory.mktemp("ran")
    text = (made.ROOT / "experiments" / "synthetic.toml").read_text(encoding="utf-8")
    (folder / "synthetic.toml").write_text(text + BROKEN, encoding="utf-8")
    return folder, made.reproduce(folder, folder / "synthetic.toml")


def results_of(row: dict[str, Any]) -> dict[str, Any]:
    """The results of a row without the speed."""
    return {key: value for key, value in row["results"].items() if key != "frames_per_second"}


class TestGrid:
    def test_a_failing_run_is_named_and_the_others_go_on(
        self, ran: tuple[Path, subprocess.CompletedProcess[str]]
    ) -> None:
        folder, done = ran
        assert done.returncode == 1
        assert "problem: scene/broken/0: too little normal video" in done.stderr
        assert "synthetic: 4 runs, 0 done before, 3 now, 1 failed" in done.stdout
        variants = [row["variant"] for row in read_rows(folder / "rows.jsonl")]
        assert variants == ["with-memory", "with-memory+speed-alone", "without-memory"]

    def test_a_row_states_what_made_it(self, ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
        row = read_rows(ran[0] / "rows.jsonl")[0]
        assert row["experiment"], row["seed"] == ("synthetic", 0)
        assert row["config"]["network"]["motion_items"] == 3
        assert row["training"]["epochs"] == 1
        assert row["training"]["wall_s"] > 0
        assert row["training"]["cpu_s"] > 0
        assert row["evaluation"]["cpu_s"] > 0
        assert row["training"]["hardware"]["threads"] == 1
        assert row["training"]["versions"]["torch"]
        assert 0 <= row["results"]["causal"]["auc_micro"] <= 1
        assert 0 <= row["further"]["other-clips"]["causal"]["auc_micro"] <= 1
        assert row["problems"] == []
        assert str(ran[0]) not in json.dumps(row)

    def test_every_run_stores_its_bundle_and_no_checkpoint(
        self, ran: tuple[Path, subprocess.CompletedProcess[str]]
    ) -> None:
        folder, _ = ran
        for row in read_rows(folder / "rows.jsonl"):
            place = folder / "runs/synthetic/scene" / row["variant"] / f"seed-0-{row['key'][:8]}"
            bundle = open_bundle(place / "bundle")
            assert bundle.digest.startswith(row["bundle"])
            assert bundle.config["train"]["seed"] == 0
            assert (folder / "runs/networks" / row["network"] / "run" / "log.jsonl").is_file()
        assert not list((folder / "runs").rglob("checkpoint.*"))

    def test_a_scoring_uses_the_same_weights(self, ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
        plain, decided, other = read_rows(ran[0] / "rows.jsonl")
        assert plain["network"] == decided["network"] != other["network"]
        bundles = [
            open_bundle(next((ran[0] / "runs/synthetic/scene" / row["variant"]).iterdir()) / "bundle")
            for row in (plain, decided)
        ]
        assert bundles[0].network.weights.read_bytes() == bundles[1].network.weights.read_bytes()
        assert bundles[1].calibration.settings.motion == ("flow_speed:8",)
        assert bundles[1].provenance["recalibrated"]["from"] == plain["bundle"]

    def test_finished_runs_are_skipped(self, ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
        folder, _ = ran
        before = (folder / "rows.jsonl").read_bytes()
        again = made.reproduce(folder, folder / "synthetic.toml", "--only", "with*")
        assert again.returncode == 0, again.stderr
        assert "synthetic: 3 runs, 3 done before, 0 now" in again.stdout
        assert (folder / "rows.jsonl").read_bytes() == before

    def test_the_list_shows_what_is_done_and_what_would_run(
        self, ran: tuple[Path, subprocess.CompletedProcess[str]]
    ) -> None:
        folder, _ = ran
        listed = made.reproduce(folder, folder / "synthetic.toml", "--list", "--seeds", 2)
        states = {line.split()[0]: line for line in listed.stdout.splitlines() if line.startswith("scene/")}
        assert len(states) == 8
        assert " done " in states["scene/with-memory/0"]
        assert states["scene/with-memory/0"].endswith("/bundle")
        assert "to run" in states["scene/broken/0"]
        assert "to run" in states["scene/with-memory/1"]
        text = 'false_alarms = "2/h"\n' + (folder / "synthetic.toml").read_text()
        (folder / "changed").mkdir(exist_ok=True)
        (folder / "changed/synthetic.toml").write_text(text)
        listed = made.reproduce(folder, folder / "changed/synthetic.toml", "--list")
        states = {line.split()[0]: line for line in listed.stdout.splitlines() if line.startswith("scene/")}
        assert "outdated, to run" in states["scene/with-memory/0"]
        assert "outdated" not in states["scene/broken/0"]

    def test_another_experiment_reuses_equal_results(
        self, ran: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        folder = ran[0]
        shutil.copy(folder / "rows.jsonl", tmp_path)
        text = (folder / "synthetic.toml").read_text().replace('title = "The synthetic', 'title = "Another')
        (tmp_path / "another.toml").write_text(text)
        done = made.reproduce(tmp_path, tmp_path / "another.toml", "--only", "with-memory")
        assert done.returncode == 0, done.stderr
        first, *_, last = read_rows(tmp_path / "rows.jsonl")
        assert (last["experiment"], last["title"]) == ("another", "Another scene")
        assert last["same_as"] == "synthetic/scene/with-memory"
        assert last["results"] == first["results"]
        assert not (tmp_path / "runs" / "networks").exists()

    def test_a_lost_row_is_made_again_from_stored_results(
        self, ran: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        folder = ran[0]
        shutil.copytree(folder, tmp_path / "copy")
        (tmp_path / "copy" / "rows.jsonl").unlink()
        done = made.reproduce(tmp_path / "copy", tmp_path / "copy" / "synthetic.toml", "--only", "with*")
        assert done.returncode == 0, done.stderr
        rows, before = read_rows(tmp_path / "copy" / "rows.jsonl"), read_rows(folder / "rows.jsonl")
        assert [row["training"] for row in rows] == [row["training"] for row in before]
        assert [row["results"] for row in rows] == [row["results"] for row in before]

    def test_what_cannot_be_opened_is_named_and_kept(
        self, ran: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        folder = tmp_path / "copy"
        shutil.copytree(ran[0], folder)
        before = next(row for row in read_rows(folder / "rows.jsonl") if row["variant"] == "without-memory")
        network = folder / "runs/networks" / before["network"]
        (own,) = (folder / "runs/synthetic/scene/without-memory").iterdir()
        (folder / "rows.jsonl").unlink()
        for place in (network, own):
            (place / "bundle" / "config.json").write_text("damaged")
        done = made.reproduce(folder, folder / "synthetic.toml", "--only", "without-memory")
        assert done.returncode == 0, done.stderr
        for place, again in ((network, "network cannot be used and is trained"), (own, "bundle cannot be used and is")):
            kept = place / "bundle.unusable-1"
            (said,) = [line for line in done.stderr.splitlines() if line.endswith(f"kept as {kept}")]
            assert said.startswith(f"note: scene/without-memory/0: the stored {again}")
            assert (kept / "config.json").read_text() == "damaged"
        (row,) = read_rows(folder / "rows.jsonl")
        assert results_of(row) == results_of(before)
        assert row["training"]["starts"] == 1


class TestKill:
    @pytest.mark.slow  # tests/training/test_loop.py: a killed training goes on to the same weights
    def test_a_killed_and_interrupted_training_continues_and_gives_the_same_results(self, tmp_path: Path) -> None:
        path = tmp_path / "long.toml"
        path.write_text(made.TINY.replace("epochs = 1,", LONG), encoding="utf-8")
        whole, torn = tmp_path / "whole", tmp_path / "torn"
        for folder in (whole, torn):
            folder.mkdir()
        for number in (signal.SIGKILL, signal.SIGINT):
            process = _started(torn, path)
            _wait_until(lambda: any(torn.rglob("log.jsonl")))
            process.send_signal(number)
            said = process.communicate(timeout=TIMEOUT_S)[0]
            assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), said
            _wait_until(lambda: _is_free(next(torn.glob("runs/networks/*/.lock"))))
            assert read_rows(torn / "rows.jsonl") == []
            assert any(torn.rglob("checkpoint.safetensors"))
            for log in torn.rglob("log.jsonl"):
                log.unlink()
        (torn / "rows.jsonl").write_text('{"format": 1, "key')
        for folder in (torn, whole):
            done = made.reproduce(folder, path)
            assert done.returncode == 0, done.stderr
        (continued,), (straight,) = read_rows(torn / "rows.jsonl"), read_rows(whole / "rows.jsonl")
        assert results_of(continued) == results_of(straight)
        assert (continued["training"]["starts"], straight["training"]["starts"]) == (3, 1)
        assert continued["training"]["epochs"] == straight["training"]["epochs"] == 12


def _started(folder: Path, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        made.command(folder, path),
        env=made.environment(),
        cwd=made.ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _wait_until(true: Callable[[], bool]) -> None:
    last = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < last, "waited too long"
        time.sleep(0.05)


def _is_free(lock: Path) -> bool:
    """Whether no process holds a folder any more."""
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
