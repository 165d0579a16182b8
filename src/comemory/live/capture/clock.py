"""When a picture was: by the stream's own clock, and by this machine's."""

from __future__ import annotations

import time

JUMP_S = 1.0
"""A stamp that lies so far before the newest one begins a new time line."""
LATE_S = 10.0
"""A stream that comes so much later than its own clock says has lost that time for good: its clock is set anew."""
KEPT_S = 30.0
"""The frame that came soonest is looked for in the last one to two of these."""
REFILL_S = 0.5
"""Later than that, and a stream in pieces had to wait for its next one."""
LEAP_S = 10.0
"""Nobody waits so long for the next picture: the clock of what is played has leapt."""
SET_S = 0.4
"""The time of day that is so far off from what it was by the monotonic clock was set."""


class TimeOfDay:
    """Unix times of what was timed by the monotonic clock, which nobody sets.

    It follows this machine's time of day when it is asked to, no sooner: what lies between two such times does not hang
    on when they were looked up.
    """

    def __init__(self) -> None:
        self._ahead_s = time.time() - time.monotonic()

    def unix(self, at: float) -> float:
        """The Unix time of a monotonic one."""
        return at + self._ahead_s

    def was_set(self) -> bool:
        """Whether the time of day was set since the last call, forward or back: from now on it is that."""
        before = time.monotonic()
        unix = time.time()
        after = time.monotonic()
        if unix - after - SET_S <= self._ahead_s <= unix - before + SET_S:
            return False
        self._ahead_s = unix - after
        return True


class StreamClock:
    """Seconds on the stream's own clock, from its first frame, never backwards.

    Args:
        time_base_s: seconds of a stamp's unit.
        rate_hz: for pictures without a stamp.
    """

    def __init__(self, time_base_s: float, rate_hz: float) -> None:
        self._time_base_s, self._interval_s = time_base_s, 1 / rate_hz
        self._base_s: float | None = None
        self._newest_s: float | None = None

    def peek(self, pts: int | None) -> float:
        """Where a packet lies, as far as is known before it is decoded."""
        if pts is None or self._base_s is None:
            return self._newest_s or 0.0
        return max(0.0, pts * self._time_base_s - self._base_s)

    def time_s(self, pts: int | None) -> float:
        """The time of the next picture; one interval on where it has none, or where the clock jumps back."""
        expected = 0.0 if self._newest_s is None else self._newest_s + self._interval_s
        time_s = expected
        if pts is not None:
            stamp_s = pts * self._time_base_s
            if self._base_s is None or stamp_s - self._base_s < (self._newest_s or 0.0) - JUMP_S:
                self._base_s = stamp_s - expected
            time_s = max(stamp_s - self._base_s, self._newest_s or 0.0)
        self._newest_s = time_s
        return time_s


class Arrivals:
    """Times of a stream that is sent as it happens, by this machine's monotonic clock: its own clock, tied to the frames
    that came soonest.

    Ours: what comes late over the network, in bursts or while this machine was busy, was not seen late. The smallest
    distance between the two clocks is that of the frame that was delayed least; it is that of the last half minute or
    minute, for clocks differ, and is taken anew where the stream stays behind by `LATE_S`.

    >>> arrivals = Arrivals()
    >>> [arrivals.at(time_s, now) for time_s, now in ((0.0, 100.0), (1.0, 101.0), (2.0, 102.5), (3.0, 103.0))]
    [100.0, 101.0, 102.0, 103.0]
    """

    def __init__(self) -> None:
        self._before_s = self._present_s = float("inf")
        self._turn_s = 0.0
        self._newest = 0.0

    def at(self, time_s: float, now: float) -> float:
        """When a picture was.

        Args:
            time_s: on the stream's clock.
            now: when it came.
        """
        seen_s = now - time_s
        if seen_s - min(self._before_s, self._present_s) > LATE_S:
            self._before_s = self._present_s = float("inf")
        if time_s - self._turn_s > KEPT_S:
            self._before_s, self._present_s, self._turn_s = self._present_s, float("inf"), time_s
        self._present_s = min(self._present_s, seen_s)
        self._newest = max(self._newest, self.look(time_s, now))
        return self._newest

    def look(self, time_s: float, now: float) -> float:
        """The same of a packet, which moves nothing."""
        return min(self._before_s, self._present_s, now - time_s) + time_s


class Playback:
    """Times of what comes faster than it happened, in pieces or all at once: its own clock from the first frame on.

    Args:
        begun: when its first frame is shown, by this machine's monotonic clock.
        waits: take the clock anew where the next piece came too late, or the clock leapt; else it stays as it is.
    """

    def __init__(self, begun: float, *, waits: bool) -> None:
        self._begun, self._waits = begun, waits

    def at(self, time_s: float, now: float) -> float:
        """When a picture is to be shown; see `Arrivals.at`."""
        if self._is_off(time_s, now):
            self._begun = now - time_s
        return self._begun + time_s

    def look(self, time_s: float, now: float) -> float:
        """See `Arrivals.look`."""
        return now if self._is_off(time_s, now) else self._begun + time_s

    def _is_off(self, time_s: float, now: float) -> bool:
        return self._waits and not -LEAP_S < now - self._begun - time_s < REFILL_S
