"""Where a long file is split into segments, and reading one of them.

A segment is scored from a key frame before its first frame on, so that the detector has forgotten that the file did not
begin there. How far before depends on the longest memory of the detector.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from comemory.bundle import Bundle
from comemory.clips import agitation
from comemory.cluster.archive_task import FileSegment
from comemory.detector import ScoredFrame
from comemory.errors import SourceError
from comemory.types import Frame
from comemory.video.container import StartFrame, Video
from comemory.video.formats import open_file
from comemory.video.frame_sampler import SourceSampler
from comemory.video.packet_index import read_packet_index
from comemory.video.source import source_name

N_TIME_CONSTANTS = 30.0
"""Warm-up in time constants of the slowest moving average. After 15 to 19 the agitation of a rendered and of a recorded scene
was the same to the last bit: it takes a while until the roundings of two averages agree."""

N_CHECKED = 256
"""Frames after a seam that both segments score. Their evidence must be the same to the last bit."""


def warm_up_s(bundle: Bundle) -> float | None:
    """Seconds of warm-up before a segment: many times the longest time constant of the detector.

    None where no warm-up is long enough. The background of moving objects follows the image only where nothing moves, so that
    it can depend on the whole file.
    """
    settings = bundle.calibration.settings
    if settings.needs_scene:
        return None
    return N_TIME_CONSTANTS * max(agitation.TIME_CONSTANT_S, settings.smoothing_s)


def plan_segments(path: Path, split_s: float, warm_up_s: float) -> tuple[FileSegment, ...]:
    """Split a file at key frames; no segments for one that is short, damaged, or of a kind that cannot be split.

    Args:
        path: of the file.
        split_s: length of a segment, seconds; at least the warm-up is taken.
        warm_up_s: see `ArchiveSettings`.
    """
    length_s = max(split_s, warm_up_s)
    index = read_packet_index(path, length_s)
    if index is None:
        return ()
    n_segments = int(index.time_s(-1) / length_s)
    starts = [0]
    for number in range(1, n_segments):
        place = bisect_left(
            index.key_frames, bisect_left(index.stamps, index.stamps[0] + number * length_s / float(index.time_base))
        )
        if place < len(index.key_frames) and index.key_frames[place] > starts[-1]:
            starts.append(index.key_frames[place])
    if len(starts) < 2:
        return ()
    segments = []
    for number, first in enumerate(starts):
        limit = index.stamps[first] - warm_up_s / float(index.time_base)
        before = bisect_right([index.stamps[key] for key in index.key_frames], limit) - 1
        key = index.key_frames[before] if before > 0 else 0
        end = starts[number + 1] if number + 1 < len(starts) else None
        segments.append(FileSegment(number, len(starts), key, index.stamps[key], first, end, index.origin_s))
    return tuple(segments)


class SegmentSource:
    """The frames of a segment, from the start of its warm-up on. A source for `Detector.open_source`.

    Raises:
        SourceError: in iterating, a frame is missing: the file is damaged, and is not to be split.
    """

    def __init__(self, path: Path, segment: FileSegment, size: tuple[int, int] | None, rate_hz: float) -> None:
        self.name = source_name(str(path))
        self.path, self._segment = path, segment
        start = StartFrame(segment.key_frame, segment.key_stamp, segment.origin_s)
        self.video = Video(path, name=self.name, size=size, rate_hz=rate_hz, start=start if segment.key_frame else None)
        self.rate_hz = self.video.rate_hz

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames up to `N_CHECKED` after the end of the segment."""
        segment, expected = self._segment, self._segment.key_frame
        last = None if segment.end is None else segment.end + N_CHECKED
        with closing(iter(self.video)) as frames:
            for frame in frames:
                if frame.index != expected:
                    raise SourceError(f"{self.path}: a frame is missing before frame {frame.index}")
                if frame.index == last:
                    return
                expected += 1
                yield frame

    def sampler(self, rate_hz: float) -> SourceSampler:
        """The sampler in the state that it has before the first frame of the warm-up: it needs the times alone."""
        sampler = SourceSampler(rate_hz, self.name)
        nothing = np.zeros((1, 1, 3), np.uint8)
        if self._segment.key_frame:
            for number, time_s in enumerate(_times(self.path, self._segment)):
                sampler.sample(Frame(nothing, time_s, number))
        return sampler


def _times(path: Path, segment: FileSegment) -> Iterator[float]:
    """The times of the frames before a segment's warm-up, from the stamps of the packets."""
    with open_file(str(path)) as container:
        stream = container.streams.video[0]
        time_base = stream.time_base
        assert time_base is not None
        stamps = [packet.pts for packet in container.demux(stream) if packet.size and packet.pts is not None]
    for stamp in sorted(stamps)[: segment.key_frame]:
        yield max(float(stamp * time_base) - segment.origin_s, 0.0)


class SeamDigest:
    """A digest of what is known of the frames on one side of a seam: scores, boxes and all evidence, to the last bit."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, index: int, scored: ScoredFrame | None) -> None:
        """Add the next frame."""
        self._sum.update(struct.pack("<q?", index, scored is None))
        if scored is None:
            return
        score = scored.score
        self._sum.update(struct.pack("<ddd4q", score.value, score.appearance, score.motion, *(score.box or (-1,) * 4)))
        for name in sorted(scored.evidence.maps):
            self._sum.update(name.encode())
            self._sum.update(np.ascontiguousarray(scored.evidence.maps[name]).tobytes())

    def hexdigest(self) -> str:
        """The digest so far."""
        return self._sum.hexdigest()[:32]


def frame_at(path: Path, number: int) -> Frame:
    """One frame of a file at its recorded size, read from the key frame before it on.

    Raises:
        SourceError: it cannot be read.
    """
    index = read_packet_index(path)
    start = None if index is None else index.start_before(number)
    with closing(iter(Video(path, name=source_name(str(path)), start=start))) as frames:
        for frame in frames:
            if frame.index >= number:
                return frame
    raise SourceError(f"{path} has no frame {number}")
