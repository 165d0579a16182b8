"""The queue between a camera's reader and the workers: short, and the newest frames win."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from comemory.video.frame_sampler import Sample


@dataclass(frozen=True, slots=True, eq=False)
class QueuedFrame:
    """One frame on its way to a score.

    Attributes:
        image: as decoded, or uint8 (H, W, 3), RGB.
        sample: its place in the clip.
        time: Unix time of the frame.
        time_s: seconds on the clock of its connection, to the microsecond; differences are exact however late frames
            arrive.
        arrived: when it arrived, on the monotonic clock.
        size: (height, width) of the upright image, in pixels.
        connection: number of the connection, or of the round of a looped file; also changes when the time of day was
            set.
    """

    image: av.VideoFrame | NDArray[np.uint8]
    sample: Sample
    time: float
    time_s: float
    arrived: float
    size: tuple[int, int]
    connection: int = 0


class FrameQueue:
    """The newest frames of a camera, as many as make one clip.

    Ours: the network needs consecutive frames, so a queue of one frame would tear the clips of a busy machine apart. With
    the length of a clip it always holds the newest whole clip: a camera that is served late is still scored on its
    newest frame.

    Attributes:
        dropped: number of frames that were to be scored and made room for newer ones.
        is_torn: whether frames were dropped before those that `pop_all` gave last.

    Args:
        capacity: frames of a clip.
        lossless: block the reader instead of dropping the oldest frame; for files that are not played in real time.
        on_put: called after each frame.
    """

    def __init__(self, capacity: int, *, lossless: bool, on_put: Callable[[], None] = lambda: None) -> None:
        self.lossless = lossless
        self.dropped = 0
        self.is_torn = self._will_be_torn = False
        self.capacity = capacity
        self._on_put = on_put
        self._frames: deque[QueuedFrame] = deque()
        self._has_room = threading.Condition()

    def put(self, frame: QueuedFrame, is_stopped: Callable[[], bool]) -> None:
        """Add a frame; a full queue drops its oldest one, or waits if it is lossless.

        Args:
            frame: the newest one.
            is_stopped: ends the waiting.
        """
        with self._has_room:
            while self.lossless and len(self._frames) >= self.capacity and not is_stopped():
                self._has_room.wait(0.2)
            self._frames.append(frame)
            if len(self._frames) > self.capacity:
                self.dropped += self._frames.popleft().sample.is_due
                self._will_be_torn = True
        self._on_put()

    def pop_all(self) -> list[QueuedFrame]:
        """Remove all frames; gives them oldest first."""
        with self._has_room:
            frames = list(self._frames)
            self._frames.clear()
            self.is_torn, self._will_be_torn = self._will_be_torn, False
            self._has_room.notify_all()
        return frames

    @property
    def oldest_arrival(self) -> float | None:
        """When the oldest frame arrived, on the monotonic clock; None for an empty queue."""
        with self._has_room:
            return self._frames[0].arrived if self._frames else None
