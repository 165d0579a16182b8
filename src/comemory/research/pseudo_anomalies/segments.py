"""Segments of normal video, short enough to fit in memory. Decoding is imported when the first frame is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from comemory.training.split import VideoPart, split_frames
from comemory.types import Frame, LabelledSource

SIZE = (240, 360)
"""Height and width at which objects are cut out and pasted; the native size of Ped2."""
TARGET_FRAMES = 160
"""Frames that a segment has, roughly: 40 MB at `SIZE`."""
MIN_FRAMES = 48


@dataclass(frozen=True)
class VideoSegment:
    """Consecutive frames of one video.

    Attributes:
        start: number of its first frame.
        stop: number of the first frame after it.
    """

    video: LabelledSource
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Such as `01-160`."""
        return f"{self.video.name}-{self.start}"

    @property
    def rate_hz(self) -> float | None:
        """Frames per second; None where the video does not state it."""
        from comemory.video.source import open_source

        return open_source(self.video.source).rate_hz

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames at `SIZE`. Raises SourceError when the video cannot be read."""
        from comemory.video.source import open_source

        return islice(iter(open_source(self.video.source, size=SIZE)), self.start, self.stop)


def split_segments(
    videos: Sequence[LabelledSource], share: float, n_past: int = 4
) -> tuple[list[VideoSegment], list[VideoSegment]]:
    """Cut the video that is trained on, and that which is held out, into segments of about `TARGET_FRAMES` frames.

    Args:
        videos: the training videos.
        share: held out, in (0, 1); see `comemory.training.split.split_frames`.
        n_past: videos with no more frames than this are left out, as training leaves them out.

    Returns:
        Segments of the video that is trained on, and of the video that is held out.

    Raises:
        SourceError: a video that does not state its length cannot be read.
    """
    counted = [(video, video.n_frames if video.n_frames is not None else _counted(video)) for video in videos]
    videos, counts = [video for video, n in counted if n > n_past], [n for _, n in counted if n > n_past]
    trained, held_out = split_frames(counts, share, n_past)
    return _cut(videos, trained), _cut(videos, held_out)


def _cut(videos: Sequence[LabelledSource], parts: Sequence[VideoPart]) -> list[VideoSegment]:
    found: list[VideoSegment] = []
    for number, part in parts:
        n_pieces = max(1, round((part.stop - part.start) / TARGET_FRAMES))
        edges = [part.start + round(i * (part.stop - part.start) / n_pieces) for i in range(n_pieces + 1)]
        found += [VideoSegment(videos[number], a, b) for a, b in pairwise(edges) if b - a >= MIN_FRAMES]
    return found


def _counted(video: LabelledSource) -> int:
    from comemory.video.source import open_source

    return sum(1 for _ in open_source(video.source))
