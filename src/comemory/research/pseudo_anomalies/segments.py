"""Stretches of ordinary video, short enough to keep in memory. Decoding is loaded when the first frame is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from comemory.training.split import Part, hold_out
from comemory.types import Frame, LabelledSource

SIZE = (240, 360)
"""Height and width at which objects are cut out and pasted."""
FRAMES = 160
SHORTEST = 48


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of one video.

    Attributes:
        start, stop: frame numbers; `stop` is not part of it.
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
        """Frames per second, None where the video does not say."""
        from comemory.video.source import open_source

        return open_source(self.video.source).rate_hz

    def __iter__(self) -> Iterator[Frame]:
        """The frames at `SIZE`. Raises SourceError."""
        from comemory.video.source import open_source

        return islice(iter(open_source(self.video.source, size=SIZE)), self.start, self.stop)


def stretches(videos: Sequence[LabelledSource], share: float, n_past: int = 4) -> tuple[list[Stretch], list[Stretch]]:
    """Cut what is trained on, and what is held out, into stretches of about `FRAMES` frames.

    Args:
        share: held out, see `hold_out`.
        n_past: videos with no more frames are left out, as training leaves them out.

    Raises:
        SourceError: a video whose length nobody states cannot be read.
    """
    counted = [(video, video.n_frames if video.n_frames is not None else _counted(video)) for video in videos]
    videos, counts = [video for video, n in counted if n > n_past], [n for _, n in counted if n > n_past]
    trained, held = hold_out(counts, share, n_past)
    return _cut(videos, trained), _cut(videos, held)


def _cut(videos: Sequence[LabelledSource], parts: Sequence[Part]) -> list[Stretch]:
    found: list[Stretch] = []
    for number, part in parts:
        n_pieces = max(1, round((part.stop - part.start) / FRAMES))
        edges = [part.start + round(i * (part.stop - part.start) / n_pieces) for i in range(n_pieces + 1)]
        found += [Stretch(videos[number], a, b) for a, b in pairwise(edges) if b - a >= SHORTEST]
    return found


def _counted(video: LabelledSource) -> int:
    from comemory.video.source import open_source

    return sum(1 for _ in open_source(video.source))
