"""What the group of a node does with a plan."""

from __future__ import annotations

from dataclasses import replace

from comemory.cluster.fleet_files import Plan, PlannedNode
from comemory.cluster.fleet_group import node_conditions
from comemory.live.config import LiveSettings

PLAN = Plan(
    1,
    LiveSettings(),
    {name: PlannedNode(2, "up") for name in "abc"},
    {"gate": "a", "yard": "b", "dock": "c", "hall": "c"},
)


def lose(plan: Plan, name: str, **moved: str) -> Plan:
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
