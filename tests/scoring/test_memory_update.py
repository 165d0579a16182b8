"""Bounded memory updates: how far items and scores move, on hostile input too."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from comemory import stages
from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.scoring import ScoreParts, bounded_update, clamp, max_distance_change
from comemory.types import Frame, Score

MAX_ANGLES = st.floats(0, math.pi / 2)
RATES = st.floats(0, 1)


def units(seed: int, n: int = 5, width: int = 8) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, width))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    gap = np.linalg.norm(one.astype(np.float64) - other, axis=1)
    return 2 * np.arcsin(np.clip(gap / 2, 0, 1))


class TestBoundedUpdate:
    @given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8), rate=RATES, max_angle=MAX_ANGLES)
    @settings(deadline=None, max_examples=60)
    def test_never_leaves_the_cone_and_keeps_unit_norm(self, seeds: list[int], rate: float, max_angle: float) -> None:
        frozen = items = units(0)
        for seed in seeds:
            items = bounded_update(items, units(seed), frozen, rate, max_angle)
            assert items.dtype == np.float32
            assert np.linalg.norm(items, axis=1) == pytest.approx(1, abs=1e-5)
            assert angles(items, frozen).max() <= max_angle + 1e-3

    @pytest.mark.parametrize("opposite", [False, True])
    def test_an_unchanged_or_opposite_update_is_finite(self, opposite: bool) -> None:
        frozen = units(1)
        items = bounded_update(frozen, -frozen if opposite else frozen, frozen, rate=1.0, max_angle=0.3)
        assert np.isfinite(items).all()
        assert angles(items, frozen).max() <= 0.3 + 1e-3

    def test_a_small_rate_arrives_in_the_end(self) -> None:
        frozen, aim = units(2), units(3)
        items = frozen
        for _ in range(400):
            items = bounded_update(items, aim, frozen, rate=0.05, max_angle=math.pi / 2)
        reached = angles(aim, frozen) < math.pi / 2 - 0.05
        assert reached.any()
        assert angles(items, aim)[reached].max() < 1e-2

    def test_no_angle_is_no_change(self) -> None:
        assert bounded_update(units(4), units(5), units(4), rate=1.0, max_angle=0.0) == pytest.approx(
            units(4), abs=1e-6
        )

    @given(seed=st.integers(0, 2**32 - 1), max_angle=st.floats(0, 1.5))
    @settings(deadline=None, max_examples=60)
    def test_distances_to_the_nearest_item_move_within_the_bound(self, seed: int, max_angle: float) -> None:
        frozen, query = units(seed), units(seed + 1, n=40)
        moved = bounded_update(frozen, units(seed + 2), frozen, rate=1.0, max_angle=max_angle)
        one, other = (2 - 2 * (query @ items.T).max(axis=1) for items in (frozen, moved))
        assert np.abs(one - other).max() <= max_distance_change(max_angle) + 1e-4


VALUES = st.floats(-1, 7)


def parts(values: tuple[float, float, float]) -> ScoreParts:
    return ScoreParts(values[0], values[1], values[2], (0, 0, 4, 4), values[0] + 1)


class TestClamp:
    @given(adapted=st.tuples(VALUES, VALUES, VALUES), frozen=st.tuples(VALUES, VALUES, VALUES), bound=st.floats(0, 3))
    @settings(deadline=None, max_examples=100)
    def test_values_within_the_bound_stay_and_others_are_clamped(
        self, adapted: tuple[float, float, float], frozen: tuple[float, float, float], bound: float
    ) -> None:
        clamped, anchor = clamp(parts(adapted), parts(frozen), bound), parts(frozen)
        for name, free in zip(("value", "appearance", "motion"), adapted, strict=True):
            own, fixed = getattr(clamped, name), getattr(anchor, name)
            assert abs(own - fixed) <= bound + 1e-9
            assert own == free or abs(free - fixed) >= bound - 1e-9
        assert (clamped.box, clamped.uncalibrated) == (anchor.box, anchor.uncalibrated)


def run(detector: Detector, frames: list[Frame]) -> list[Score]:
    detector.reset()
    return [scored.score for scored in map(detector.step, frames) if scored is not None]


def set_constants(patch: pytest.MonkeyPatch, **values: float) -> None:
    for name, value in values.items():
        patch.setattr(stages, name, value)


class TestBounded:
    @given(
        images=hnp.arrays(np.uint8, (12, 8, 12, 3)),
        rate=st.sampled_from([0.01, 1.0]),
        max_angle=st.sampled_from([0.3, math.pi / 2]),
    )
    @settings(deadline=None, max_examples=6)
    def test_no_score_leaves_the_bound_whatever_the_frames_show(
        self, nano_bundle: Path, images: np.ndarray, rate: float, max_angle: float
    ) -> None:
        bundle = open_bundle(nano_bundle)
        plain, bounded = (Detector(bundle, threads=1, update=update) for update in ("off", "bounded"))  # type: ignore[arg-type]
        frames = [Frame(image.repeat(8, axis=0).repeat(8, axis=1), i / 10, i) for i, image in enumerate(images)]
        with pytest.MonkeyPatch.context() as patch:
            set_constants(patch, LEARN_BELOW=100.0, RATE=rate, MAX_ANGLE=max_angle)
            found = run(bounded, frames)
        for one, other in zip(run(plain, frames), found, strict=True):
            for name in ("value", "appearance", "motion"):
                assert abs(getattr(one, name) - getattr(other, name)) <= stages.BOUND + 1e-9
            assert one.box == other.box
        for name, items in bounded.items.items():
            assert angles(items, bundle.items[name]).max() <= max_angle + 1e-3

    def test_its_items_move_and_those_of_the_first_network_run_do_not(
        self, nano_bundle: Path, scene_frames: list[Frame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="bounded")
        set_constants(monkeypatch, LEARN_BELOW=100.0)
        run(detector, scene_frames)
        trained = detector.bundle.items
        assert any(not np.array_equal(items, trained[name]) for name, items in detector.items.items())
        assert all(np.array_equal(detector.stages.example_inputs()[name], items) for name, items in trained.items())
        detector.reset()
        assert all(np.array_equal(items, trained[name]) for name, items in detector.items.items())

    def test_it_learns_nothing_from_frames_above_the_gate(
        self, nano_bundle: Path, scene_frames: list[Frame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="bounded")
        set_constants(monkeypatch, LEARN_BELOW=-100.0)
        run(detector, scene_frames)
        assert all(np.array_equal(items, detector.bundle.items[name]) for name, items in detector.items.items())

    def test_the_bound_decides_how_far_scores_move(
        self, nano_bundle: Path, scene_frames: list[Frame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bundle = open_bundle(nano_bundle)
        values = []
        for update, bound in (("off", 0.3), ("bounded", 0.0), ("bounded", 100.0)):
            detector = Detector(bundle, threads=1, update=update)  # type: ignore[arg-type]
            set_constants(monkeypatch, LEARN_BELOW=100.0, RATE=1.0, MAX_ANGLE=1.5, BOUND=bound)
            values.append([score.value for score in run(detector, scene_frames)])
        assert values[0] == values[1]
        assert values[0] != values[2]

    def test_a_static_scene_and_a_gap_are_scored(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="bounded")
        still = [replace(scene_frames[5], index=i, time_s=i / 10) for i in range(30)]
        assert len(run(detector, still)) == 26
        gap = [*scene_frames[:8], *(replace(frame, index=frame.index + 5) for frame in scene_frames[8:16])]
        assert len(run(detector, gap)) == 8
