"""The static frame gate: which frames it skips, and what it must never skip."""

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
    n_frames_to_settle,
)
from comemory.detector import Detector
from comemory.scoring import find_peak
from comemory.scoring.tail import TAIL_START
from comemory.types import Frame, Score

Image = NDArray[np.uint8]


def texture(seed: int = 0, shape: tuple[int, ...] = (1, 32, 48)) -> Image:
    return np.random.default_rng(seed).integers(40, 200, shape, np.uint8)


def test_block_means_are_means_of_blocks() -> None:
    image = texture(shape=(3, 16, 24))
    expected = image.reshape(3, 4, BLOCK, 6, BLOCK).mean(axis=(2, 4)).reshape(12, 6)
    np.testing.assert_allclose(block_means(image), expected, atol=1e-3)


class TestGate:
    @given(n_wait=st.integers(0, 6))
    @settings(deadline=None, max_examples=10)
    def test_frames_are_static_after_the_patience(self, n_wait: int) -> None:
        gate = StaticFrameGate(n_wait)
        answers = [gate.update(texture()) for _ in range(12)]
        assert answers == [i > n_wait for i in range(12)]

    def test_noise_is_static(self) -> None:
        gate, noise = StaticFrameGate(2, MAX_THRESHOLD), np.random.default_rng(1)
        image = texture().astype(float)
        answers = [gate.update((image + noise.normal(0, 2, image.shape)).astype(np.uint8)) for _ in range(40)]
        assert all(answers[3:])

    @given(top=st.integers(0, 7), left=st.integers(0, 11), change=st.sampled_from([-30, -5, 4, 20]))
    @settings(deadline=None, max_examples=30)
    def test_one_changed_block_is_not_static(self, top: int, left: int, change: int) -> None:
        gate, image = StaticFrameGate(0), texture()
        assert [gate.update(image) for _ in range(3)] == [False, True, True]
        image = image.copy()
        place = image[0, top * BLOCK : (top + 1) * BLOCK, left * BLOCK : (left + 1) * BLOCK]
        place[:] = (place.astype(int) + change).astype(np.uint8)
        assert not gate.update(image)

    def test_slow_changes_add_up(self) -> None:
        """An object that fades in by half a grey level a frame is detected again and again."""
        gate = StaticFrameGate(0)
        answers = []
        for i in range(60):
            image = texture()
            image[0, 8:16, 8:16] += np.uint8(i // 2)
            answers.append(gate.update(image))
        steps = np.flatnonzero(~np.array(answers))
        assert np.diff(steps).max() <= 2 * THRESHOLD + 2

    def test_reset_forgets_the_reference(self) -> None:
        gate = StaticFrameGate(0)
        assert [gate.update(texture()), gate.update(texture())] == [False, True]
        gate.reset()
        assert not gate.update(texture())

    @given(noise=st.sampled_from([0.0, 0.5, 2.0, 5.0, 40.0]))
    @settings(deadline=None, max_examples=5)
    def test_the_fitted_threshold_lies_above_the_noise(self, noise: float) -> None:
        rng = np.random.default_rng(0)
        video = np.clip(texture() + rng.normal(0, noise, (60, 1, 32, 48)), 0, 255).astype(np.uint8)
        video[:, :, 8:16, 8:16] = rng.integers(0, 255, (60, 1, 8, 8))
        threshold = fit_threshold([video[:30], video[30:]])
        assert MIN_THRESHOLD <= threshold <= MAX_THRESHOLD
        video[:, :, 8:16, 8:16] = 100
        gate = StaticFrameGate(0, threshold)
        answers = [gate.update(image) for image in video]
        assert all(answers[1:]) == (noise < 5), "a camera with much noise is never static"
        assert noise < 40 or not any(answers)

    def test_without_video_the_threshold_is_the_minimum(self) -> None:
        assert fit_threshold([]) == fit_threshold([np.zeros((1, 1, 32, 48), np.uint8)]) == MIN_THRESHOLD

    def test_patience_covers_the_clip_and_the_averaged_flow(self) -> None:
        assert n_frames_to_settle(4, 0.0) == 5
        assert 0.7 ** (n_frames_to_settle(4, 0.7) - 5) <= 0.01


def scenes(scene_frames: list[Frame], n_static: int = 60) -> list[Frame]:
    """A rendered scene that is static in the middle, apart from the noise of a camera."""
    noise = np.random.default_rng(3)
    images = [frame.image for frame in scene_frames[:12]]
    static = [
        np.clip(images[-1] + noise.normal(0, 2, images[-1].shape), 0, 255).astype(np.uint8) for _ in range(n_static)
    ]
    images += static + [frame.image for frame in scene_frames[12:]]
    return [Frame(image, i / 10, i) for i, image in enumerate(images)]


class Counting:
    """Counts how often the flow is estimated."""

    def __init__(self, detector: Detector) -> None:
        self.estimate, self.calls = detector.stages.builder.preparer.estimator.estimate, 0
        detector.stages.builder.preparer.estimator.estimate = self  # type: ignore[assignment,method-assign]

    def __call__(self, previous: Image, current: Image) -> NDArray[np.float32]:
        self.calls += 1
        return self.estimate(previous, current)


class TestDetector:
    def run(self, bundle: Path, frames: list[Frame], gate: bool) -> tuple[list[Score | None], int]:
        detector = Detector.open(bundle, threads=1, skip_static=gate)
        counting = Counting(detector)
        return [scored and scored.score for scored in map(detector.step, frames)], counting.calls

    def test_a_static_scene_needs_no_flow_and_repeats_its_score(
        self, nano_bundle: Path, scene_frames: list[Frame]
    ) -> None:
        frames = scenes(scene_frames)
        gated, n_gated = self.run(nano_bundle, frames, gate=True)
        full, n_full = self.run(nano_bundle, frames, gate=False)
        assert n_full == len(frames) - 1
        assert n_gated <= n_full - 60 + n_frames_to_settle(4, 0.7) + 1
        static = [score for score in gated[12 + n_frames_to_settle(4, 0.7) + 1 : 72] if score is not None]
        assert len({score.value for score in static}) == 1
        assert [score.index for score in static] == [*range(static[0].index, 72)]
        assert [one is None for one in gated] == [one is None for one in full]

    def test_around_a_static_scene_scores_are_as_without_the_gate(
        self, nano_bundle: Path, scene_frames: list[Frame]
    ) -> None:
        frames = scenes(scene_frames)
        gated, _ = self.run(nano_bundle, frames, gate=True)
        full, _ = self.run(nano_bundle, frames, gate=False)
        for one, other in zip(gated[4:18], full[4:18], strict=True):
            assert one is not None
            assert other is not None
            assert one.value == other.value
        levels = [self.levels(nano_bundle, frames, gate) for gate in (True, False)]
        for one_frame, other_frame in zip(*(found[72:] for found in levels), strict=True):
            assert one_frame == pytest.approx(other_frame, abs=0.3)

    def levels(self, bundle: Path, frames: list[Frame], gate: bool) -> list[dict[str, float]]:
        """The scaled channels of each frame; agitation from where its tail begins: without a gate it is seldom calm."""
        detector = Detector.open(bundle, threads=1, skip_static=gate)
        fitted = detector.bundle.calibration
        channels = (*fitted.settings.motion, *fitted.settings.appearance)
        return [
            {
                name: max(
                    float(fitted.scales[name](find_peak(scored.evidence.maps, name).value)),
                    TAIL_START if "agitation" in name else -1.0,
                )
                for name in channels
            }
            if scored is not None
            else {}
            for scored in map(detector.step, frames)
        ]

    def test_an_object_that_is_put_down_is_scored_in_full(self, nano_bundle: Path, scene_frames: list[Frame]) -> None:
        frames = scenes(scene_frames)[:60]
        frames += [Frame(frame.image.copy(), 6 + i / 10, 60 + i) for i, frame in enumerate(frames[40:60])]
        for frame in frames[60:]:
            frame.image[30:54, 40:60] = 255 - frame.image[30:54, 40:60]
        gated, _ = self.run(nano_bundle, frames, gate=True)
        full, _ = self.run(nano_bundle, frames, gate=False)
        one, other = gated[60], full[60]
        assert one is not None
        assert other is not None
        assert one.appearance == pytest.approx(other.appearance, abs=0.1)
        assert gated[59] is not None
        assert one.value != gated[59].value
