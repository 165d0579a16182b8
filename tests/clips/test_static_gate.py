"""The gate of still scenes: what it lets pass, and what it may never hide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.clips.static_gate import (
    BLOCK,
    MAX_THRESHOLD,
    MIN_THRESHOLD,
    THRESHOLD,
    StaticFrameGate,
    block_means,
    fit_threshold,
    patience,
)
from comemory.detector import Detector
from comemory.scoring import peak
from comemory.scoring.tail import TAIL_START
from comemory.types import Frame, Score

Picture = NDArray[np.uint8]


def ground(seed: int = 0, shape: tuple[int, ...] = (1, 32, 48)) -> Picture:
    return np.random.default_rng(seed).integers(40, 200, shape, np.uint8)


def test_block_means_are_means_of_blocks() -> None:
    picture = ground(shape=(3, 16, 24))
    expected = picture.reshape(3, 4, BLOCK, 6, BLOCK).mean(axis=(2, 4)).reshape(12, 6)
    np.testing.assert_allclose(block_means(picture), expected, atol=1e-3)


class TestGate:
    @given(n_wait=st.integers(0, 6))
    @settings(deadline=None, max_examples=10)
    def test_it_closes_after_so_many_quiet_frames(self, n_wait: int) -> None:
        gate = StaticFrameGate(n_wait)
        answers = [gate.update(ground()) for _ in range(12)]
        assert answers == [i > n_wait for i in range(12)]

    def test_noise_does_not_open_it(self) -> None:
        gate, noise = StaticFrameGate(2, MAX_THRESHOLD), np.random.default_rng(1)
        picture = ground().astype(float)
        answers = [gate.update((picture + noise.normal(0, 2, picture.shape)).astype(np.uint8)) for _ in range(40)]
        assert all(answers[3:])

    @given(top=st.integers(0, 7), left=st.integers(0, 11), change=st.sampled_from([-30, -5, 4, 20]))
    @settings(deadline=None, max_examples=30)
    def test_one_block_that_changes_opens_it(self, top: int, left: int, change: int) -> None:
        gate, picture = StaticFrameGate(0), ground()
        assert [gate.update(picture) for _ in range(3)] == [False, True, True]
        picture = picture.copy()
        place = picture[0, top * BLOCK : (top + 1) * BLOCK, left * BLOCK : (left + 1) * BLOCK]
        place[:] = (place.astype(int) + change).astype(np.uint8)
        assert not gate.update(picture)

    def test_slow_changes_add_up(self) -> None:
        """A thing that fades in by half a grey level a frame is seen again and again."""
        gate = StaticFrameGate(0)
        answers = []
        for i in range(60):
            picture = ground()
            picture[0, 8:16, 8:16] += np.uint8(i // 2)
            answers.append(gate.update(picture))
        steps = np.flatnonzero(~np.array(answers))
        assert np.diff(steps).max() <= 2 * THRESHOLD + 2

    def test_reset_forgets(self) -> None:
        gate = StaticFrameGate(0)
        assert [gate.update(ground()), gate.update(ground())] == [False, True]
        gate.reset()
        assert not gate.update(ground())

    @given(noise=st.sampled_from([0.0, 0.5, 2.0, 5.0, 40.0]))
    @settings(deadline=None, max_examples=5)
    def test_the_threshold_of_a_camera_is_over_its_noise(self, noise: float) -> None:
        rng = np.random.default_rng(0)
        video = np.clip(ground() + rng.normal(0, noise, (60, 1, 32, 48)), 0, 255).astype(np.uint8)
        video[:, :, 8:16, 8:16] = rng.integers(0, 255, (60, 1, 8, 8))
        threshold = fit_threshold([video[:30], video[30:]])
        assert MIN_THRESHOLD <= threshold <= MAX_THRESHOLD
        video[:, :, 8:16, 8:16] = 100
        gate = StaticFrameGate(0, threshold)
        answers = [gate.update(picture) for picture in video]
        assert all(answers[1:]) == (noise < 5), "a camera with much noise is never still"
        assert noise < 40 or not any(answers)

    def test_without_pictures_the_threshold_is_the_lowest(self) -> None:
        assert fit_threshold([]) == fit_threshold([np.zeros((1, 1, 32, 48), np.uint8)]) == MIN_THRESHOLD

    def test_patience_covers_the_clip_and_the_carried_flow(self) -> None:
        assert patience(4, 0.0) == 5
        assert 0.7 ** (patience(4, 0.7) - 5) <= 0.01


def scenes(scene_frames: list[Frame], n_still: int = 60) -> list[Frame]:
    """A rendered scene that stands still in the middle, but for the noise of a camera."""
    noise = np.random.default_rng(3)
    images = [frame.image for frame in scene_frames[:12]]
    still = [
        np.clip(images[-1] + noise.normal(0, 2, images[-1].shape), 0, 255).astype(np.uint8) for _ in range(n_still)
    ]
    images += still + [frame.image for frame in scene_frames[12:]]
    return [Frame(image, i / 10, i) for i, image in enumerate(images)]


class Counting:
    """How often the flow was estimated."""

    def __init__(self, detector: Detector) -> None:
        self.estimate, self.calls = detector.builder.preparation.estimator.estimate, 0
        detector.builder.preparation.estimator.estimate = self  # type: ignore[assignment,method-assign]

    def __call__(self, previous: Picture, current: Picture) -> NDArray[np.float32]:
        self.calls += 1
        return self.estimate(previous, current)


class TestDetector:
    def watched(self, bundle: Path, frames: list[Frame], gate: bool) -> tuple[list[Score | None], int]:
        detector = Detector.open(bundle, threads=1, gate=gate)
        counting = Counting(detector)
        return [seen.score for seen in detector.watch(frames)], counting.calls

    def test_a_still_scene_costs_no_flow_and_repeats_its_score(
        self, nano_bundle: Path, scene_frames: list[Frame]
    ) -> None:
        frames = scenes(scene_frames)
        gated, n_gated = self.watched(nano_bundle, frames, gate=True)
        full, n_full = self.watched(nano_bundle, frames, gate=False)
        assert n_full == len(frames) - 1
        assert n_gated <= n_full - 60 + patience(4, 0.7) + 1
        still = [score for score in gated[12 + patience(4, 0.7) + 1 : 72] if score is not None]
        assert len({score.value for score in still}) == 1
        assert [score.index for score in still] == [*range(still[0].index, 72)]
        assert [one is None for one in gated] == [one is None for one in full]

    def test_before_and_soon_after_it_is_as_without(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        frames = scenes(scene_frames)
        gated, _ = self.watched(nano_bundle, frames, gate=True)
        full, _ = self.watched(nano_bundle, frames, gate=False)
        for one, other in zip(gated[4:18], full[4:18], strict=True):
            assert one is not None
            assert other is not None
            assert one.value == other.value
        levels = [self.levels(nano_bundle, frames, gate) for gate in (True, False)]
        for one_frame, other_frame in zip(*(found[72:] for found in levels), strict=True):
            assert one_frame == pytest.approx(other_frame, abs=0.3)

    def levels(self, bundle: Path, frames: list[Frame], gate: bool) -> list[dict[str, float]]:
        """The scaled channels of each frame; agitation from where its tail begins: without a gate it is seldom calm."""
        detector = Detector.open(bundle, threads=1, gate=gate)
        fitted = detector.bundle.calibration
        channels = (*fitted.settings.motion, *fitted.settings.appearance)
        return [
            {
                name: max(
                    float(fitted.scales[name](peak(seen.maps, name).value)), TAIL_START if "restless" in name else -1.0
                )
                for name in channels
            }
            if seen.maps
            else {}
            for seen in detector.watch(frames)
        ]

    def test_a_thing_that_is_put_down_is_scored_in_full(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        frames = scenes(scene_frames)[:60]
        frames += [Frame(frame.image.copy(), 6 + i / 10, 60 + i) for i, frame in enumerate(frames[40:60])]
        for frame in frames[60:]:
            frame.image[30:54, 40:60] = 255 - frame.image[30:54, 40:60]
        gated, _ = self.watched(nano_bundle, frames, gate=True)
        full, _ = self.watched(nano_bundle, frames, gate=False)
        one, other = gated[60], full[60]
        assert one is not None
        assert other is not None
        assert one.appearance == pytest.approx(other.appearance, abs=0.1)
        assert gated[59] is not None
        assert one.value != gated[59].value
