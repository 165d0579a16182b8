"""Frames of files and cameras of any rate, resampled to the rate of the training."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.live.capture.frame_queue import FrameQueue, QueuedFrame
from comemory.types import Frame
from comemory.video.frame_sampler import FrameSampler, Sample, SourceSampler, measured_rate


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
    @settings(max_examples=40, deadline=None)
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

    @pytest.mark.parametrize("camera_hz", [5.0, 10.0, 25.0])
    def test_frames_that_come_in_a_burst_after_a_late_one_have_the_usual_speed(self, camera_hz: float) -> None:
        """A camera records evenly, whatever the network does to its frames."""
        recorded = np.arange(120) / camera_hz
        arrived = recorded + np.isin(np.arange(120) % 30, 15) * 1.7 / camera_hz
        arrived = np.maximum.accumulate(arrived + np.arange(120) * 1e-3 / camera_hz)
        sampler = FrameSampler(10)
        sampler.restart(camera_hz)
        taken = [(float(time_s), sample) for time_s in arrived if (sample := sampler.sample(float(time_s))) is not None]
        usual = min(1.0, camera_hz / 10)
        assert max(sample.flow_scale for _, sample in taken[1:]) <= 1.5 * usual

    def test_clock_that_stands_still_does_not_scale_the_flow(self) -> None:
        sampler = FrameSampler(10)
        sample_all(sampler, 10, 20)
        stuck = sampler.sample(1.9)
        assert stuck is not None
        assert stuck.flow_scale == 1.0


class TestSourceSampler:
    @staticmethod
    def frames(times_s: Iterable[float], restarts: Sequence[int] = (), missing: Sequence[int] = ()) -> list[Frame]:
        image = np.zeros((2, 2, 3), np.uint8)
        made = (Frame(image, time_s, index, index in restarts) for index, time_s in enumerate(times_s))
        return [frame for frame in made if frame.index not in missing]

    def test_recording_at_the_trained_rate_keeps_its_indices(self) -> None:
        sampler = SourceSampler(10, "gate.mp4")
        samples = [sampler.sample(frame) for frame in self.frames(k / 10 for k in range(50))]
        assert samples == [Sample(k, 1.0, True) for k in range(50)]
        assert sampler.notes == []

    def test_gap_in_time_starts_a_new_clip_and_is_noted(self) -> None:
        sampler = SourceSampler(10, "gate.mp4")
        times_s = [*(k / 10 for k in range(80)), *(60 + k / 10 for k in range(80)), *(90 + k / 10 for k in range(9))]
        samples = [sampler.sample(frame) for frame in self.frames(times_s)]
        steps = np.diff([sample.index for sample in samples if sample is not None])
        assert np.flatnonzero(steps > 1).tolist() == [79, 159]
        assert sampler.notes == ["gate.mp4: a gap of 52.0 s after frame 79 and 1 more: clips start again"]

    def test_slow_recording_scales_the_flow_and_is_noted(self) -> None:
        sampler = SourceSampler(10, "gate.mp4")
        samples = [sampler.sample(frame) for frame in self.frames(k / 5 for k in range(50))]
        assert [sample.flow_scale for sample in samples[1:] if sample] == pytest.approx([0.5] * 49)
        assert sampler.notes == [
            "gate.mp4: has 5 frames per second, the model was trained at 10: "
            "every frame is scored, and its motion is scaled to that rate"
        ]

    def test_fast_recording_is_thinned_and_is_noted(self) -> None:
        sampler = SourceSampler(10, "gate.mp4")
        samples = [sampler.sample(frame) for frame in self.frames(k / 30 for k in range(300))]
        taken = [sample for sample in samples if sample is not None]
        assert len(taken) == pytest.approx(100, abs=2)
        assert np.diff([sample.index for sample in taken]).tolist() == [1] * (len(taken) - 1)
        assert sampler.leaves_out_frames
        assert sampler.notes == [
            "gate.mp4: has 30 frames per second, the model was trained at 10: the frames nearest to that rate are scored"
        ]

    def test_clock_that_starts_again_starts_a_new_clip_and_is_noted(self) -> None:
        sampler = SourceSampler(10, "gate.mp4")
        samples = [sampler.sample(frame) for frame in self.frames((k / 10 for k in range(20)), restarts=[12])]
        steps = np.diff([sample.index for sample in samples if sample is not None])
        assert np.flatnonzero(steps > 1).tolist() == [11]
        assert sampler.notes == ["gate.mp4: another recording begins after frame 11: clips start again"]

    @pytest.mark.parametrize("rate_hz", [5, 10, 25])
    def test_time_that_goes_back_is_a_clock_that_starts_again(self, rate_hz: int) -> None:
        """The source does not have to say so."""
        sampler = SourceSampler(10, "gate")
        times_s = [*(k / rate_hz for k in range(50)), *(1 + k / rate_hz for k in range(50))]
        samples = [(k, sample) for k, frame in enumerate(self.frames(times_s)) if (sample := sampler.sample(frame))]
        breaks = [b for (_, one), (b, other) in pairwise(samples) if other.index != one.index + 1]
        assert breaks == [50]
        assert "gate: another recording begins after frame 49: clips start again" in sampler.notes

    @pytest.mark.parametrize("back", [0.0, 0.5, 1.0, 2.4])
    def test_time_that_goes_back_by_less_than_a_gap_is_jitter(self, back: float) -> None:
        sampler = SourceSampler(10, "gate")
        times_s = [k / 10 for k in range(40)]
        times_s[20] = times_s[19] - back / 10
        samples = [sampler.sample(frame) for frame in self.frames(times_s)]
        assert [sample.index for sample in samples[:21] if sample] == list(range(21))
        assert not any("another recording" in note for note in sampler.notes)

    def test_lost_frames_start_a_new_clip(self) -> None:
        sampler = SourceSampler(10, "gate.mp4")
        samples = [sampler.sample(frame) for frame in self.frames((k / 10 for k in range(20)), missing=[7])]
        steps = np.diff([sample.index for sample in samples if sample is not None])
        assert np.flatnonzero(steps > 1).tolist() == [6]
        assert sampler.notes == []  # the source names its lost frames itself


class Timed:
    """A source with given times and stated rate."""

    name = "gate"

    def __init__(self, times_s: Sequence[float], rate_hz: float | None) -> None:
        self.rate_hz, self._times_s = rate_hz, times_s

    def __iter__(self) -> Iterator[Frame]:
        return iter(TestSourceSampler.frames(self._times_s))


class TestMeasuredRate:
    def test_average_rate_over_a_gap_is_corrected(self) -> None:
        times_s = [*(k / 10 for k in range(30)), *(60 + k / 10 for k in range(30))]
        assert measured_rate(Timed(times_s, 0.9)) == pytest.approx(10)

    def test_stated_rate_is_taken_where_the_times_confirm_it(self) -> None:
        assert measured_rate(Timed([0.0, 0.033, 0.067, 0.1], 29.97)) == 29.97

    def test_rate_without_frames_is_the_stated_one(self) -> None:
        assert measured_rate(Timed([], 12.0)) == 12.0
        assert measured_rate(Timed([], None)) is None


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
