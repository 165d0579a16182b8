"""The update that is held to the trained memory: how far items go, how far a score goes, on hostile input too."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.scoring import Judgement, farthest_distance_change, follow, hold
from comemory.types import Frame, Score

REACHES = st.floats(0, math.pi / 2)
PACES = st.floats(0, 1)


def units(seed: int, n: int = 5, width: int = 8) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, width))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    gap = np.linalg.norm(one.astype(np.float64) - other, axis=1)
    return 2 * np.arcsin(np.clip(gap / 2, 0, 1))


class TestFollow:
    @given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8), pace=PACES, reach=REACHES)
    @settings(deadline=None, max_examples=60)
    def test_never_leaves_the_cone_and_keeps_unit_norm(self, seeds: list[int], pace: float, reach: float) -> None:
        frozen = items = units(0)
        for seed in seeds:
            items = follow(items, units(seed), frozen, pace, reach)
            assert items.dtype == np.float32
            assert np.linalg.norm(items, axis=1) == pytest.approx(1, abs=1e-5)
            assert angles(items, frozen).max() <= reach + 1e-3

    @pytest.mark.parametrize("opposite", [False, True])
    def test_what_stays_or_turns_round_is_no_trouble(self, opposite: bool) -> None:
        frozen = units(1)
        items = follow(frozen, -frozen if opposite else frozen, frozen, pace=1.0, reach=0.3)
        assert np.isfinite(items).all()
        assert angles(items, frozen).max() <= 0.3 + 1e-3

    def test_a_small_pace_gets_there_in_the_end(self) -> None:
        frozen, aim = units(2), units(3)
        items = frozen
        for _ in range(400):
            items = follow(items, aim, frozen, pace=0.05, reach=math.pi / 2)
        reached = angles(aim, frozen) < math.pi / 2 - 0.05
        assert reached.any()
        assert angles(items, aim)[reached].max() < 1e-2

    def test_no_reach_is_no_change(self) -> None:
        assert follow(units(4), units(5), units(4), pace=1.0, reach=0.0) == pytest.approx(units(4), abs=1e-6)

    @given(seed=st.integers(0, 2**32 - 1), reach=st.floats(0, 1.5))
    @settings(deadline=None, max_examples=60)
    def test_distances_to_the_nearest_item_move_within_the_bound(self, seed: int, reach: float) -> None:
        frozen, query = units(seed), units(seed + 1, n=40)
        moved = follow(frozen, units(seed + 2), frozen, pace=1.0, reach=reach)
        one, other = (2 - 2 * (query @ items.T).max(axis=1) for items in (frozen, moved))
        assert np.abs(one - other).max() <= farthest_distance_change(reach) + 1e-4


VALUES = st.floats(-1, 7)


def judgement(values: tuple[float, float, float]) -> Judgement:
    return Judgement(values[0], values[1], values[2], (0, 0, 4, 4), values[0] - 1, values[0] + 1)


class TestHold:
    @given(adapted=st.tuples(VALUES, VALUES, VALUES), frozen=st.tuples(VALUES, VALUES, VALUES), bound=st.floats(0, 3))
    @settings(deadline=None, max_examples=100)
    def test_within_the_bound_and_free_inside_of_it(
        self, adapted: tuple[float, float, float], frozen: tuple[float, float, float], bound: float
    ) -> None:
        held, anchor = hold(judgement(adapted), judgement(frozen), bound), judgement(frozen)
        for name, free in zip(("value", "appearance", "motion"), adapted, strict=True):
            own, fixed = getattr(held, name), getattr(anchor, name)
            assert abs(own - fixed) <= bound + 1e-9
            assert own == free or abs(free - fixed) >= bound - 1e-9
        assert (held.box, held.thesis, held.raw) == (anchor.box, anchor.thesis, anchor.raw)


def watched(detector: Detector, frames: list[Frame]) -> list[Score]:
    detector.reset()
    return [score for frame in frames if (score := detector.push(frame)) is not None]


class TestBounded:
    @given(
        pictures=hnp.arrays(np.uint8, (12, 8, 12, 3)),
        pace=st.sampled_from([0.01, 1.0]),
        reach=st.sampled_from([0.3, math.pi / 2]),
    )
    @settings(deadline=None, max_examples=6)
    def test_no_score_is_farther_than_the_bound_whatever_is_watched(
        self, nano_bundle: Path, pictures: np.ndarray, pace: float, reach: float
    ) -> None:
        bundle = open_bundle(nano_bundle)
        plain, bounded = (Detector(bundle, threads=1, update=update) for update in ("off", "bounded"))  # type: ignore[arg-type]
        bounded.PACE, bounded.REACH, bounded.GATE = pace, reach, 100.0
        frames = [Frame(picture.repeat(8, axis=0).repeat(8, axis=1), i / 10, i) for i, picture in enumerate(pictures)]
        for one, other in zip(watched(plain, frames), watched(bounded, frames), strict=True):
            for name in ("value", "appearance", "motion"):
                assert abs(getattr(one, name) - getattr(other, name)) <= Detector.BOUND + 1e-9
            assert one.box == other.box
        for name, items in bounded.items.items():
            assert angles(items, bundle.items[name]).max() <= reach + 1e-3

    def test_its_items_move_and_those_the_network_is_asked_with_first_do_not(
        self, nano_bundle: Path, scene_frames: list[Frame]
    ) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="bounded")
        detector.GATE = 100.0
        watched(detector, scene_frames)
        trained = detector.bundle.items
        assert any(not np.array_equal(items, trained[name]) for name, items in detector.items.items())
        assert all(np.array_equal(detector.example_inputs()[name], items) for name, items in trained.items())
        detector.reset()
        assert all(np.array_equal(items, trained[name]) for name, items in detector.items.items())

    def test_the_gate_is_the_trained_memorys(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="bounded")
        detector.GATE = -100.0
        watched(detector, scene_frames)
        assert all(np.array_equal(items, detector.bundle.items[name]) for name, items in detector.items.items())

    def test_without_a_bound_it_would_go_elsewhere(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        bundle = open_bundle(nano_bundle)
        values = []
        for update, bound in (("off", 0.3), ("bounded", 0.0), ("bounded", 100.0)):
            detector = Detector(bundle, threads=1, update=update)  # type: ignore[arg-type]
            detector.GATE, detector.PACE, detector.REACH, detector.BOUND = 100.0, 1.0, 1.5, bound
            values.append([score.value for score in watched(detector, scene_frames)])
        assert values[0] == values[1]
        assert values[0] != values[2]

    def test_a_still_scene_and_a_gap(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="bounded")
        still = [replace(scene_frames[5], index=i, time_s=i / 10) for i in range(30)]
        assert len(watched(detector, still)) == 26
        gap = [*scene_frames[:8], *(replace(frame, index=frame.index + 5) for frame in scene_frames[8:16])]
        assert len(watched(detector, gap)) == 8
