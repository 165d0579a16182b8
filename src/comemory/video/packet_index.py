"""The frames of a file by its packets, read without decoding: their times, and the key frames at which reading can begin."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from comemory.video.container import JUMP_S, StartFrame
from comemory.video.formats import open_file

SPLIT_FORMATS = ("mp4", "matroska")
"""Containers in which a key frame can be found exactly."""


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The frames of a file, in the order in which they are shown.

    Attributes:
        stamps: of all frames, in units of the stream.
        key_frames: indices of those that need no other frame.
        time_base: seconds of a unit.
    """

    stamps: list[int]
    key_frames: list[int]
    time_base: Fraction

    @property
    def origin_s(self) -> float:
        """Time stamp of the first frame, seconds."""
        return float(self.stamps[0] * self.time_base)

    def time_s(self, index: int) -> float:
        """Time of a frame from the start of the file, as `container.Video` gives it."""
        return max(float(self.stamps[index] * self.time_base) - self.origin_s, 0.0)

    def start_before(self, index: int) -> StartFrame | None:
        """The newest key frame up to a frame; None where that is the start of the file."""
        place = bisect_right(self.key_frames, index) - 1
        if place <= 0:
            return None
        key = self.key_frames[place]
        return StartFrame(key, self.stamps[key], self.origin_s)


def read_packet_index(path: Path, longer_than_s: float = 0.0) -> PacketIndex | None:
    """Read the index of a file. None if it is not twice as long as asked for, damaged, or of a kind without exact key frames.

    Args:
        path: of the file.
        longer_than_s: seconds.
    """
    try:
        with open_file(str(path)) as container:
            stream = container.streams.video[0]
            duration_s = float(container.duration or 0) / av.time_base
            is_known = any(name in container.format.name for name in SPLIT_FORMATS)
            if duration_s < 2 * longer_than_s or not is_known or stream.time_base is None:
                return None
            stamps, keys, newest = [], [], None
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return None
                if newest is not None and (newest - packet.pts) * stream.time_base > JUMP_S:
                    return None
                newest = packet.pts if newest is None else max(newest, packet.pts)
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
            time_base = stream.time_base
            n_stated = stream.frames
    except (av.FFmpegError, IndexError, ValueError, OSError):
        return None
    stamps.sort()
    key_frames = [bisect_left(stamps, stamp) for stamp in sorted(keys)]
    is_whole = len(set(stamps)) == len(stamps) and key_frames[:1] == [0] and n_stated in (0, len(stamps))
    return PacketIndex(stamps, key_frames, time_base) if is_whole else None
