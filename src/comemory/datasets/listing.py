"""What lies in a dataset's folders: clips in natural order, junk left out, frames counted without decoding."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from comemory.errors import DatasetError
from comemory.video.formats import open_file

IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def natural(name: str) -> list[tuple[int, int, str]]:
    """The sort key of a name in which numbers count as numbers.

    >>> sorted(["10.jpg", "2.jpg", "b.jpg", "1.jpg"], key=natural)
    ['1.jpg', '2.jpg', '10.jpg', 'b.jpg']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    key = [(0, int(part), part) if place % 2 else (1, 0, part) for place, part in enumerate(parts) if part]
    return [*key, (2, 0, name)]


def last_number(name: str) -> int | None:
    """The last number in a name, None where it has none.

    >>> number("Test007"), number("frame_0012"), number("gate")
    (7, 12, None)
    """
    digits = re.findall(r"[0-9]+", name)
    return int(digits[-1]) if digits else None


def dataset_path(path: str, kind: str) -> Path:
    """The existing path that a dataset is opened with.

    Raises:
        DatasetError: no path was given, or nothing is there.
    """
    if not path.strip():
        raise DatasetError(f"no path was given for the dataset kind {kind!r}: expected {kind}:PATH")
    place = Path(path)
    try:
        place = place.expanduser()
        place.stat()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{place}: cannot open this {kind} dataset: {reason}") from None
    return place


def list_entries(folder: Path) -> list[Path]:
    """Everything in a folder in natural order, without hidden files and what operating systems leave behind.

    Raises:
        DatasetError: the folder cannot be listed.
    """
    try:
        found = [path for path in folder.iterdir() if path.name[0] != "." and path.name.casefold() not in _JUNK]
    except OSError as error:
        raise DatasetError(f"{folder}: this folder cannot be listed: {error.strerror or error}") from None
    return sorted(found, key=lambda path: natural(path.name))


def list_images(folder: Path) -> list[Path]:
    """The picture files of a folder in natural order; those that cannot be read are left for their reader to refuse."""
    return [path for path in list_entries(folder) if path.suffix.lower() in IMAGES and not is_folder(path)]


def list_videos(folder: Path) -> list[Path]:
    """The video files and the sub-folders of a folder in natural order."""
    return [path for path in list_entries(folder) if is_folder(path) or is_video(path)]


def is_folder(path: Path) -> bool:
    """Whether this is a folder; False too where it cannot be told."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_video(path: Path) -> bool:
    """Whether the name is one of a video file and it is not a folder, pipe or device."""
    try:
        return path.suffix.lower() in VIDEOS and stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def first_folder(candidates: Iterable[Path]) -> Path | None:
    """The first of the candidates that is a folder."""
    return next((path for path in candidates if is_folder(path)), None)


def count_frames(path: Path) -> int | None:
    """The frames of a folder of pictures or of a video as its container states them; None when not known."""
    if is_folder(path):
        try:
            return len(list_images(path))
        except DatasetError:
            return None
    try:
        with open_file(str(path.absolute())) as container:
            return container.streams.video[0].frames or None
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return None


def count_packets(path: Path) -> int | None:
    """The frames of a video, counted by reading the file without decoding; None when it cannot be read."""
    try:
        with open_file(str(path.absolute())) as container:
            return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return None


def frame_times(path: Path, n_frames: int) -> NDArray[np.float64] | None:
    """When each frame of a video is shown, in seconds from the first, read without decoding; None where nothing says so.

    Args:
        n_frames: of the video; where the file has stamps for others, its frame rate tells.

    Shapes: (n_frames,), rising.
    """
    try:
        with open_file(str(path.absolute())) as container:
            stream = container.streams.video[0]
            stamps = [packet.pts for packet in container.demux(stream) if packet.size]
            base, rate = stream.time_base, stream.average_rate
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return None
    known = [stamp for stamp in stamps if stamp is not None]
    if base and known and len(known) == n_frames:
        return np.asarray([float((stamp - min(known)) * base) for stamp in sorted(known)])
    return np.arange(n_frames) / float(rate) if rate else None


def format_numbers(numbers: Iterable[int], most: int = 5) -> str:
    """Rising numbers as a short text of ranges.

    >>> spans([3, 4, 5, 9])
    '3-5, 9'
    >>> spans([0, 2, 4], most=2)
    '0, 2 and more'
    """
    ranges: list[tuple[int, int]] = []
    for value in numbers:
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], value)
        else:
            ranges.append((value, value))
    return format_ranges(ranges, most)


def format_ranges(ranges: list[tuple[int, int]], most: int = 5) -> str:
    """Ranges of numbers, both ends within, as a short text."""
    text = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges[:most])
    return f"{text} and more" if len(ranges) > most else text
