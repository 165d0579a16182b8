"""The detector is causal and repeatable, and gives the same scores on every runtime and by every way in."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import unfinite
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory import stages
from comemory.bundle import Bundle, open_bundle
from comemory.datasets import open_dataset
from comemory.detector import Detector, ScoredFrame, scale_box
from comemory.errors import BundleError, ConfigError, SourceError
from comemory.runtimes import RUNTIMES
from comemory.runtimes.openvino import OpenVino
from comemory.scoring import HEAT_MAP_MAX, PatchMap, ScoringSettings, patch_map, score_map
from comemory.types import INPUT_MAPS, Frame, Score
from comemory.video.source import open_source
from comemory.video.writer import write_video

N_PAST = 4


@pytest.fixture(scope="session")
def detector(nano_bundle: Path) -> Detector:
    """One detector, reset before every use."""
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="session")
def film(scene_frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene as an mp4."""
    path = tmp_path_factory.mktemp("film") / "scene.mp4"
    write_video(scene_frames, path, 10.0)
    return path


def run(detector: Detector, frames: Iterable[Frame]) -> list[Score | None]:
    """The score of each frame of a source; None for a frame without one."""
    detector.reset()
    return [None if scored is None else scored.score for scored in map(detector.step, frames)]


def scored_frames(detector: Detector, frames: Iterable[Frame]) -> list[ScoredFrame]:
    detector.reset()
    return [scored for scored in map(detector.step, frames) if scored is not None]


def key(score: Score | None) -> tuple[object, ...] | None:
    """Everything in a score, to be compared bit for bit."""
    if score is None:
        return None
    heat = None if score.heat_map is None else score.heat_map.tobytes()
    return (score.index, score.time_s, score.value, score.appearance, score.motion, score.box, heat)


def keys(scores: Iterable[Score | None]) -> list[tuple[object, ...] | None]:
    return [key(score) for score in scores]


def test_openvino_chooses_the_device(nano_bundle: Path, scene_frames: list[Frame], detector: Detector) -> None:
    assert {"CPU", "AUTO"} <= set(OpenVino.devices())
    chosen = Detector.open(nano_bundle, device="auto", precision=detector.bundle.precision, threads=1)
    assert chosen.bundle.network.device == "AUTO"
    found, expected = (
        [score.value for score in run(one, scene_frames) if score is not None] for one in (chosen, detector)
    )
    assert found == pytest.approx(expected, abs=1e-3)


class TestCausal:
    @pytest.mark.parametrize("update", ["off", "gated", "always", "bounded"])
    def test_the_first_k_frames_give_the_first_k_scores(
        self, nano_bundle: Path, scene_frames: list[Frame], update: str
    ) -> None:
        detector = Detector.open(nano_bundle, threads=1, update=update)  # type: ignore[arg-type]
        whole = keys(run(detector, scene_frames))

        @settings(deadline=None, max_examples=8)
        @given(k=st.integers(0, len(scene_frames)))
        def check(k: int) -> None:
            assert keys(run(detector, scene_frames[:k])) == whole[:k]

        check()

    def test_what_comes_after_changes_nothing(self, detector: Detector, scene_frames: list[Frame]) -> None:
        other = [replace(frame, image=255 - frame.image) for frame in scene_frames[15:]]
        one = keys(run(detector, scene_frames))
        assert keys(run(detector, [*scene_frames[:15], *other]))[:15] == one[:15]

    def test_two_runs_are_equal_bit_for_bit(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        runs = [keys(run(Detector.open(nano_bundle, threads=1), scene_frames)) for _ in range(2)]
        assert runs[0] == runs[1]

    def test_none_while_the_clip_fills(self, detector: Detector, scene_frames: list[Frame]) -> None:
        scores = run(detector, scene_frames)
        assert scores[:N_PAST] == [None] * N_PAST
        assert [score.index for score in scores if score] == list(range(N_PAST, len(scene_frames)))
        assert [score.time_s for score in scores if score] == [frame.time_s for frame in scene_frames[N_PAST:]]

    def test_reset_makes_the_next_frame_a_first_one(self, detector: Detector, scene_frames: list[Frame]) -> None:
        run(detector, scene_frames[:9])
        assert keys(run(detector, scene_frames[9:20])) == keys(run(detector, scene_frames[9:20]))
        run(detector, scene_frames[20:])
        assert keys(run(detector, scene_frames)) == keys(run(detector, scene_frames))

    def test_a_gap_is_none_until_the_clip_is_full_again(self, detector: Detector, scene_frames: list[Frame]) -> None:
        remaining = [frame for frame in scene_frames if frame.index != 12]
        scores = run(detector, remaining)
        missing = [frame.index for frame, score in zip(remaining, scores, strict=True) if score is None]
        assert missing == [0, 1, 2, 3, 13, 14, 15, 16]
        fresh = run(detector, scene_frames[13:])
        assert keys(scores[remaining.index(scene_frames[17]) :]) == keys(fresh[4:])


class TestUpdate:
    def changed(self, detector: Detector) -> bool:
        return any(not np.array_equal(detector.items[name], items) for name, items in detector.bundle.items.items())

    @pytest.mark.parametrize(("update", "changes"), [("off", False), ("always", True)])
    def test_items(self, nano_bundle: Path, scene_frames: list[Frame], update: str, changes: bool) -> None:
        detector = Detector.open(nano_bundle, threads=1, update=update)  # type: ignore[arg-type]
        run(detector, scene_frames[:8])
        assert self.changed(detector) is changes
        detector.reset()
        assert not self.changed(detector), "the items are reset for each source"

    def test_gated_updates_after_normal_frames_only(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="gated")
        calm = [Frame(scene_frames[0].image, i / 10, i) for i in range(10)]
        detector.reset()
        for frame in [*calm, *(replace(frame, index=10 + frame.index) for frame in scene_frames)]:
            before = dict(detector.items)
            scored = detector.step(frame)
            moved = any(not np.array_equal(before[name], items) for name, items in detector.items.items())
            if scored is None or scored.score.value > stages.LEARN_BELOW:
                assert not moved

    def test_every_second_normal_frame_passes_the_gate(self) -> None:
        assert pytest.approx(0.5, abs=0.01) == 10**-stages.LEARN_BELOW

    def test_gated_updates_after_frames_below_the_gate(
        self, nano_bundle: Path, scene_frames: list[Frame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="gated")
        monkeypatch.setattr(stages, "LEARN_BELOW", 100.0)
        run(detector, scene_frames[:6])
        assert self.changed(detector)
        monkeypatch.setattr(stages, "LEARN_BELOW", -100.0)
        run(detector, scene_frames[:6])
        assert not self.changed(detector)

    def test_updated_items_are_of_unit_norm(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        detector = Detector.open(nano_bundle, threads=1, update="always")
        run(detector, scene_frames)
        for items in detector.items.values():
            assert np.linalg.norm(items, axis=1) == pytest.approx(1, abs=1e-5)

    def test_updating_changes_scores(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        spec = open_bundle(nano_bundle)
        plain = Detector(spec, threads=1, update="off")
        moving = Detector(spec, threads=1, update="always")
        one, other = (
            scored_frames(detector, scene_frames)[-1].evidence.maps["appearance_distance"]
            for detector in (plain, moving)
        )
        assert not np.array_equal(one, other)


class TestHeatMap:
    def test_the_score_map_clipped_at_the_models_size(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        detector = Detector.open(nano_bundle, threads=1, with_heat_maps=True)
        spec, calibration = detector.bundle.clips, detector.bundle.calibration
        for scored in scored_frames(detector, scene_frames):
            heat = scored.score.heat_map
            assert heat is not None
            assert (heat.shape, heat.dtype) == ((32, 48), np.float32)
            assert heat.min() >= 0
            assert heat.max() <= 1
            assert np.array_equal(heat, detector.heat_map(scored))
            scores = score_map(scored.evidence, calibration, spec.height, spec.width)
            assert scores.shape == (8, 12)
            assert np.array_equal(heat, np.kron(np.clip(scores / HEAT_MAP_MAX, 0, 1), np.ones((4, 4), np.float32)))

    def test_on_or_off_the_scores_are_the_same(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        on = run(Detector.open(nano_bundle, threads=1, with_heat_maps=True), scene_frames)
        off = run(Detector.open(nano_bundle, threads=1, with_heat_maps=False), scene_frames)
        assert keys(replace(score, heat_map=None) if score else None for score in on) == keys(off)
        assert all(score is None or score.heat_map is None for score in off)


def inside(score: Score, height: int, width: int) -> bool:
    assert score.box is not None
    left, top, right, bottom = score.box
    return 0 <= left < right <= width and 0 <= top < bottom <= height


class TestImages:
    @pytest.mark.parametrize("size", [(96, 144), (33, 57), (7, 9), (1, 1), (400, 40), (50, 501)])
    def test_any_size_is_scored_and_the_box_lies_in_the_image(
        self, detector: Detector, scene_frames: list[Frame], size: tuple[int, int]
    ) -> None:
        frames = [
            replace(frame, image=np.asarray(cv2.resize(frame.image, size[::-1]), np.uint8))
            for frame in scene_frames[:8]
        ]
        scores = [score for score in run(detector, frames) if score is not None]
        assert len(scores) == 4
        assert all(inside(score, *size) for score in scores)

    def test_a_change_of_size_on_the_way(self, detector: Detector, scene_frames: list[Frame]) -> None:
        frames = [
            replace(frame, image=np.asarray(cv2.resize(frame.image, (200, 120)), np.uint8))
            if frame.index >= 6
            else frame
            for frame in scene_frames[:12]
        ]
        scores = run(detector, frames)
        assert [score is not None for score in scores] == [False] * 4 + [True] * 8
        for frame, score in zip(frames, scores, strict=True):
            assert score is None or inside(score, *frame.image.shape[:2])

    def test_grey_images_of_three_equal_channels(self, detector: Detector, scene_frames: list[Frame]) -> None:
        grey = [replace(f, image=np.repeat(f.image[..., 1:2], 3, axis=2)) for f in scene_frames[:6]]
        scores = [score for score in run(detector, grey) if score]
        assert len(scores) == 2
        assert all(np.isfinite(score.value) for score in scores)

    @pytest.mark.parametrize(
        "image",
        [
            *(np.zeros((48, 64), np.uint8), np.zeros((48, 64, 4), np.uint8), np.zeros((0, 0, 3), np.uint8)),
            *(np.zeros((48, 64, 3), np.float32),),
        ],
    )
    def test_an_image_of_another_kind_is_refused_and_leaves_a_gap(
        self, detector: Detector, scene_frames: list[Frame], image: np.ndarray
    ) -> None:
        run(detector, scene_frames[:6])
        with pytest.raises(SourceError, match="a frame is an RGB image"):
            detector.step(Frame(image, 0.6, 6))
        assert [detector.step(frame) is None for frame in scene_frames[7:12]] == [True] * 4 + [False]

    @pytest.mark.parametrize("level", [0, 255])
    def test_a_black_and_a_white_stream(self, detector: Detector, level: int) -> None:
        frames = [Frame(np.full((48, 64, 3), level, np.uint8), i / 10, i) for i in range(7)]
        scores = [score for score in run(detector, frames) if score]
        assert len({score.value for score in scores}) == 1
        assert all(np.isfinite(score.value) for score in scores)

    def test_frames_are_left_as_they_are(self, detector: Detector, scene_frames: list[Frame]) -> None:
        copies = [frame.image.copy() for frame in scene_frames]
        run(detector, scene_frames)
        assert all(np.array_equal(frame.image, copy) for frame, copy in zip(scene_frames, copies, strict=True))


class TestScaleBox:
    @given(
        size=st.tuples(st.integers(8, 300), st.integers(8, 300)),
        target=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
        data=st.data(),
    )
    @settings(deadline=None, max_examples=200)
    def test_inside_and_near(self, size: tuple[int, int], target: tuple[int, int], data: st.DataObject) -> None:
        left, top = data.draw(st.integers(0, size[1] - 1)), data.draw(st.integers(0, size[0] - 1))
        right, bottom = data.draw(st.integers(left + 1, size[1])), data.draw(st.integers(top + 1, size[0]))
        box = scale_box((left, top, right, bottom), size, target)
        assert 0 <= box[0] < box[2] <= target[1]
        assert 0 <= box[1] < box[3] <= target[0]
        for found, side, scale in zip(box, (left, top, right, bottom), (1, 0, 1, 0), strict=True):
            assert abs(found - side * target[scale] / size[scale]) <= 1.5, "rounded, and at least one pixel wide"

    def test_by_hand(self) -> None:
        assert scale_box((4, 8, 12, 16), (32, 48), (64, 96)) == (8, 16, 24, 32)
        assert scale_box((0, 0, 48, 32), (32, 48), (33, 47)) == (0, 0, 47, 33)


class TestRun:
    def test_run_equals_step_bit_for_bit(self, detector: Detector, film: Path) -> None:
        spec = detector.bundle.clips
        frames = open_source(film, size=(spec.flow_height, spec.flow_width))
        stepped = [score for score in run(detector, frames) if score is not None]
        scores = list(detector.run(film))
        assert keys(replace(score, box=None) for score in scores) == keys(replace(score, box=None) for score in stepped)
        assert len(scores) == 26
        assert all(inside(score, 96, 144) for score in scores)

    def test_a_path_as_text_and_an_opened_source_are_the_same(self, detector: Detector, film: Path) -> None:
        one = keys(detector.run(film))
        assert keys(detector.run(str(film))) == one
        assert keys(detector.run(detector.open_source(film))) == one

    def test_a_source_in_memory_has_boxes_in_its_own_pixels(
        self, detector: Detector, scene_frames: list[Frame]
    ) -> None:
        class Memory:
            name = "memory"
            rate_hz = None

            def __iter__(self):
                return iter(scene_frames)

        scores = list(detector.run(Memory()))
        stepped = [score for score in run(detector, scene_frames) if score is not None]
        assert [score.value for score in scores] == [score.value for score in stepped]
        for one, other in zip(scores, stepped, strict=True):
            assert one.box is not None
            assert other.box is not None
            assert np.abs(np.subtract(one.box, other.box)).max() <= 1

    def test_a_missing_file_is_an_error_at_once(self, detector: Detector, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"absent\.mp4"):
            detector.run(tmp_path / "absent.mp4")

    def test_each_run_starts_from_nothing(self, detector: Detector, film: Path, scene_frames: list[Frame]) -> None:
        run(detector, scene_frames[:7])
        one = keys(detector.run(film))
        assert keys(detector.run(film)) == one

    def test_a_run_ends_with_an_error_once_another_one_started(self, detector: Detector, film: Path) -> None:
        first = detector.run(film)
        begun = key(next(first))
        whole = keys(detector.run(film))
        assert begun == whole[0]
        with pytest.raises(ConfigError, match="scores one source at a time"):
            next(first)

    @pytest.mark.parametrize("what", ["step", "reset"])
    def test_a_run_ends_with_an_error_once_a_frame_of_another_source_came(
        self, detector: Detector, film: Path, scene_frames: list[Frame], what: str
    ) -> None:
        scores = detector.run(film)
        next(scores)
        detector.step(scene_frames[0]) if what == "step" else detector.reset()
        with pytest.raises(ConfigError, match="run, step or reset has started another one"):
            next(scores)

    @pytest.mark.parametrize("rate_hz", [0, -1, float("nan"), "10", True])
    def test_a_rate_that_is_no_positive_number_is_refused(self, detector: Detector, film: Path, rate_hz: Any) -> None:
        with pytest.raises(SourceError, match="expected a number above 0"):
            detector.run(film, rate_hz)

    def test_a_clock_that_goes_back_starts_a_new_clip_as_in_step(
        self, detector: Detector, scene_frames: list[Frame]
    ) -> None:
        times_s = [k / 10 for k in range(8)] * 2

        class Twice:
            name, rate_hz = "twice", 10.0

            def __iter__(self) -> Iterator[Frame]:
                images = (frame.image for frame in scene_frames[:8] * 2)
                return (Frame(*one) for one in zip(images, times_s, range(16), strict=True))

        assert [score.index for score in detector.run(Twice())] == [4, 5, 6, 7, 12, 13, 14, 15]
        detector.reset()
        steps = [detector.step(frame.image, frame.time_s) for frame in Twice()]
        assert [k for k, scored in enumerate(steps) if scored is not None] == [4, 5, 6, 7, 12, 13, 14, 15]


class TestStep:
    def test_an_image_after_a_frame_follows_its_time(self, detector: Detector, scene_frames: list[Frame]) -> None:
        """Both ways of giving frames may be mixed: the place of an image depends on the frame before it."""
        expected = keys(run(detector, scene_frames[:8]))
        detector.reset()
        mixed = [*scene_frames[:6], *(frame.image for frame in scene_frames[6:8])]
        given = [(one, None) for one in mixed[:6]] + [(one, k / 10) for k, one in enumerate(mixed[6:], 6)]
        scored = [detector.step(one, time_s) for one, time_s in given]
        assert keys(None if one is None else one.score for one in scored) == expected
        assert detector.step(scene_frames[8].image, 0.1) is None, "an earlier image starts a new clip"

    def test_an_image_of_another_size_starts_a_new_clip(self, detector: Detector, scene_frames: list[Frame]) -> None:
        detector.reset()
        images = [frame.image for frame in scene_frames[:12]]
        images[6:] = [np.ascontiguousarray(image[:-2, :-2]) for image in images[6:]]
        scored = [detector.step(image, k / 10) for k, image in enumerate(images)]
        assert [k for k, one in enumerate(scored) if one is not None] == [4, 5, 10, 11]

    def test_an_image_with_its_time_is_a_frame(self, detector: Detector, scene_frames: list[Frame]) -> None:
        expected = keys(run(detector, scene_frames))
        detector.reset()
        scored = [detector.step(frame.image, frame.time_s) for frame in scene_frames]
        assert keys(None if one is None else one.score for one in scored) == expected

    @pytest.mark.parametrize("time_s", [0.0, 0.9])
    def test_a_time_that_is_not_later_starts_a_new_clip(
        self, detector: Detector, scene_frames: list[Frame], time_s: float
    ) -> None:
        detector.reset()
        times = [frame.time_s for frame in scene_frames[:10]]
        first = [detector.step(frame.image, t) for frame, t in zip(scene_frames, times, strict=False)]
        again = [detector.step(frame.image, time_s + t) for frame, t in zip(scene_frames, times, strict=False)]
        assert [one is None for one in again] == [one is None for one in first]
        found, expected = ([one.score.value for one in scored if one is not None] for scored in (again, first))
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_an_image_without_its_time_is_refused(self, detector: Detector, scene_frames: list[Frame]) -> None:
        with pytest.raises(ConfigError, match="an image needs its time"):
            detector.step(scene_frames[0].image)

    def test_the_flow_is_scaled(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        detector = Detector.open(nano_bundle, threads=1, skip_static=False)
        maps = []
        for scale in (1.0, 0.5):
            detector.reset()
            scored = [detector.step(frame, flow_scale=scale) for frame in scene_frames[:9]][-1]
            assert scored is not None
            maps.append(scored.evidence.maps["flow_mean"])
        assert maps[1] == pytest.approx(maps[0] / 2, rel=0.01, abs=0.01)

    def test_frames_that_are_not_due_become_part_of_later_clips(
        self, detector: Detector, scene_frames: list[Frame]
    ) -> None:
        expected = keys(run(detector, scene_frames))
        detector.reset()
        scored = [detector.step(frame, is_due=frame.index % 3 == 0) for frame in scene_frames]
        found = keys(None if one is None else one.score for one in scored)
        assert found == [each if i % 3 == 0 else None for i, each in enumerate(expected)]

    def test_it_is_ready_once_the_clip_is_complete(self, detector: Detector, scene_frames: list[Frame]) -> None:
        detector.reset()
        ready = []
        for frame in scene_frames[:6]:
            detector.step(frame, is_due=False)
            ready.append(detector.is_ready)
        assert ready == [False] * N_PAST + [True] * 2

    def test_a_new_patch_filter_counts_at_once_in_a_static_scene(self, detector: Detector) -> None:
        detector.reset()
        frames = [Frame(np.full((96, 144, 3), 90, np.uint8), i / 10, i) for i in range(40)]
        plain = [detector.step(frame) for frame in frames[:38]][-1]
        asked = []

        def allow_none(channel: str, patches: PatchMap) -> np.ndarray:
            asked.append(channel)
            return np.zeros(patches.values.shape, np.bool_)

        filtered = [detector.step(frame, patch_filter=allow_none) for frame in frames[38:]]
        assert plain is not None
        assert asked, "the filter decides, although the evidence is the same"
        assert all(one is not None and one.score.value <= plain.score.value for one in filtered)


class TestNoFiniteScore:
    def test_a_network_that_fails_on_what_moves_is_refused_when_it_is_opened(
        self, nano_bundle: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(BundleError, match="of finite numbers, see frame_error"):
            Detector.open(unfinite(nano_bundle, tmp_path, "flow"), threads=1)

    @pytest.mark.parametrize("update", ["off", "always", "bounded"])
    def test_it_is_an_error_and_the_next_clip_is_scored(
        self, nano_bundle: Path, scene_frames: list[Frame], tmp_path: Path, update: str
    ) -> None:
        bundle = unfinite(nano_bundle, tmp_path, "frames", most=0.6)
        detector = Detector.open(bundle, threads=1, update=update, skip_static=False)  # type: ignore[arg-type]
        normal = keys(run(detector, scene_frames[:10]))
        black = np.zeros_like(scene_frames[0].image)
        assert run(detector, [replace(frame, image=black) for frame in scene_frames[:4]]) == [None] * 4
        with pytest.raises(BundleError, match="the network gives no finite score for frame 4"):
            detector.step(replace(scene_frames[4], image=black))
        scored = [detector.step(frame) for frame in scene_frames[:10]]
        assert keys(None if one is None else one.score for one in scored) == normal


class TestOptions:
    def test_what_is_refused(self, nano_bundle: Path) -> None:
        for options, match in (
            ({"runtime": "openvno"}, "did you mean 'openvino'"),
            ({"runtime": "os:system"}, "unknown runtime"),
            ({"update": "sometimes"}, "'off', 'gated', 'always' or 'bounded'"),
            ({"threads": 0}, "at least 1 thread"),
            ({"threads": -3}, "at least 1 thread"),
        ):
            with pytest.raises(ConfigError, match=match):
                Detector.open(nano_bundle, **options)  # type: ignore[arg-type]

    def test_evidence_has_every_map(self, detector: Detector, scene_frames: list[Frame]) -> None:
        maps = scored_frames(detector, scene_frames[:5])[0].evidence.maps
        outputs = {name for name in detector.bundle.config["graph"]["outputs"] if "updated" not in name}
        assert {*outputs, *INPUT_MAPS} <= set(maps)
        spec = detector.bundle.calibration.settings
        for channel in (*spec.motion, *spec.appearance):
            assert np.isfinite(patch_map(maps, channel).values).all()


def test_updated_items_are_computed_only_where_they_are_wanted(nano_bundle: Path) -> None:
    detector, updating = (Detector.open(nano_bundle, threads=1, update=update) for update in ("off", "gated"))
    outputs = set(detector.bundle.config["graph"]["outputs"])
    assert set(updating.stages.runtime.run(updating.stages.example_inputs())) == outputs
    plain = set(detector.stages.runtime.run(detector.stages.example_inputs()))
    assert plain == {name for name in outputs if "updated" not in name}
    with pytest.raises(BundleError, match="returns no updated_"):
        Detector(detector.bundle, runtime=detector.stages.runtime, update="gated")


class CountingRuntime(OpenVino):
    """Counts its runs."""

    n_runs = 0

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        self.n_runs += 1
        return super().run(inputs)


class TestNetworkIsRunWhereItIsNeeded:
    """Channels of frames and flow alone need no network."""

    @pytest.fixture
    def bundle(self) -> Bundle:
        return open_bundle(Path(__file__).parents[1] / "models" / "ped2-small")

    def test_the_scores_are_the_same_bit_for_bit(self, bundle: Bundle, scene_frames: list[Frame]) -> None:
        assert not bundle.calibration.settings.needs_network
        runtimes = [CountingRuntime(bundle.network, 1) for _ in range(2)]
        skipping = Detector(bundle, runtime=runtimes[0], with_heat_maps=True)
        running = Detector(bundle, runtime=runtimes[1], with_heat_maps=True, all_evidence=True)
        opened = [runtime.n_runs for runtime in runtimes]
        assert keys(run(skipping, scene_frames)) == keys(run(running, scene_frames))
        assert runtimes[0].n_runs == opened[0]
        assert runtimes[1].n_runs > opened[1]
        assert "flow_error" in scored_frames(running, scene_frames[:6])[0].evidence.maps

    def test_an_update_of_the_memory_needs_it(self, bundle: Bundle) -> None:
        assert Detector.open(bundle.path, threads=1, update="gated").stages.runs_network

    def test_a_learned_channel_and_the_score_of_the_thesis_need_it(self, nano_bundle: Path) -> None:
        assert Detector.open(nano_bundle, threads=1).stages.runs_network
        assert ScoringSettings(motion=("flow_speed:8",), appearance=(), score="thesis").needs_network
        assert not ScoringSettings(motion=("flow_speed:8",), appearance=()).needs_network


class TestRefused:
    """What a caller without a type checker may give, and what cannot be done with a detector."""

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"threads": "1"}, "got threads='1': expected a whole number"),
            ({"threads": True}, "got threads=True: expected a whole number"),
            ({"threads": 2.5}, "got threads=2.5: expected a whole number"),
            ({"threads": 0}, "at least 1 thread"),
            ({"runtime": None}, "runtime is a NoneType: expected a name, openvino"),
            ({"precision": None}, "precision is a NoneType: expected a name"),
            ({"device": 0}, "device is a int: expected a name"),
            ({"flow_weights": 3}, "flow_weights is a int: expected the path"),
            ({"update": None}, "update is None: expected 'off'"),
        ],
    )
    def test_an_option_of_another_type(self, nano_bundle: Path, options: dict[str, Any], text: str) -> None:
        with pytest.raises(ConfigError, match=text) as caught:
            Detector.open(nano_bundle, **options)
        assert "\n" not in str(caught.value)

    def test_a_path_in_place_of_a_bundle_and_the_other_way_round(self, nano_bundle: Path) -> None:
        with pytest.raises(ConfigError, match=r"got a str: use Detector\.open\(path\)"):
            Detector(str(nano_bundle))  # type: ignore[arg-type]
        with pytest.raises(BundleError, match="by the path of its folder, got a Bundle"):
            Detector.open(open_bundle(nano_bundle))  # type: ignore[arg-type]

    @pytest.mark.parametrize("flow_scale", [float("nan"), float("inf"), 0, -1, "1", None, True])
    def test_a_factor_of_the_flow(self, detector: Detector, scene_frames: list[Frame], flow_scale: Any) -> None:
        with pytest.raises(ConfigError, match=r"flow_scale is .*: expected a positive number"):
            detector.step(scene_frames[0], flow_scale=flow_scale)

    @pytest.mark.parametrize("time_s", [float("nan"), float("inf"), "a"])
    def test_a_time(self, detector: Detector, scene_frames: list[Frame], time_s: Any) -> None:
        with pytest.raises(SourceError, match="a frame has the time"):
            detector.step(scene_frames[0].image, time_s)

    def test_a_second_time(self, detector: Detector, scene_frames: list[Frame]) -> None:
        with pytest.raises(ConfigError, match=r"a Frame has its own time, 0\.0 s, and 5\.0 was given too"):
            detector.step(scene_frames[0], 5.0)

    @pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
    def test_a_copy(self, detector: Detector, copied: Callable[[object], object]) -> None:
        with pytest.raises(TypeError, match=r"open one with Detector\.open in each process"):
            copied(detector)


@pytest.mark.parametrize("runtime", RUNTIMES)
class TestEveryRuntime:
    """The contract of a runtime: whatever is in the table is held to it."""

    def detector(self, bundle: Path, runtime: str, **options: object) -> Detector:
        pytest.importorskip({"onnx": "onnxruntime", "pytorch": "torch"}.get(runtime, runtime))
        return Detector.open(bundle, runtime=runtime, threads=1, **options)  # type: ignore[arg-type]

    @pytest.mark.parametrize("update", ["off", "always", "bounded"])
    def test_agrees_with_the_default_to_a_ten_thousandth(
        self, nano_bundle: Path, scene_frames: list[Frame], runtime: str, update: str
    ) -> None:
        one = run(self.detector(nano_bundle, runtime, with_heat_maps=True, update=update), scene_frames)
        other = run(self.detector(nano_bundle, "openvino", with_heat_maps=True, update=update), scene_frames)
        for a, b in zip(one, other, strict=True):
            assert (a is None) == (b is None)
            if a is None or b is None:
                continue
            assert (a.value, a.appearance, a.motion) == pytest.approx((b.value, b.appearance, b.motion), abs=1e-4)
            assert a.heat_map == pytest.approx(b.heat_map, abs=1e-4)
            assert (a.index, a.time_s) == (b.index, b.time_s)

    def test_gives_the_names_shapes_and_types_of_the_graph(self, nano_bundle: Path, runtime: str) -> None:
        detector = self.detector(nano_bundle, runtime, update="gated")
        inputs = detector.stages.example_inputs()
        before = {name: array.copy() for name, array in inputs.items()}
        answers = detector.stages.runtime.run(inputs)
        assert detector.stages.runtime.name == runtime
        assert set(answers) == set(detector.bundle.config["graph"]["outputs"])
        for name, array in answers.items():
            assert array.dtype == np.float32
            if name.startswith("updated_"):
                assert array.shape == inputs[f"{name.removeprefix('updated_')}_items"].shape
            else:
                pitch = 8 if name.endswith("_distance") else 4
                assert array.shape[0] == 1
                assert array.shape[2:] == (32 // pitch, 48 // pitch)
        assert all(np.array_equal(inputs[name], before[name]) for name in before)

    def test_has_no_state_between_calls_and_never_overwrites_its_outputs(
        self, nano_bundle: Path, scene_frames: list[Frame], runtime: str
    ) -> None:
        detector = self.detector(nano_bundle, runtime)
        rng = np.random.default_rng(0)
        one = detector.stages.example_inputs()
        other = {name: rng.normal(0, 1, array.shape).astype(np.float32) for name, array in one.items()}
        first = detector.stages.runtime.run(one)
        copies = {name: array.copy() for name, array in first.items()}
        detector.stages.runtime.run(other)
        assert all(np.array_equal(first[name], copies[name]) for name in copies), "outputs are not overwritten"
        again = detector.stages.runtime.run(one)
        assert all(np.array_equal(again[name], copies[name]) for name in copies)

    def test_threads_may_share_it(self, nano_bundle: Path, runtime: str) -> None:
        shared = self.detector(nano_bundle, runtime)
        inputs = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            example = shared.stages.example_inputs().items()
            inputs.append({name: rng.normal(0, 1, array.shape).astype(np.float32) for name, array in example})
        expected = [shared.stages.runtime.run(one) for one in inputs]
        start = threading.Barrier(len(inputs))

        def differing(k: int) -> list[int]:
            start.wait(60)
            found = []
            for number in range(100):
                given = shared.stages.runtime.run({name: array.copy() for name, array in inputs[k].items()})
                if not all(np.array_equal(given[name], expected[k][name]) for name in given):
                    found.append(number)
            return found

        with ThreadPoolExecutor(len(inputs)) as pool:
            assert list(pool.map(differing, range(len(inputs)))) == [[]] * len(inputs)

    def test_takes_arrays_that_are_not_contiguous(self, nano_bundle: Path, runtime: str) -> None:
        detector = self.detector(nano_bundle, runtime)
        rng = np.random.default_rng(0)
        plain = {
            name: rng.normal(0, 1, a.shape).astype(np.float32) for name, a in detector.stages.example_inputs().items()
        }
        strided = {name: np.asfortranarray(array) for name, array in plain.items()}
        one, other = detector.stages.runtime.run(plain), detector.stages.runtime.run(strided)
        assert all(np.array_equal(one[name], other[name]) for name in one)


ISOLATED = """
    import sys

    class NoTorch:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {banned}:
                raise ImportError(name + " is not to be imported here")

    sys.meta_path.insert(0, NoTorch())
    import numpy as np
    import comemory.detector
    from comemory.types import Frame

    detector = comemory.detector.Detector.open({bundle!r}, runtime={runtime!r}, threads=1)
    rng = np.random.default_rng(0)
    for i in range(7):
        scored = detector.step(Frame(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), i / 10, i))
    if scored is None or {{"torch", "lightning_fabric", "pickle5"}} & set(sys.modules):
        raise SystemExit("no score, or torch is loaded")
"""


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_scoring_works_where_torch_is_not(nano_bundle: Path, runtime: str) -> None:
    banned = ("torch", "lightning_fabric", "scipy", "matplotlib", "onnx", "onnxscript")
    code = textwrap.dedent(ISOLATED.format(bundle=str(nano_bundle), runtime=runtime, banned=banned))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_runtime_whose_package_is_absent_says_what_to_install(nano_bundle: Path) -> None:
    code = f"""
        import sys
        sys.modules["torch"] = sys.modules["onnxruntime"] = None
        from comemory.detector import Detector
        from comemory.errors import RuntimeMissing
        for runtime in ("pytorch", "onnx"):
            try:
                Detector.open({str(nano_bundle)!r}, runtime=runtime)
            except RuntimeMissing as error:
                print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    torch, onnx = done.stdout.splitlines()
    assert torch.endswith("pip install '.[train]'")
    assert onnx.endswith("pip install '.[onnx]'")


def test_agitation_fades_while_nothing_moves(nano_bundle: Path) -> None:
    """A static scene reuses the evidence of the network, and its agitation goes on fading."""
    detector = Detector.open(nano_bundle)
    background = np.full((128, 192, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    texture = rng.integers(60, 200, (40, 40, 3), dtype=np.uint8)
    levels = []
    for i in range(260):
        image = background.copy()
        if i < 60:
            left = 60 + (6 if i % 2 else 0)
            image[40:80, left : left + 40] = texture
        scored = detector.step(Frame(image, i / 10, i))
        if scored is not None:
            levels.append(float(scored.evidence.maps["agitation"].max()))
    assert max(levels) > 0.5
    assert levels[-1] < 0.02 * max(levels)


@pytest.mark.parametrize("sigma", [4, 8])
def test_a_camera_noisier_than_its_footage_raises_no_alarm(sigma: float) -> None:
    """As at night: flow is estimated in noise, and must not count as agitation."""
    detector = Detector.open(Path(__file__).parents[1] / "models" / "synthetic-nano", threads=1)
    (video,) = open_dataset("synthetic:seed=7,frames=120,training=1").training()
    rng = np.random.default_rng(0)
    highest = 0.0
    for frame in open_source(video.source):
        noise = rng.normal(0, sigma, (*frame.image.shape[:2], 1))
        scored = detector.step(replace(frame, image=(frame.image + noise).clip(0, 255).astype(np.uint8)))
        highest = max(highest, scored.score.value if scored else 0.0)
    assert 0 < highest < detector.bundle.calibration.threshold("1/h")
