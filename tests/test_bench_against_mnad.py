"""The benchmark script: the side that needs no bundle, its arithmetic, and its command line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from comemory.bench import Timing, interleave

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "bench_against_mnad.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_against_mnad", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_mnad_runs_in_both_layouts(script: ModuleType) -> None:
    torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    torch.set_num_threads(1)
    timings = interleave(script.mnad_calls(frames=2, side=32), rounds=2)
    assert set(timings) == {"mnad", "mnad_channels_last"}
    assert all(script.frames_per_second(timing, 2)["lowest"] > 0 for timing in timings.values())


def test_rates_and_ratios_are_medians_over_rounds(script: ModuleType) -> None:
    timings = {"pipeline": Timing((1.0, 2.0, 4.0)), "mnad": Timing((10.0, 10.0, 20.0))}
    assert script.frames_per_second(timings["pipeline"], 100) == {"median": 50.0, "lowest": 25.0, "highest": 100.0}
    assert script.ratio(timings, {"pipeline": 100, "mnad": 5}, "mnad") == 100.0


def test_a_missing_bundle_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    done = run("--bundle", str(tmp_path / "none"), "--video", str(tmp_path / "none.mp4"), "--rounds", "1")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flag", ["--rounds", "--threads", "--mnad-frames"])
def test_zero_is_a_usage_error(flag: str) -> None:
    done = run("--bundle", "b", "--video", "v", flag, "0")
    assert done.returncode == 2
    assert "1 or more" in done.stderr
