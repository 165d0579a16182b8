"""What the group of a node does with a plan, and what the command says of the store of the fleet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stored import free_port, make_event

from comemory.cli.fleet import ConnectionLog, stop_fleet
from comemory.cli.live_options import LiveLog
from comemory.cluster import fleet
from comemory.cluster.fleet_files import FleetFolder, FleetPlan, PlannedNode
from comemory.cluster.fleet_group import node_conditions
from comemory.live.config import LiveSettings
from comemory.store.routing import ChangeStamp
from comemory.store.sites import Sites
from comemory.store.store import EventStore
from comemory.store.write_ahead import WriteAheadEntry, WriteAheadLog

PLAN = FleetPlan(
    1,
    LiveSettings(),
    {name: PlannedNode(2, "up") for name in "abc"},
    {"gate": "a", "yard": "b", "dock": "c", "hall": "c"},
)


def lose(plan: FleetPlan, name: str, **moved: str) -> FleetPlan:
    nodes = {**plan.nodes, name: PlannedNode(2, "lost")}
    kept = {camera: node for camera, node in plan.cameras.items() if node != name}
    return replace(plan, number=plan.number + 1, nodes=nodes, cameras=kept | moved)


class TestNodeConditions:
    def test_the_first_node_reports_a_lost_one_and_what_became_of_its_cameras(self) -> None:
        lost = lose(PLAN, "c", dock="a")
        assert node_conditions(PLAN, lost, "a") == {
            "b": "",
            "c": "node c does not answer; dock: watched by other nodes; hall: not watched, no other node has room",
        }
        assert node_conditions(PLAN, lost, "b") == {"a": ""}

    def test_when_the_first_is_lost_the_second_reports_it(self) -> None:
        found = node_conditions(PLAN, lose(PLAN, "a", gate="b"), "b")
        assert found == {"a": "node a does not answer; gate: watched by other nodes", "c": ""}

    def test_a_node_that_settles_is_neither_lost_nor_up(self) -> None:
        settling = replace(PLAN, nodes={**PLAN.nodes, "c": PlannedNode(2, "settling")})
        assert node_conditions(PLAN, settling, "a") == {"b": ""}

    def test_a_node_without_cameras_is_missed_too(self) -> None:
        idle = replace(PLAN, cameras={"gate": "a"})
        assert node_conditions(idle, lose(idle, "c"), "a")["c"] == "node c does not answer"


class TestStore:
    def test_the_log_says_that_it_cannot_be_opened(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        url = f"postgresql+psycopg://fleet:secret@127.0.0.1:{free_port()}/events"
        log = ConnectionLog("store", LiveLog(False))
        with EventStore.open(
            url, tmp_path / "media", shared=True, may_be_away=True, sites=Sites(tmp_path / "fleet")
        ) as store:
            log.update(store.error)
            log.update(store.error)
        log.update(None)
        first, second = capfd.readouterr().err.splitlines()
        assert " cannot be opened: " in first
        assert "secret" not in first
        assert second.endswith("store  connected")

    def test_the_end_of_a_fleet_says_what_is_not_stored(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(fleet, "QUIET_S", 0.0)
        folder = FleetFolder(tmp_path)
        file = folder.node("a") / "media" / ".write-ahead"
        file.parent.mkdir(parents=True)
        folder.write_plan(PLAN)
        log = WriteAheadLog(file)
        log.append(WriteAheadEntry("new", make_event(), ChangeStamp()))
        log.close()
        stop_fleet(LiveSettings(out=tmp_path))
        assert f"note: 1 change of events and states not stored yet, waiting in {file}" in capfd.readouterr().err
