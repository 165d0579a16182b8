"""Where cameras are placed, and when a node counts as lost or back."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from comemory.cluster.placement import LOST_S, SETTLE_S, START_S, NodeHealth, place_cameras, preferred_placement

CAMERAS = st.lists(st.text("abcdef", min_size=1, max_size=4), unique=True, max_size=20)
NODES = st.dictionaries(st.text("nopq", min_size=1, max_size=3), st.integers(0, 12), max_size=5)


@given(CAMERAS, NODES, st.randoms())
def test_the_ideal_depends_on_names_alone_and_fills_no_node_beyond_its_capacity(cameras, nodes, random) -> None:  # type: ignore[no-untyped-def]
    found = preferred_placement(cameras, nodes)
    assert all(number <= nodes[node] for node, number in Counter(found.values()).items())
    assert len(found) == min(len(cameras), sum(nodes.values()))
    shuffled, order = list(cameras), list(nodes)
    random.shuffle(shuffled)
    random.shuffle(order)
    assert preferred_placement(shuffled, {node: nodes[node] for node in order}) == found


@given(CAMERAS, NODES, st.data())
def test_a_lost_node_moves_its_own_cameras_only_and_gets_them_back(cameras, nodes, data) -> None:  # type: ignore[no-untyped-def]
    home = place_cameras(cameras, {}, nodes)
    home = place_cameras(cameras, home, nodes)
    if not nodes:
        return
    lost = data.draw(st.sampled_from(sorted(nodes)))
    rest = {node: capacity for node, capacity in nodes.items() if node != lost}
    away = place_cameras(cameras, home, rest)
    watched = {camera for camera, node in home.items() if node != lost}
    assert {camera: away[camera] for camera in watched} == {camera: home[camera] for camera in watched}
    assert all(number <= rest[node] for node, number in Counter(away.values()).items())
    assert len(away) == min(len(cameras), sum(rest.values()))
    back = place_cameras(cameras, away, rest, {lost: nodes[lost]})
    assert {camera: back[camera] for camera in away} == away, "a node that settles gets what has no other place only"
    again = place_cameras(cameras, back, nodes)
    assert place_cameras(cameras, again, nodes) == again
    if sum(rest.values()) >= len(cameras):
        assert again == home


@given(CAMERAS, NODES, NODES)
def test_any_change_of_nodes_ends_within_the_capacity(cameras, before, after) -> None:  # type: ignore[no-untyped-def]
    found = place_cameras(cameras, place_cameras(cameras, {}, before), after)
    assert set(found.values()) <= set(after)
    assert all(number <= after[node] for node, number in Counter(found.values()).items())
    assert len(found) == min(len(cameras), sum(after.values()))


def test_a_new_node_takes_its_share_from_the_others_and_moves_nothing_else() -> None:
    cameras = [f"camera-{k}" for k in range(400)]
    two = {"a": 1000, "b": 1000}
    before = place_cameras(cameras, {}, two)
    after = place_cameras(cameras, before, {**two, "c": 2000})
    moved = {camera for camera in cameras if before[camera] != after[camera]}
    assert {after[camera] for camera in moved} == {"c"}
    assert 160 < len(moved) < 240, "half of the capacity attracts half of the cameras"


def test_health_has_hysteresis_and_survives_a_restart() -> None:
    health = NodeHealth()
    health.expect("new", 0)
    health.expect("old", 0, "up")
    health.observe("old", 7, 0)
    health.observe("old", 7, LOST_S - 1)
    assert (health.state("new"), health.state("old")) == ("starting", "up")
    for now in range(int(LOST_S), int(LOST_S) + 20):
        health.observe("old", 7, now)
        health.observe("new", now, now)
    assert (health.state("new"), health.state("old")) == ("up", "lost")
    now, beats = 100.0, 0

    def answer(seconds: float) -> str:
        nonlocal now, beats
        for _ in range(int(seconds)):
            now, beats = now + 1, beats + 1
            health.observe("old", beats, now)
        return health.state("old")

    assert answer(SETTLE_S - 1) == "settling"
    now += LOST_S
    health.observe("old", beats, now)
    assert health.state("old") == "lost", "it came and went"
    assert answer(SETTLE_S) == "settling"
    assert answer(2) == "up"
    health.expect("silent", 0)
    health.observe("silent", None, START_S)
    assert (health.state("silent"), health.state("unknown")) == ("lost", "lost")
