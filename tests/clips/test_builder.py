"""Frames to clips: one truth for pixels, whichever way they come."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from comemory.clips.builder import ClipBuilder
from comemory.clips.config import ClipSettings
from comemory.clips.layout import assemble_clip, round_to_float16, to_floats
from comemory.clips.preparation import FramePreparer, PreparedFrame
from comemory.errors import SourceError
from comemory.flow import FlowSettings, open_flow
from comemory.types import Clip, FlowEstimator, Frame, LabelledSource
from comemory.video.resize import luma

SMALL = ClipSettings(height=32, width=48, flow_height=48, flow_width=72, n_past=3)


def dis() -> FlowEstimator:
    return open_flow(FlowSettings(preset="ultrafast"))


def built(frames: list[Frame], spec: ClipSettings, estimator: FlowEstimator | None = None) -> list[Clip | None]:
    builder = ClipBuilder(spec, estimator or dis())
    return [builder.add_frame(frame) for frame in frames]


def same(one: Clip | None, other: Clip | None) -> bool:
    if one is None or other is None:
        return one is other
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.flow, other.flow)
        and (one.index, one.time_s) == (other.index, other.time_s)
    )


class Listed:
    """A source made in memory."""

    name = "listed"
    rate_hz = 25.0

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def __iter__(self):
        return iter(self.frames)


class TestRoundToFloat16:
    @given(hnp.arrays(np.float32, (2, 3), elements=st.floats(width=32)))
    @settings(max_examples=300, deadline=None)
    def test_it_equals_a_conversion_to_float16_and_back(self, flow: NDArray[np.float32]) -> None:
        flow = np.nan_to_num(flow, posinf=3.4e38, neginf=-3.4e38)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(round_to_float16(flow), flow.astype(np.float16).astype(np.float32))

    def test_every_float16_and_every_midpoint(self) -> None:
        every = np.arange(2**15, dtype=np.uint16).view(np.float16).astype(np.float32)
        every = every[np.isfinite(every)]
        halfway = (every[1:] + every[:-1]) / 2
        for flow in (
            every,
            -every,
            halfway,
            np.nextafter(halfway, np.float32(0)),
            np.nextafter(halfway, np.float32(9e9)),
        ):
            np.testing.assert_array_equal(round_to_float16(flow), flow.astype(np.float16).astype(np.float32))

    def test_large_numbers_become_infinite(self) -> None:
        flow = np.array([65519, 65520, -1e9], np.float32)
        np.testing.assert_array_equal(round_to_float16(flow), np.array([65504, np.inf, -np.inf], np.float32))


class TestToFloats:
    def test_range(self) -> None:
        floats = to_floats(np.arange(256, dtype=np.uint8))
        assert floats.dtype == np.float32
        assert (floats[0], floats[-1]) == (-1, 1)
        assert np.all(np.diff(floats) > 0)
        assert np.array_equal(np.round((floats.astype(np.float64) + 1) * 127.5), np.arange(256))

    @given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=6)))
    def test_each_pixel_is_scaled_independently(self, images: NDArray[np.uint8]) -> None:
        floats = to_floats(images)
        assert floats.shape == images.shape
        for place in np.ndindex(images.shape):
            assert floats[place] == to_floats(images[place][None])[0]


class TestSamePixelsEverywhere:
    @pytest.mark.parametrize("flow_of", ["next", "seen"])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("flow_ema_decay", [0.0, 0.7])
    def test_builder_assemble_and_cache_agree_bit_for_bit(
        self, tmp_path: Path, scene_frames: list[Frame], flow_of: str, channels: int, flow_ema_decay: float
    ) -> None:
        pytest.importorskip("torch", reason="the training cache comes with comemory[train]")
        from comemory.training.cache import prepare_videos

        spec = ClipSettings.model_validate(
            {**SMALL.model_dump(), "flow_of": flow_of, "channels": channels, "flow_ema_decay": flow_ema_decay}
        )
        frames = [frame for frame in scene_frames[:16] if frame.index != 7]
        clips = [clip for clip in built(frames, spec) if clip is not None]
        assert [clip.index for clip in clips] == [3, 4, 5, 6, 11, 12, 13, 14, 15]

        videos = [LabelledSource("a", Listed(frames))]
        (cached,), problems = prepare_videos(videos, tmp_path, spec, FlowSettings(preset="ultrafast"), dataset="test")
        assert not problems
        assert [int(cached.indices[t]) for t in cached.clip_ends(spec.n_past)] == [clip.index for clip in clips]

        preparer = FramePreparer(spec, dis())
        prepared: list[PreparedFrame] = []
        for before, frame in zip([None, *frames], frames, strict=False):
            if before is not None and frame.index != before.index + 1:
                preparer.reset()
            prepared.append(preparer.prepare(frame.image))
        for clip, t in zip(clips, cached.clip_ends(spec.n_past), strict=True):
            for images, flow in (
                cached.clip(t, spec),
                assemble_clip(prepared[t - spec.n_past : t + 1], spec),
            ):
                assert np.array_equal(images, clip.frames)
                assert np.array_equal(flow, clip.flow)
            agitation = cached.evidence(t)["agitation"]
            assert np.array_equal(agitation, clip.evidence["agitation"])
            assert agitation.shape == (1, 1, 8, 12)
            assert flow_ema_decay or not agitation.any()

    def test_shapes_types_and_ranges_of_a_clip(self, scene_frames: list[Frame]) -> None:
        for channels in (1, 3):
            spec = ClipSettings.model_validate({**SMALL.model_dump(), "channels": channels})
            clip = built(scene_frames[:4], spec)[-1]
            assert clip is not None
            assert (clip.frames.shape, clip.frames.dtype) == ((4, channels, 32, 48), np.float32)
            assert (clip.flow.shape, clip.flow.dtype) == ((2, 32, 48), np.float32)
            assert clip.frames.flags.c_contiguous
            assert clip.flow.flags.c_contiguous
            assert -1 <= clip.frames.min() < clip.frames.max() <= 1
            assert (clip.index, clip.time_s) == (3, scene_frames[3].time_s)

    def test_flow_is_rounded_to_float16(self, scene_frames: list[Frame]) -> None:
        clip = built(scene_frames[:5], SMALL)[-1]
        assert clip is not None
        assert np.array_equal(clip.flow, clip.flow.astype(np.float16).astype(np.float32))
        assert np.any(clip.flow)

    def test_grey_is_the_luma(self, scene_frames: list[Frame]) -> None:
        colour = FramePreparer(ClipSettings.model_validate({**SMALL.model_dump(), "channels": 3}), dis())
        grey = FramePreparer(SMALL, dis())
        image = scene_frames[0].image
        model_image = colour.prepare(image).image.transpose(1, 2, 0)
        assert np.array_equal(grey.prepare(image).image[0], luma(np.ascontiguousarray(model_image)))

    def test_frames_resized_beforehand_give_the_same_clip(self, scene_frames: list[Frame]) -> None:
        from comemory.video.resize import resize

        smaller = [
            Frame(resize(frame.image, (SMALL.flow_height, SMALL.flow_width)), frame.time_s, frame.index)
            for frame in scene_frames[:6]
        ]
        assert all(map(same, built(scene_frames[:6], SMALL), built(smaller, SMALL)))


def square_that_starts_at(k: int, n_frames: int = 14) -> list[Frame]:
    """A textured square that rests, and from frame k on moves 4 pixels to the right in every frame."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 255, (96, 144, 3), dtype=np.uint8), (0, 0), 2)
    square = cv2.GaussianBlur(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8), (0, 0), 1)
    frames = []
    for i in range(n_frames):
        image = np.array(ground, np.uint8)
        left = 20 + 4 * max(0, i - k + 1)
        image[28:68, left : left + 40] = square
        frames.append(Frame(image, i / 25, i))
    return frames


class TestAlignment:
    @pytest.mark.parametrize(("flow_of", "sees_at"), [("next", 8), ("seen", 9)])
    @pytest.mark.parametrize("flow_ema_decay", [0.0, 0.7])
    def test_motion_is_in_the_clip_whose_newest_frame_has_moved(
        self, flow_of: str, sees_at: int, flow_ema_decay: float
    ) -> None:
        spec = ClipSettings(
            height=48,
            width=72,
            flow_height=96,
            flow_width=144,
            n_past=3,
            flow_of=flow_of,
            flow_ema_decay=flow_ema_decay,
        )  # type: ignore[arg-type]
        speed = {}
        for clip in built(square_that_starts_at(8), spec):
            if clip is not None:
                speed[clip.index] = float(np.abs(clip.flow[0, 18:30, 16:26]).mean())
        first = min(index for index, value in speed.items() if value > 0.1)
        assert first == sees_at
        assert all(value < 0.05 for index, value in speed.items() if index < sees_at)

    def test_flow_is_in_pixels_of_the_models_image(self) -> None:
        spec = ClipSettings(height=48, width=72, flow_height=96, flow_width=144, n_past=3, flow_ema_decay=0)
        clip = built(square_that_starts_at(4), spec)[6]
        assert clip is not None
        middle = clip.flow[:, 20:28, 20:28].reshape(2, -1).mean(axis=1)
        assert middle == pytest.approx([2, 0], abs=0.5), "4 pixels at 96x144 are 2 at 48x72"

    def test_the_newest_frame_is_last(self) -> None:
        frames = [Frame(np.full((40, 60, 3), 20 * i, np.uint8), i / 25, i) for i in range(6)]
        clip = built(frames, SMALL)[-1]
        assert clip is not None
        assert clip.frames[:, 0, 0, 0] == pytest.approx([i * 20 / 127.5 - 1 for i in (2, 3, 4, 5)], abs=1e-6)


class Counted:
    """A flow estimator whose flow is the number of its calls."""

    name = "counted"

    def __init__(self) -> None:
        self.calls = 0

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls += 1
        return np.full((*previous.shape[:2], 2), self.calls, np.float32)


class TestGaps:
    @settings(deadline=None, max_examples=60)
    @given(steps=st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 30, 0, -3]), max_size=25))
    def test_no_clip_until_enough_consecutive_frames(self, steps: list[int]) -> None:
        index, in_a_row, frames, expected = 5, 0, [], []
        for step in steps:
            index, in_a_row = index + step, in_a_row + 1 if step == 1 and frames else 1
            frames.append(Frame(np.zeros((40, 60, 3), np.uint8), index / 25, index))
            expected.append(in_a_row > SMALL.n_past)
        clips = built(frames, SMALL, Counted())
        assert [clip is not None for clip in clips] == expected
        assert [clip.index for clip in clips if clip] == [f.index for f, e in zip(frames, expected, strict=True) if e]

    def test_after_a_gap_clips_are_as_at_the_start(self, scene_frames: list[Frame]) -> None:
        after = built([*scene_frames[:5], *scene_frames[10:20]], SMALL)[5:]
        fresh = built(scene_frames[10:20], SMALL)
        assert all(map(same, after, fresh))

    def test_reset_forgets_the_source(self, scene_frames: list[Frame]) -> None:
        builder = ClipBuilder(SMALL, dis())
        for frame in scene_frames[:8]:
            builder.add_frame(frame)
        builder.reset()
        again = [builder.add_frame(frame) for frame in scene_frames[8:14]]
        assert all(map(same, again, built(scene_frames[8:14], SMALL)))

    def test_an_invalid_frame_is_a_gap(self, scene_frames: list[Frame]) -> None:
        builder = ClipBuilder(SMALL, dis())
        for frame in scene_frames[:6]:
            builder.add_frame(frame)
        with pytest.raises(SourceError):
            builder.add_frame(Frame(np.zeros((0, 0, 3), np.uint8), 6 / 25, 6))
        clips = [builder.add_frame(frame) for frame in scene_frames[7:14]]
        assert all(map(same, clips, built(scene_frames[7:14], SMALL)))

    @settings(deadline=None, max_examples=20)
    @given(k=st.integers(0, 12))
    def test_the_first_k_frames_give_the_first_k_clips(self, scene_frames: list[Frame], k: int) -> None:
        assert all(map(same, built(scene_frames[:k], SMALL), built(scene_frames[:12], SMALL)))

    def test_frames_and_clips_are_not_changed_later(self, scene_frames: list[Frame]) -> None:
        copies = [frame.image.copy() for frame in scene_frames[:6]]
        kept = [clip for clip in built(scene_frames[:6], SMALL) if clip is not None]
        before = [clip.flow.copy() for clip in kept]
        for frame, copy in zip(scene_frames, copies, strict=False):
            assert np.array_equal(frame.image, copy)
        assert all(np.array_equal(clip.flow, flow) for clip, flow in zip(kept, before, strict=True))
