"""Which part of long footage is used: one-minute segments, spread evenly over all of it.

A day of footage has about a million frames. Prepared, they would fill 100 GB, and one pass of the training over them would take
many hours. One minute of ten still shows what is normal at each hour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comemory.bundle import Bundle
from comemory.types import LabelledSource

MAX_FRAMES = 100_000
"""Frames that are used where the settings say nothing: 2.8 hours at ten a second, 13 GB of prepared frames of 128x192."""

SEGMENT_S = 60.0
"""Length of a segment, seconds: long compared with a clip, and with the time in which an object crosses the image."""


@dataclass(frozen=True, slots=True)
class FootageSampling:
    """The segments of one video that are used: one of every `every`.

    Attributes:
        every: 1 for all.
        first: number of the video's first segment, counted over all videos.
        length: of a segment, frames.
    """

    every: int = 1
    first: int = 0
    length: int = 1

    def uses(self, sample: int) -> bool:
        """Whether a frame is used, by its place in time from the start of the video.

        >>> [t for t in range(12) if FootageSampling(every=2, first=1, length=3).uses(t)]
        [3, 4, 5, 9, 10, 11]
        """
        return (self.first + sample // self.length) % self.every == 0

    def uses_some(self, n_frames: int) -> bool:
        """Whether a video of so many frames has a frame that is used."""
        return any(self.uses(start) for start in range(0, max(1, n_frames), self.length))

    @property
    def key(self) -> tuple[int, ...]:
        """What the used frames depend on; empty where all are."""
        return () if self.every == 1 else (self.every, self.first % self.every, self.length)


ALL = FootageSampling()
"""All frames of a video."""


def trained_sampling(bundle: Bundle, videos: Sequence[LabelledSource]) -> Mapping[str, FootageSampling]:
    """The segments that a bundle was trained on, of the videos of its data set."""
    train = bundle.config.get("train")
    most = train.get("max_frames") if isinstance(train, dict) else None
    return choose_sampling(videos, bundle.calibration.rate_hz, most if type(most) is int and most > 0 else MAX_FRAMES)


def choose_sampling(videos: Sequence[LabelledSource], rate_hz: float, most: int) -> Mapping[str, FootageSampling]:
    """The segments of each video, by its name, that hold about `most` frames together.

    Videos whose number of frames is not known count as empty. A video that has no used segment is not in the result.

    Args:
        videos: in their order in time.
        rate_hz: frames per second.
        most: frames.
    """
    counts = [video.n_frames or 0 for video in videos]
    every, length = max(1, math.ceil(sum(counts) / most)), max(1, round(SEGMENT_S * rate_hz))
    chosen: dict[str, FootageSampling] = {}
    first = 0
    for video, n_frames in zip(videos, counts, strict=True):
        sampling = FootageSampling(every, first, length)
        if sampling.uses_some(n_frames):
            chosen[video.name] = sampling
        first += max(1, math.ceil(n_frames / length))
    return chosen
