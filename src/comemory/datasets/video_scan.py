"""One pass over a recording: how many frames it shows, when, and of which size. Labels and `data check` rely on it.

Containers do not state this reliably: packets may hold no visible frame or none at all, and headers count fields or lie.
So every frame is decoded, by the same reader that scoring uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.listing import is_folder, list_images
from comemory.errors import DatasetError, SourceError
from comemory.video.container import JUMP_S, Video
from comemory.video.image_folder import read_image, upright_size

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, eq=False)
class VideoScan:
    """What a recording shows.

    Attributes:
        n_frames: frames shown, with those that cannot be decoded but keep an index.
        times_s: float64 (n_frames,), when each frame is shown, in seconds from the first one, rising; None for a folder of
            images.
        sizes: upright size, to the names of the frames that have it, in the order of appearance.
        problems: what is wrong with the recording, one line each, starting with the path.
    """

    n_frames: int
    times_s: NDArray[np.float64] | None = None
    sizes: dict[Size, list[str]] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def size(self) -> Size | None:
        """The size of the first frame."""
        return next(iter(self.sizes), None)

    def size_problems(self, path: Path) -> Iterator[str]:
        """A line for each size that differs from that of the first frame."""
        if self.size is None:
            return
        width, height = self.size
        for (other_width, other_height), names in list(self.sizes.items())[1:]:
            yield (
                f"{path}: the size changes from {width}x{height} to {other_width}x{other_height} at {names[0]} "
                f"(frames of that size: {len(names)})"
            )


def scan_recording(path: Path) -> VideoScan:
    """Decode every frame of a video file or a folder of images; a file that has not changed is decoded only once."""
    if is_folder(path):
        return _scan_images(path)
    try:
        status = path.stat()
    except OSError as error:
        return VideoScan(0, problems=[f"{path}: cannot be opened: {error.strerror or error}"])
    return _scan_video(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _scan_video(path: Path, modified_ns: int, n_bytes: int) -> VideoScan:
    """Decode a video file; its age and length are part of the key, so that a changed file is decoded again."""
    indices: list[int] = []
    times_s: list[float] = []
    stamps: list[int | None] = []
    sizes: dict[Size, list[str]] = {}
    try:
        video = Video(path.absolute(), name=path.stem)
        for index, time_s, picture in video.decode():
            height, width = upright_size(picture)
            sizes.setdefault((width, height), []).append(f"frame {index}")
            indices.append(index)
            times_s.append(time_s)
            stamps.append(picture.pts)
    except SourceError as error:
        return VideoScan(len(indices), problems=[_from_path(path, error)])
    n_frames = indices[-1] + 1
    if video.problems and video.n_frames:
        n_frames = max(n_frames, video.n_frames)  # the labels of a damaged file are those of the whole one
    times_s = _ordered(stamps, video.time_base, times_s)
    return VideoScan(n_frames, _fill(indices, times_s, n_frames), sizes, tuple(video.problems))


def _from_path(path: Path, error: SourceError) -> str:
    """The text of an error, starting with the path as all problems of a data set do."""
    text = str(error).replace(f"cannot open {path.absolute()} as a video", "cannot be opened as a video")
    return text if text.startswith(str(path)) else f"{path}: {text}"


def _ordered(stamps: list[int | None], time_base: Fraction | None, times_s: list[float]) -> list[float]:
    """The times of frames in the order they are shown.

    AVI stores no times. For a stream with B-frames, FFmpeg then numbers the packets in the order they are decoded, and
    the frames come out with the right stamps in the wrong order. Where they are out of order by less than a jump of the
    clock, they are sorted; otherwise the times are those that scoring uses.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    if time_base is None or len(known) < len(stamps):
        return times_s
    if any((earlier - later) * time_base > JUMP_S for earlier, later in pairwise(known)):
        return times_s
    first = min(known)
    return [float((stamp - first) * time_base) for stamp in sorted(known)]


def _fill(indices: list[int], times_s: list[float], n_frames: int) -> NDArray[np.float64]:
    """A time for every frame: those that could not be decoded are spaced evenly between their neighbours."""
    gaps_s = np.diff(times_s) / np.maximum(np.diff(indices), 1)
    interval_s = float(np.median(gaps_s)) if len(gaps_s) else 0.0
    after = np.arange(1, n_frames - indices[-1])
    known_at, known_s = [*indices, *(indices[-1] + after)], [*times_s, *(times_s[-1] + interval_s * after)]
    return np.asarray(np.interp(np.arange(n_frames), known_at, known_s), np.float64)


def _scan_images(folder: Path) -> VideoScan:
    sizes: dict[Size, list[str]] = {}
    problems: list[str] = []
    try:
        files = list_images(folder)
    except DatasetError as error:
        return VideoScan(0, problems=[str(error)])
    if not files:
        problems.append(f"{folder}: holds no images")
    for file in files:
        try:
            height, width = read_image(file).shape[:2]
        except SourceError as error:
            problems.append(str(error))
        else:
            sizes.setdefault((width, height), []).append(file.name)
    return VideoScan(len(files), None, sizes, tuple(problems))
