"""The frames of a video that are used, read without decoding the rest where the file allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from comemory.training.footage_sampling import FootageSampling
from comemory.types import Frame, LabelledSource
from comemory.video.container import Video
from comemory.video.frame_sampler import Sample, SourceSampler
from comemory.video.packet_index import PacketIndex, read_packet_index
from comemory.video.source import OpenedSource


class UsedFrames:
    """The used frames of one video, in order, with their places among the samples.

    Of a file whose frames can be found by its packets, only the used segments are decoded, each from the key frame before it on.

    Attributes:
        problems: what went wrong, one line each, after the iteration.

    Args:
        video: to read.
        source: the same, opened with this size.
        sampler: of the video; it sees the times of all frames.
        used: which samples are used.
        size: (height, width) of the frames.
        on_frame: called with the video's name for each frame that was read or left out.
    """

    def __init__(
        self,
        video: LabelledSource,
        source: OpenedSource,
        sampler: SourceSampler,
        used: FootageSampling,
        size: tuple[int, int],
        on_frame: Callable[[str], None],
    ) -> None:
        self.problems: list[str] = []
        self._video, self._source, self._sampler = video, source, sampler
        self._used, self._size, self._on_frame = used, size, on_frame

    def __iter__(self) -> Iterator[tuple[Frame, Sample]]:
        index = None
        if self._used.every > 1 and isinstance(self._video.source, str) and Path(self._video.source).is_file():
            index = read_packet_index(Path(self._video.source))
        return self._all() if index is None else self._segments(Path(str(self._video.source)), index)

    def _all(self) -> Iterator[tuple[Frame, Sample]]:
        for frame in self._source:
            self._on_frame(self._video.name)
            sample = self._sampler.sample(frame)
            if sample is not None and self._used.uses(sample.index):
                yield frame, sample
        self.problems += self._source.problems

    def _segments(self, path: Path, index: PacketIndex) -> Iterator[tuple[Frame, Sample]]:
        n_reported = 0
        for samples in self._runs(index):
            first, last = min(samples), max(samples)
            part = Video(
                path,
                name=self._video.name,
                size=self._size,
                rate_hz=self._source.rate_hz,
                start=index.start_before(first),
            )
            with closing(iter(part)) as frames:
                for frame in frames:
                    if frame.index > last:
                        break
                    if frame.index in samples:
                        yield frame, samples[frame.index]
            self.problems += part.problems
            for _ in range(n_reported, last + 1):
                self._on_frame(self._video.name)
            n_reported = last + 1
        for _ in range(n_reported, len(index.stamps)):
            self._on_frame(self._video.name)

    def _runs(self, index: PacketIndex) -> Iterator[dict[int, Sample]]:
        """The used frames, segment by segment: their samples by their index."""
        nothing = np.zeros((1, 1, 3), np.uint8)
        run: dict[int, Sample] = {}
        for number in range(len(index.stamps)):
            sample = self._sampler.sample(Frame(nothing, index.time_s(number), number))
            if sample is None:
                continue
            if self._used.uses(sample.index):
                run[number] = sample
            elif run:
                yield run
                run = {}
        if run:
            yield run
