"""The simulation of fleets and archives: it loses and doubles nothing, repeats itself, and agrees with what was measured."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("simpy", reason="needs simpy: pip install '.[dev]'")
SCRIPTS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def capacity() -> Any:
    sys.path.insert(0, str(SCRIPTS))
    try:
        import simulate_capacity
    finally:
        sys.path.remove(str(SCRIPTS))
    return simulate_capacity


@pytest.fixture(scope="module")
def costs(capacity: Any) -> Any:
    return capacity.Costs.read()


class TestNode:
    @pytest.mark.parametrize("service_ms", [5.0, 100.0])
    def test_each_frame_is_scored_dropped_or_waits(self, capacity: Any, service_ms: float) -> None:
        found = capacity.simulate_node(8, 2, 5.0, service_ms, seconds=20)
        assert found.n_due == found.n_scored + found.n_dropped + found.n_waiting
        assert (found.n_dropped > 0) == (service_ms == 100.0)

    def test_a_busy_node_scores_as_much_as_its_cores_allow(self, capacity: Any) -> None:
        found = capacity.simulate_node(20, 2, 5.0, 40.0, seconds=60, spread=0.0)
        assert found.n_scored / 60 == pytest.approx(2 / 0.040, rel=0.01)
        assert found.busy == pytest.approx(1.0, abs=0.01)


class TestFleet:
    def test_frames_and_alerts_are_conserved_and_a_seed_repeats_itself(self, capacity: Any, costs: Any) -> None:
        fleet = capacity.Fleet(
            cameras=24, cameras_a_cell=12, cores=2, node_lost_h=1.0, outages_a_day=24.0, events_a_day=400.0, days=0.25
        )
        curve = capacity.drop_curve(fleet, costs)
        first, second = (capacity.simulate_fleet(fleet, costs, curve) for _ in range(2))
        assert first == second
        assert first.frames_due == pytest.approx(24 * 5.0 * 86400 / 4)
        assert first.frames_scored + first.frames_dropped + first.frames_unwatched == pytest.approx(first.frames_due)
        assert first.losses > 0
        assert first.moves > 0
        assert fleet.lost_s < first.longest_gap_s
        assert 0 < first.events_missed < first.events
        assert first.alerts == first.events - first.events_missed
        assert first.alerts_delivered == len(first.alert_delay_s) <= first.alerts <= first.alert_tries
        other = capacity.simulate_fleet(replace(fleet, seed=1), costs, curve)
        assert other.losses != first.losses or other.events != first.events

    def test_without_losses_all_is_watched(self, capacity: Any, costs: Any) -> None:
        fleet = capacity.Fleet(
            cameras=30, cores=4, node_lost_h=math.inf, outages_a_day=0.0, bursts_a_day=0.0, days=0.25
        )
        found = capacity.simulate_fleet(fleet, costs)
        assert (found.frames_unwatched, found.losses, found.moves, found.events_missed) == (0.0, 0, 0, 0)
        assert found.alert_tries == found.alerts


class TestArchive:
    def test_each_file_is_done_once_whatever_is_lost(self, capacity: Any, costs: Any) -> None:
        archive = capacity.Archive(
            hours=500, workers=32, worker_lost_h=2.0, node_lost_h=0.5, driver_lost_h=0.5, failed_requests=0.3
        )
        first, second = (capacity.simulate_archive(archive, costs) for _ in range(2))
        assert first.n_files == 500
        assert first.done.max() == 1
        assert first.done.sum() + first.failed == 500
        assert min(first.worker_losses, first.node_losses, first.driver_losses) > 0
        assert first.wasted_share > 0
        assert (first.done == second.done).all()
        assert first.makespan_h == second.makespan_h

    def test_equal_files_without_losses_take_what_they_must(self, capacity: Any, costs: Any) -> None:
        archive = capacity.Archive(
            hours=64,
            file_spread=0.0,
            workers=8,
            slow_share=0.0,
            worker_lost_h=math.inf,
            node_lost_h=math.inf,
            driver_lost_h=math.inf,
            failed_requests=0.0,
            fetch_mbit_s=0.0,
            driver_ms=0.0,
        )
        found = capacity.simulate_archive(archive, costs)
        each_s = capacity.core_s_of_an_hour(archive, costs) + costs.file_ms / 1000
        assert found.makespan_h * 3600 == pytest.approx(8 * each_s + costs.worker_start_s)
        assert (found.failed, found.wasted_share) == (0, 0.0)


def test_the_small_end_agrees_with_what_was_measured(capacity: Any, costs: Any) -> None:
    rows = capacity.check(costs)
    assert len(rows) >= 8
    assert {
        row["what"]: row["ratio"] for row in rows if abs(math.log(row["ratio"])) > math.log(capacity.TOLERANCE)
    } == {}


@pytest.mark.parametrize("setting", ["camera=5", "cameras=many", "cameras=-1"])
def test_an_input_that_does_not_exist_is_refused(
    capacity: Any, setting: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate_capacity.py", "inputs", "--set", setting])
    with pytest.raises(SystemExit, match=r"^2$"):
        capacity.main()
    assert setting in capsys.readouterr().err
