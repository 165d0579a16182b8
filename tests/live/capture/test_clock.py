"""Times of frames: by the stream's clock, by their arrival, and in playback."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comemory.live.capture.clock import (
    ADJUSTMENT_S,
    FORWARD_JUMP_S,
    MAX_LAG_S,
    OFFSET_WINDOW_S,
    ArrivalClock,
    PlaybackClock,
    StreamClock,
    WallClock,
)

stamps = st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), max_size=50)


@given(stamps)
def test_stream_clock_never_runs_backwards(pts: list[int | None]) -> None:
    clock = StreamClock(1 / 90_000, 10)
    times = [clock.frame_time_s(one) for one in pts]
    assert times == sorted(times)
    assert not times or times[0] == 0


def test_stream_clock_goes_on_when_timestamps_restart() -> None:
    clock = StreamClock(0.1, 10)
    assert [clock.frame_time_s(pts) for pts in (50, 51, 0, 1)] == pytest.approx([0, 0.1, 0.2, 0.3])


@given(st.lists(st.floats(0, 1.5), min_size=1, max_size=100))
def test_network_delays_do_not_change_frame_times(delays: list[float]) -> None:
    """A frame's time is when it was sent, once any frame has arrived without delay; never earlier, and in order."""
    clock, start = ArrivalClock(), 1000.0
    times = [clock.frame_time(k * 0.1, start + k * 0.1 + delay) for k, delay in enumerate([*delays, 0.0, *delays])]
    assert times == sorted(times)
    n = len(delays) + 1
    assert all(at >= start + k * 0.1 - 1e-6 for k, at in enumerate(times))
    late_s = max(times[: n - 1], default=0.0) - (start + n * 0.1)
    for k, at in list(enumerate(times))[n:]:
        assert at <= start + k * 0.1 + max(late_s, 0.0) + 1e-6


def test_stream_that_lags_far_behind_gets_a_new_offset() -> None:
    clock = ArrivalClock()
    assert clock.frame_time(0.0, 100.0) == 100.0
    assert clock.frame_time(1.0, 101.0 + MAX_LAG_S + 0.5) == 101.0 + MAX_LAG_S + 0.5
    assert clock.frame_time(2.0, 102.0 + MAX_LAG_S + 0.5) == 102.0 + MAX_LAG_S + 0.5


@pytest.mark.parametrize("faster", [-1e-4, 1e-4])
def test_clock_drift_is_followed(faster: float) -> None:
    clock = ArrivalClock()
    for k in range(20_000):
        now = 100.0 + k * (1 + faster)
        assert abs(clock.frame_time(float(k), now) - now) < 0.01


def test_lasting_delay_is_adopted_after_the_window() -> None:
    clock = ArrivalClock()
    assert clock.frame_time(0.0, 100.0) == 100.0
    behind = [clock.frame_time(k * 0.1, 103.0 + k * 0.1) for k in range(1, 700)]
    assert behind[0] == pytest.approx(100.1)
    assert behind[-1] == pytest.approx(103.0 + 69.9)
    assert behind[int(2 * OFFSET_WINDOW_S * 10) + 10] == pytest.approx(103.0 + 61.1, abs=0.2)


def test_playback_keeps_intervals_and_rebuffers() -> None:
    segmented = PlaybackClock(100.0, rebuffers=True)
    assert [segmented.frame_time(k * 0.1, 100.0) for k in (0, 1, 20)] == pytest.approx([100.0, 100.1, 102.0])
    assert segmented.frame_time(3.0, 105.0) == 105.0
    assert segmented.frame_time(3.1, 105.0) == pytest.approx(105.1)
    assert segmented.frame_time(3.1 + 2 * FORWARD_JUMP_S, 105.2) == pytest.approx(105.2)
    file = PlaybackClock(100.0, rebuffers=False)
    assert file.frame_time(3.0, 105.0) == 103.0
    assert segmented.packet_time(3.2 + 4 * FORWARD_JUMP_S, 105.3) == 105.3
    assert segmented.frame_time(3.2 + 2 * FORWARD_JUMP_S, 105.3) == pytest.approx(105.3)


@pytest.mark.parametrize("set_s", [-3600.0, -1.0, 1.0, 3600.0])
def test_setting_the_time_of_day_is_followed_at_once(set_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    wall, true = WallClock(), time.time
    assert not wall.was_adjusted()
    at = time.monotonic()
    unix = wall.to_unix(at)
    monkeypatch.setattr(time, "time", lambda: true() + set_s)
    assert wall.to_unix(at) == unix
    assert wall.was_adjusted()
    assert not wall.was_adjusted()
    assert wall.to_unix(at) == pytest.approx(unix + set_s, abs=ADJUSTMENT_S / 2)


def test_slow_clock_reading_is_not_an_adjustment(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, true = WallClock(), time.time

    def slowly() -> float:
        time.sleep(2 * ADJUSTMENT_S)
        unix = true()
        time.sleep(2 * ADJUSTMENT_S)
        return unix

    monkeypatch.setattr(time, "time", slowly)
    assert not wall.was_adjusted()
