"""Lists what a data set's folders hold: videos and images in natural order, without system files."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path

import av

from comemory.errors import DatasetError
from comemory.video.formats import VIDEO_SUFFIXES, open_file
from comemory.video.image_folder import IMAGE_SUFFIXES, natural_key

_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def last_number(name: str) -> int | None:
    """The last number in a name, None where it has none.

    >>> last_number("Test007"), last_number("frame_0012"), last_number("gate")
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
    """Everything in a folder in natural order, except hidden files and those of operating systems.

    Raises:
        DatasetError: the folder cannot be listed.
    """
    try:
        found = [path for path in folder.iterdir() if path.name[0] != "." and path.name.casefold() not in _JUNK]
    except OSError as error:
        raise DatasetError(f"{folder}: this folder cannot be listed: {error.strerror or error}") from None
    return sorted(found, key=lambda path: natural_key(path.name))


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder in natural order, readable or not."""
    return [path for path in list_entries(folder) if path.suffix.lower() in IMAGE_SUFFIXES and not is_folder(path)]


def list_videos(folder: Path) -> list[Path]:
    """The video files and the sub-folders of a folder in natural order."""
    return [path for path in list_entries(folder) if is_folder(path) or is_video(path)]


def is_folder(path: Path) -> bool:
    """Whether this is a folder; False if that is not known."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_video(path: Path) -> bool:
    """Whether this is a regular file with the ending of a video; True if it cannot be looked at, so that it gets named."""
    try:
        return path.suffix.lower() in VIDEO_SUFFIXES and stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def first_folder(candidates: Iterable[Path]) -> Path | None:
    """The first of the candidates that is a folder."""
    return next((path for path in candidates if is_folder(path)), None)


def count_frames(path: Path) -> int | None:
    """Frames of a folder of images, or those that the header of a video states; None if not known.

    A header may be wrong; `scan_recording` counts the frames that are shown.
    """
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


def format_numbers(numbers: Iterable[int], most: int = 5) -> str:
    """Rising numbers as a short text of ranges.

    >>> format_numbers([3, 4, 5, 9])
    '3-5, 9'
    >>> format_numbers([0, 2, 4], most=2)
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
