"""Frames of cameras of any rate, at the rate of the training."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.live.capture.frame_queue import FrameQueue, QueuedFrame
from comemory.live.capture.frame_sampler import FrameSampler, PacedFlow, Sample


def taken(pace: FrameSampler, camera_hz: float, n: int = 300, start_s: float = 0.0) -> list[tuple[float, Sample]]:
    times = [start_s + k / camera_hz for k in range(n)]
    return [(time_s, beat) for time_s in times if (beat := pace.sample(time_s)) is not None]


class TestPace:
    @pytest.mark.parametrize("camera_hz", [9.3, 10.0, 10.8])
    def test_a_camera_of_about_the_rate_is_taken_frame_by_frame(self, camera_hz: float) -> None:
        beats = [beat for _, beat in taken(FrameSampler(10), camera_hz)]
        assert [beat.index for beat in beats] == list(range(beats[0].index, beats[0].index + 300))
        assert {beat.flow_scale for beat in beats} == {1.0}

    @given(st.floats(12, 120), st.floats(4, 30))
    @settings(max_examples=40)
    def test_a_faster_camera_is_thinned_to_the_rate(self, camera_hz: float, rate_hz: float) -> None:
        if camera_hz < 1.2 * rate_hz:
            return
        pace = FrameSampler(rate_hz)
        pace.restart(camera_hz)
        found = taken(pace, camera_hz, 600)
        assert len(found) == pytest.approx(600 / camera_hz * rate_hz, rel=0.05, abs=2)
        assert np.diff([beat.index for _, beat in found]).max() == 1
        for (before, _), (now, beat) in pairwise(found):
            assert beat.flow_scale == pytest.approx(1 / rate_hz / (now - before))

    def test_speeds_of_a_slow_camera_read_as_trained(self) -> None:
        pace = FrameSampler(10)
        pace.restart(5)
        beats = [beat for _, beat in taken(pace, 5)][1:]
        assert {round(beat.flow_scale, 6) for beat in beats} == {0.5}

    @pytest.mark.parametrize("fps", [1.0, 2.5, 5.0, 7.0, 10.0, 30.0])
    def test_fps_says_how_many_beats_are_scored(self, fps: float) -> None:
        due = [beat.is_due for _, beat in taken(FrameSampler(10, fps), 10)]
        assert sum(due) == pytest.approx(300 * min(1, fps / 10), abs=2)

    def test_a_hole_begins_another_clip(self) -> None:
        pace = FrameSampler(10)
        last = taken(pace, 10, 20)[-1][1].index
        after = pace.sample(5.0)
        assert after is not None
        assert after.index == last + 2
        pace.mark_gap()
        lost = pace.sample(5.1)
        assert lost is not None
        assert lost.index == after.index + 2

    def test_the_flow_is_stretched(self) -> None:
        class Still:
            name = "still"

            def estimate(self, previous: object, current: object) -> np.ndarray:
                return np.full((2, 2, 2), 3, np.float32)

        flow, picture = PacedFlow(Still()), np.zeros((2, 2, 3), np.uint8)
        flow.factor = 0.5
        assert flow.estimate(picture, picture)[0, 0, 0] == 1.5
        assert flow.estimate(picture, picture).dtype == np.float32


def tick(k: int) -> QueuedFrame:
    return QueuedFrame(np.zeros((1, 1, 3), np.uint8), Sample(k, 1.0, True), float(k), float(k), float(k), (1, 1))


class TestSlot:
    def test_the_newest_win_and_the_others_are_counted(self) -> None:
        slot = FrameQueue(5, lossless=False)
        for k in range(12):
            slot.put(tick(k), lambda: False)
        assert slot.oldest_arrival == 7.0
        assert [one.sample.index for one in slot.pop_all()] == [7, 8, 9, 10, 11]
        assert slot.dropped == 7
        assert slot.oldest_arrival is None

    def test_lossless_waits_for_room(self) -> None:
        slot, seen = FrameQueue(2, lossless=True), []
        thread = threading.Thread(target=lambda: [slot.put(tick(k), lambda: False) for k in range(10)])
        thread.start()
        while len(seen) < 10:
            seen += [one.sample.index for one in slot.pop_all()]
        thread.join()
        assert seen == list(range(10))
        assert slot.dropped == 0

    def test_stopping_ends_the_waiting(self) -> None:
        slot = FrameQueue(1, lossless=True)
        slot.put(tick(0), lambda: False)
        slot.put(tick(1), lambda: True)
        assert slot.dropped == 1
