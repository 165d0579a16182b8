"""Where a camera leaves its frames and a worker fetches them: short, so that the newest wins."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from comemory.live.capture.frame_sampler import Beat


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """One frame on its way to a score.

    Attributes:
        picture: as decoded, or RGB.
        time: Unix time of the frame.
        time_s: on the clock of its connection, to the microsecond: what lies between two frames, whatever came late.
        arrived: on the monotonic clock.
        size: (height, width) of the picture, upright.
        connection: number of the connection that it came by, or of the turn of a file that is played again; another one
            too when this machine's clock was set.
    """

    picture: av.VideoFrame | NDArray[np.uint8]
    beat: Beat
    time: float
    time_s: float
    arrived: float
    size: tuple[int, int]
    connection: int = 0


class Slot:
    """The newest frames of a camera, as many as make one clip.

    Ours: a slot of one would tear the clips of a busy machine apart, for the network needs consecutive frames. As long as
    a clip, it always holds the newest whole clip, and a camera that is served late is still scored on its newest frame.

    Args:
        length: frames of a clip.
        lossless: wait for room rather than let the oldest go; for files that need not keep pace.
        on_put: called after each frame.
    """

    def __init__(self, length: int, *, lossless: bool, on_put: Callable[[], None] = lambda: None) -> None:
        self.lossless = lossless
        self.dropped = 0
        self.length = length
        self._on_put = on_put
        self._ticks: deque[Tick] = deque()
        self._room = threading.Condition()

    def put(self, tick: Tick, is_stopped: Callable[[], bool]) -> None:
        """Leave a frame; the oldest gives way where there is no room."""
        with self._room:
            while self.lossless and len(self._ticks) >= self.length and not is_stopped():
                self._room.wait(0.2)
            self._ticks.append(tick)
            if len(self._ticks) > self.length:
                self._ticks.popleft()
                self.dropped += 1
        self._on_put()

    def take(self) -> list[Tick]:
        """Fetch all frames, oldest first."""
        with self._room:
            ticks = list(self._ticks)
            self._ticks.clear()
            self._room.notify_all()
        return ticks

    @property
    def oldest(self) -> float | None:
        """When the oldest frame arrived; None when there is none."""
        with self._room:
            return self._ticks[0].arrived if self._ticks else None
