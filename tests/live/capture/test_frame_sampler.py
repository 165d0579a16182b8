"""Frames of cameras of any rate, resampled to the rate of the training."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.live.capture.frame_queue import FrameQueue, QueuedFrame
from comemory.live.capture.frame_sampler import FrameSampler, Sample


def sample_all(
    sampler: FrameSampler, camera_hz: float, n: int = 300, start_s: float = 0.0
) -> list[tuple[float, Sample]]:
    times = [start_s + k / camera_hz for k in range(n)]
    return [(time_s, sample) for time_s in times if (sample := sampler.sample(time_s)) is not None]


class TestFrameSampler:
    @pytest.mark.parametrize("camera_hz", [9.3, 10.0, 10.8])
    def test_camera_with_the_trained_rate_is_taken_frame_by_frame(self, camera_hz: float) -> None:
        samples = [sample for _, sample in sample_all(FrameSampler(10), camera_hz)]
        assert [sample.index for sample in samples] == list(range(samples[0].index, samples[0].index + 300))
        assert {sample.flow_scale for sample in samples} == {1.0}

    @given(st.floats(12, 120), st.floats(4, 30))
    @settings(max_examples=40)
    def test_faster_camera_is_resampled_to_the_trained_rate(self, camera_hz: float, rate_hz: float) -> None:
        if camera_hz < 1.2 * rate_hz:
            return
        sampler = FrameSampler(rate_hz)
        sampler.restart(camera_hz)
        found = sample_all(sampler, camera_hz, 600)
        assert len(found) == pytest.approx(600 / camera_hz * rate_hz, rel=0.05, abs=2)
        assert np.diff([sample.index for _, sample in found]).max() == 1
        for (before, _), (now, sample) in pairwise(found):
            assert sample.flow_scale == pytest.approx(1 / rate_hz / (now - before))

    def test_flow_of_a_slow_camera_is_scaled(self) -> None:
        sampler = FrameSampler(10)
        sampler.restart(5)
        samples = [sample for _, sample in sample_all(sampler, 5)][1:]
        assert {round(sample.flow_scale, 6) for sample in samples} == {0.5}

    @pytest.mark.parametrize("fps", [1.0, 2.5, 5.0, 7.0, 10.0, 30.0])
    def test_fps_limits_the_scored_samples(self, fps: float) -> None:
        due = [sample.is_due for _, sample in sample_all(FrameSampler(10, fps), 10)]
        assert sum(due) == pytest.approx(300 * min(1, fps / 10), abs=2)

    def test_gap_starts_another_clip(self) -> None:
        sampler = FrameSampler(10)
        last = sample_all(sampler, 10, 20)[-1][1].index
        after = sampler.sample(5.0)
        assert after is not None
        assert after.index == last + 2
        sampler.mark_gap()
        lost = sampler.sample(5.1)
        assert lost is not None
        assert lost.index == after.index + 2


def queued(k: int) -> QueuedFrame:
    return QueuedFrame(np.zeros((1, 1, 3), np.uint8), Sample(k, 1.0, True), float(k), float(k), float(k), (1, 1))


class TestFrameQueue:
    def test_newest_frames_stay_and_dropped_ones_are_counted(self) -> None:
        queue = FrameQueue(5, lossless=False)
        for k in range(12):
            queue.put(queued(k), lambda: False)
        assert queue.oldest_arrival == 7.0
        assert [one.sample.index for one in queue.pop_all()] == [7, 8, 9, 10, 11]
        assert queue.dropped == 7
        assert queue.oldest_arrival is None

    def test_lossless_queue_blocks_until_there_is_room(self) -> None:
        queue, seen = FrameQueue(2, lossless=True), []
        thread = threading.Thread(target=lambda: [queue.put(queued(k), lambda: False) for k in range(10)])
        thread.start()
        while len(seen) < 10:
            seen += [one.sample.index for one in queue.pop_all()]
        thread.join()
        assert seen == list(range(10))
        assert queue.dropped == 0

    def test_stopping_ends_the_wait(self) -> None:
        queue = FrameQueue(1, lossless=True)
        queue.put(queued(0), lambda: False)
        queue.put(queued(1), lambda: True)
        assert queue.dropped == 1
