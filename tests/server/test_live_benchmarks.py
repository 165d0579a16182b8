"""The benchmarks of the live system: how they summarise their samples."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from fuzz_api import damage, good_requests  # noqa: E402
from live_load import Counters, between  # noqa: E402
from soak import Sample, fit, plot, sample, summarise  # noqa: E402

sys.path.remove(str(BENCHMARKS))


class TestTheLine:
    def test_the_slope_is_that_of_least_squares(self) -> None:
        random_ = np.random.default_rng(3)
        seconds = np.arange(180) * 10.0
        values = 200 + 4 * seconds / 3600 + random_.normal(0, 0.5, 180)
        slope, cov = np.polyfit(seconds / 3600, values, 1, cov=True)[:2]
        line = fit(seconds, values)
        assert line.slope_per_hour == pytest.approx(slope[0], abs=1e-3)
        assert line.standard_error >= math.sqrt(cov[0, 0]) * 0.99

    def test_correlated_samples_give_a_larger_error(self) -> None:
        random_ = np.random.default_rng(4)
        seconds = np.arange(300) * 10.0
        wandering = np.cumsum(random_.normal(0, 0.1, 300))
        noise = random_.normal(0, wandering.std(), 300)
        assert fit(seconds, wandering).standard_error > 3 * fit(seconds, noise).standard_error

    def test_constant_values_have_no_slope(self) -> None:
        line = fit(np.arange(9) * 10.0, np.full(9, 250.0))
        assert (line.slope_per_hour, line.standard_error) == (0.0, 0.0)

    def test_the_warm_up_is_left_out(self, tmp_path: Path) -> None:
        rising = [Sample(10.0 * i, 100.0 + min(i, 30), 50.0, 9, 20, 1.0, 2.0) for i in range(91)]
        found = summarise(rising, 300)
        assert found["samples"] == 61
        assert found["rss_mib"]["slope_per_hour"] == 0
        plot(rising, 300, tmp_path / "soak.svg")
        assert "resident: +0.00 ± 0.00 MiB/h" in (tmp_path / "soak.svg").read_text()
        with pytest.raises(OSError, match="let it run for longer"):
            summarise(rising[:5], 300)

    def test_a_process_is_measured_from_outside(self, tmp_path: Path) -> None:
        (tmp_path / "events.db").write_bytes(bytes(2**20))
        seen = sample(os.getpid(), tmp_path, 0.0)
        assert 10 < seen.anonymous_mib <= seen.rss_mib
        assert seen.threads >= 1
        assert seen.database_mib == 1.0


class TestTheStep:
    def test_rates_and_latencies_between_two_readings(self) -> None:
        def camera(n: int) -> dict[str, object]:
            return {"frames": 25 * n, "scored": 5 * n, "dropped": n, "latency_ms_p99": 40.0, "state": "live"}

        first = Counters(0.0, {"a": camera(10), "b": camera(10)}, {0.1: 50.0, 1.6: 60.0, math.inf: 60.0}, 1.0)
        last = Counters(10.0, {"a": camera(20), "b": camera(15)}, {0.1: 100.0, 1.6: 160.0, math.inf: 162.0}, 6.0)
        step = between(first, last, 5.0)
        assert (step["fps_scored_lowest"], step["fps_scored_mean"], step["share_of_asked_lowest"]) == (2.5, 3.75, 0.5)
        assert (step["seconds_p50"], step["seconds_p99"], step["cpu_cores"]) == (1.6, None, 0.5)
        assert json.dumps(step)


class TestDamage:
    DOCUMENT = {"paths": {"/api/v1/events/{id}": {"get": {}}, "/api/v1/cameras/{name}/zones": {"put": {}}}}  # noqa: RUF012

    def test_the_same_seed_gives_the_same_damage(self) -> None:
        good = good_requests(self.DOCUMENT, {"id": "7", "name": "gate", "kind": "clip"}, "token")
        assert [request.split(b" ")[:2] for request in good] == [
            [b"GET", b"/api/v1/events/7"],
            [b"PUT", b"/api/v1/cameras/gate/zones"],
        ]
        first, second = random.Random(5), random.Random(5)
        made = [damage(good[i % 2], first) for i in range(200)]
        assert made == [damage(good[i % 2], second) for i in range(200)]
        assert sum(request in good for request in made) < 20


@pytest.mark.parametrize("script", ["soak.py", "live_load.py", "fuzz_api.py", "alerts_under_kill.py", "chaos.py"])
def test_every_script_has_a_help(script: str) -> None:
    done = subprocess.run([sys.executable, BENCHMARKS / script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


def test_a_soak_without_time_is_refused() -> None:
    command = [sys.executable, BENCHMARKS / "soak.py", "--minutes", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "half a minute more than --warm-up" in done.stderr
