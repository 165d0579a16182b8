"""The benchmark scripts on recorded video: a short run of each says all that it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "benchmarks"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_1080p_beside_its_decoding(nano_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("bench_1080p.py", "--bundle", nano_bundle, "--frames", 12, "--rounds", 1, "--threads", 2, "--json", file)
    assert done.returncode == 0, done.stderr
    said = json.loads(file.read_text(encoding="utf-8"))
    assert said == json.loads(done.stdout)
    assert said["video"] == {"frames": 12, "size": [1080, 1920]}
    assert said["share_of_decode"] > 0
    assert {"decode_fps", "pipeline_fps", "rss_mib", "precision", "cpu", "load_average"} <= said.keys()


def test_eight_cameras_as_if_live(nano_bundle: Path) -> None:
    done = run("bench_eight_cameras.py", "--bundle", nano_bundle, "--cameras", 2, "--rate", 5, "--seconds", 4)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert 0 < said["scored_fps_lowest"] <= said["scored_fps_mean"] <= 5
    assert 0 < said["latency_ms"]["p50"] <= said["latency_ms"]["p99"]
    assert said["dropped"] >= 0


@pytest.mark.parametrize("script", ["bench_1080p.py", "bench_eight_cameras.py"])
def test_a_missing_bundle_is_one_line(script: str, tmp_path: Path) -> None:
    done = run(script, "--bundle", tmp_path / "none", *(["--frames", 5] if "1080p" in script else []))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("script", "flag"), [("bench_1080p.py", "--rounds"), ("bench_eight_cameras.py", "--cameras")])
def test_zero_is_a_usage_error(script: str, flag: str) -> None:
    done = run(script, "--bundle", "b", flag, "0")
    assert done.returncode == 2
