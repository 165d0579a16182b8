"""When a frame was taken: on the stream's own clock, on the monotonic clock, and as Unix time."""

from __future__ import annotations

import time

BACKWARD_JUMP_S = 1.0
"""A timestamp this far before the newest one starts a new time line."""
MAX_LAG_S = 10.0
"""A stream that lags this far behind its own clock will not catch up: the offset of its clock is measured again."""
OFFSET_WINDOW_S = 30.0
"""The smallest delay is taken over the last one to two windows of this length."""
REBUFFER_S = 0.5
"""A segmented stream that is later than this had to wait for its next segment."""
FORWARD_JUMP_S = 10.0
"""A frame that lies this far in the future is not waited for: the clock of the stream has jumped."""
ADJUSTMENT_S = 0.4
"""A difference this large between the time of day and the monotonic clock means that somebody set the time of day."""


class WallClock:
    """Converts times of the monotonic clock, which nobody can set, to Unix times.

    The offset between the two is fixed until `was_adjusted` is called: two frames between two calls keep their distance,
    whenever their times are converted.
    """

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def to_unix(self, at: float) -> float:
        """The Unix time of a time of the monotonic clock."""
        return at + self._offset_s

    def was_adjusted(self) -> bool:
        """Whether the time of day was set, forward or back, since the last call; follows it from now on."""
        before = time.monotonic()
        unix = time.time()
        after = time.monotonic()
        # The thread may have slept between the three readings: the true offset lies between the two bounds.
        if unix - after - ADJUSTMENT_S <= self._offset_s <= unix - before + ADJUSTMENT_S:
            return False
        self._offset_s = unix - after
        return True


class StreamClock:
    """Timestamps of a stream to seconds since its first frame, never backwards.

    Args:
        time_base_s: seconds of one timestamp unit.
        rate_hz: frames a second, for frames without a timestamp.
    """

    def __init__(self, time_base_s: float, rate_hz: float) -> None:
        self._time_base_s, self._interval_s = time_base_s, 1 / rate_hz
        self._base_s: float | None = None
        self._newest_s: float | None = None

    def packet_time_s(self, pts: int | None) -> float:
        """The time of a packet before it is decoded, as far as it is known; changes nothing."""
        if pts is None or self._base_s is None:
            return self._newest_s or 0.0
        return max(0.0, pts * self._time_base_s - self._base_s)

    def frame_time_s(self, pts: int | None) -> float:
        """The time of the next frame; one interval after the last where it has no timestamp or the clock jumps back."""
        expected = 0.0 if self._newest_s is None else self._newest_s + self._interval_s
        time_s = expected
        if pts is not None:
            stamp_s = pts * self._time_base_s
            if self._base_s is None or stamp_s - self._base_s < (self._newest_s or 0.0) - BACKWARD_JUMP_S:
                self._base_s = stamp_s - expected
            time_s = max(stamp_s - self._base_s, self._newest_s or 0.0)
        self._newest_s = time_s
        return time_s


class ArrivalClock:
    """Times of a stream that is sent as it happens, on the monotonic clock: its own clock plus the smallest delay seen.

    Ours: frames arrive late over a network, in bursts or on a busy machine, but were not taken late. The frame with the
    smallest difference between the two clocks was delayed least, so that difference is the offset. It is taken over the
    last 30 to 60 seconds, for clocks drift, and is measured again when the stream lags behind by `MAX_LAG_S`.

    >>> clock = ArrivalClock()
    >>> [clock.frame_time(time_s, now) for time_s, now in ((0.0, 100.0), (1.0, 101.0), (2.0, 102.5), (3.0, 103.0))]
    [100.0, 101.0, 102.0, 103.0]
    """

    def __init__(self) -> None:
        # The smallest offset of the previous and of the current window: two numbers in place of a queue of all offsets.
        self._previous_s = self._current_s = float("inf")
        self._window_start_s = 0.0
        self._newest = 0.0

    def frame_time(self, time_s: float, now: float) -> float:
        """When a frame was taken.

        Args:
            time_s: its time on the stream's clock.
            now: when it arrived, on the monotonic clock.
        """
        offset_s = now - time_s
        if offset_s - min(self._previous_s, self._current_s) > MAX_LAG_S:
            self._previous_s = self._current_s = float("inf")
        if time_s - self._window_start_s > OFFSET_WINDOW_S:
            self._previous_s, self._current_s, self._window_start_s = self._current_s, float("inf"), time_s
        self._current_s = min(self._current_s, offset_s)
        self._newest = max(self._newest, self.packet_time(time_s, now))
        return self._newest

    def packet_time(self, time_s: float, now: float) -> float:
        """The same for a packet; changes nothing."""
        return min(self._previous_s, self._current_s, now - time_s) + time_s


class PlaybackClock:
    """Times of a recording, or of a stream in segments, which arrives faster than it happened: it is played back.

    Args:
        start: when the first frame is shown, on the monotonic clock.
        rebuffers: shift the playback where the next segment came too late or the stream's clock jumped.
    """

    def __init__(self, start: float, *, rebuffers: bool) -> None:
        self._start, self._rebuffers = start, rebuffers

    def frame_time(self, time_s: float, now: float) -> float:
        """When a frame is to be shown; see `ArrivalClock.frame_time`."""
        if self._is_off(time_s, now):
            self._start = now - time_s
        return self._start + time_s

    def packet_time(self, time_s: float, now: float) -> float:
        """The same for a packet; changes nothing."""
        return now if self._is_off(time_s, now) else self._start + time_s

    def _is_off(self, time_s: float, now: float) -> bool:
        return self._rebuffers and not -FORWARD_JUMP_S < now - self._start - time_s < REBUFFER_S
