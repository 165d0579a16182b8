"""Folders of frames: one image file for each frame, in natural order."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from comemory.errors import SourceError
from comemory.types import Frame
from comemory.video.formats import error_reason, jpeg_end
from comemory.video.resize import MAX_PIXELS, resize

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
DEFAULT_RATE_HZ = 25.0
"""Frames per second where neither the source nor the user states a rate."""
MAX_BYTES = 1 << 29

_SIGNATURES = (
    (b"\xff\xd8\xff", "mjpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"BM", "bmp"),
    (b"RIFF", "webp"),
)

_TIFF_PLACES = {273: 0, 324: 0, 279: 1, 325: 1}


class FrameFolder:
    """A source: a folder of images.

    Its frames are the files that end in one of `IMAGE_SUFFIXES`, in natural order (`2.jpg` before `10.jpg`). Hidden files
    (`.DS_Store`, `._1.jpg`) and all others are ignored. They are listed once, when the folder is opened.

    An image that cannot be read is skipped and listed in `problems`. It keeps its index, so that labels stay aligned.

    Attributes:
        path: of the folder.
        name: name of the folder.
        rate_hz: the rate given, or None. The time of a frame is its place / rate; without a rate, `DEFAULT_RATE_HZ` is
            used. The place is the index, plus one for each number that the names before it leave out; see `number_places`.
        n_frames: number of images, readable or not.
        size: (height, width) of the first readable image.
        problems: one line for each image that the newest iteration skipped, starting with its path.
    """

    def __init__(
        self, path: Path, *, name: str, size: tuple[int, int] | None = None, rate_hz: float | None = None
    ) -> None:
        self.path = path
        self.name = name
        self.rate_hz = rate_hz
        self.problems: list[str] = []
        self._target_size = size
        self._images = _list_images(path)
        self._places = number_places([image.stem for image in self._images])
        self.n_frames: int | None = len(self._images)
        self.size: tuple[int, int] | None = self._probe()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames from the first on.

        Raises:
            SourceError: an image has another size than the first one and no size was asked for.
        """
        self.problems.clear()
        reformatter = VideoReformatter()
        interval_s = 1.0 / (self.rate_hz or DEFAULT_RATE_HZ)
        for (index, path), place in zip(enumerate(self._images), self._places, strict=True):
            try:
                image = read_image(path, self._target_size, reformatter=reformatter)
            except SourceError as error:
                self.problems.append(str(error))
                continue
            if self._target_size is None and image.shape[:2] != self.size:
                height, width = self.size or (0, 0)
                raise SourceError(
                    f"{path}: the image is {image.shape[0]}x{image.shape[1]}, those before it are {height}x{width}: "
                    "expected one size in a folder; pass `size` to resize all frames"
                )
            yield Frame(image, place * interval_s, index)

    def _probe(self) -> tuple[int, int]:
        first_error = None
        for path in self._images:
            try:
                height, width, _ = read_image(path).shape
            except SourceError as error:
                first_error = first_error or error
            else:
                return height, width
        raise SourceError(f"{self.path}: none of its {len(self._images)} images can be read: {first_error}")


def read_image(
    path: Path, size: tuple[int, int] | None = None, *, reformatter: VideoReformatter | None = None
) -> NDArray[np.uint8]:
    """Read one image file. Its content decides its format, its EXIF tag its orientation.

    Args:
        path: a jpg, png, tif, bmp or webp file.
        size: (height, width) to resize to; None leaves the size of the image.
        reformatter: see `resize`.

    Raises:
        SourceError: it is not a regular file, not an image, damaged or truncated, or over `MAX_PIXELS`. The message starts
            with the path.

    Shapes:
        returns: uint8 (height, width, 3), RGB.
    """
    data = _read_bytes(path)
    codec = next((codec for signature, codec in _SIGNATURES if data.startswith(signature)), None)
    if codec is None:
        raise SourceError(f"{path}: not an image: expected jpg, png, tif, bmp or webp")
    try:
        context = cast(VideoCodecContext, av.CodecContext.create(codec, "r"))
        context.thread_count = 1
        context.options = {"max_pixels": str(MAX_PIXELS)} | ({} if codec == "tiff" else {"err_detect": "explode"})
        end = jpeg_end(data) if codec == "mjpeg" else None
        frames = [*context.decode(av.Packet(data[:end])), *context.decode(None)]
    except (av.FFmpegError, ValueError, MemoryError) as error:
        limit = f"{MAX_PIXELS // 1_000_000} megapixels"
        raise SourceError(f"{path}: the image is damaged, truncated or over {limit} ({error_reason(error)})") from error
    if not frames or frames[0].is_corrupt or not _is_whole(codec, data):
        raise SourceError(f"{path}: the image is damaged or truncated")
    return upright_rgb(frames[0], size, reformatter)


def upright_rgb(
    frame: av.VideoFrame, size: tuple[int, int] | None, reformatter: VideoReformatter | None
) -> NDArray[np.uint8]:
    """Convert a decoded frame to RGB, rotate it as its rotation tag says, and resize it.

    Args:
        frame: as decoded.
        size: (height, width) to resize to, upright; None leaves the size.
        reformatter: see `resize`.

    Shapes:
        returns: uint8 (height, width, 3), RGB, C-contiguous.
    """
    turns = round(frame.rotation / 90) % 4
    if turns == 0:
        return resize(frame, size, reformatter=reformatter)
    if size is not None and turns % 2:
        size = (size[1], size[0])
    return np.ascontiguousarray(np.rot90(resize(frame, size, reformatter=reformatter), turns))


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Height and width of a decoded frame after it is turned as its rotation tag says."""
    size = (frame.height, frame.width)
    return size[::-1] if round(frame.rotation / 90) % 2 else size


def _list_images(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.is_dir()]
    except OSError as error:
        raise SourceError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    images = [name for name in names if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        seen = f"it has {len(names)} other files, such as {min(names)!r}" if names else "it is empty"
        raise SourceError(
            f"{folder}: no frames in this folder ({seen}): expected jpg, png, tif, bmp or webp images; "
            f"the videos of a folder are named one by one, such as {folder}/*.mp4"
        )
    return [folder / name for name in sorted(images, key=natural_key)]


def number_places(names: Sequence[str]) -> list[int]:
    """The place of each image in time, from the numbers that their names end with, in intervals since the first one.

    Numbers count only where the names differ in nothing else, and rise in steps of one size most of the time: 5, 10, 15
    are consecutive. Other names tell nothing about time, and the images then count as consecutive.

    >>> number_places(["gate_007", "gate_008", "gate_050", "gate_051"]), number_places(["5", "10", "20", "25"])
    ([0, 1, 43, 44], [0, 1, 3, 4])
    >>> number_places(["a", "b", "c"]), number_places(["cam1_2", "cam2_7"])
    ([0, 1, 2], [0, 1])
    """
    found = [re.fullmatch(r"(.*?)([0-9]+)", name) for name in names]
    numbers = [int(match[2]) for match in found if match]
    by_position = list(range(len(names)))
    if len(numbers) != len(names) or len({match[1] for match in found if match}) > 1:
        return by_position
    steps = [b - a for a, b in pairwise(numbers)]
    (step, count), *_ = Counter(steps).most_common(1) or [(0, 0)]
    if step < 1 or 2 * count <= len(steps) or any(one < 1 for one in steps):
        return by_position
    return [round((number - numbers[0]) / step) for number in numbers]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sort key under which numbers inside names sort by their value.

    >>> sorted(["10.jpg", "2.jpg", "b.jpg", "a.jpg"], key=natural_key)
    ['2.jpg', '10.jpg', 'a.jpg', 'b.jpg']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    key = [(0, int(part), part) if part.isdigit() and part.isascii() else (1, 0, part) for part in parts if part]
    return [*key, (2, 0, name)]


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path}: not a regular file")
        if status.st_size == 0:
            raise SourceError(f"{path}: the file is empty")
        if status.st_size > MAX_BYTES:
            raise SourceError(
                f"{path}: {status.st_size >> 20} MiB are too many for one image: at most {MAX_BYTES >> 20}"
            )
        return path.read_bytes()
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_whole(codec: str, data: bytes) -> bool:
    """Whether a JPEG or TIFF is complete: their decoders may fill the rest of a truncated image with grey, without an error."""
    if codec == "mjpeg":
        return jpeg_end(data) is not None
    if codec == "tiff":
        return _tiff_end(data) <= len(data)
    return True


def _tiff_end(data: bytes) -> int:
    """The offset at which the last strip or tile of a TIFF's first page ends, according to its directory."""
    order = "<" if data.startswith(b"II") else ">"
    lists: dict[int, tuple[int, ...]] = {}
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (n_entries,) = struct.unpack_from(order + "H", data, directory)
        for i in range(n_entries):
            at = directory + 2 + 12 * i
            tag, kind, n = struct.unpack_from(order + "HHI", data, at)
            if tag in _TIFF_PLACES and kind in (3, 4):
                layout = f"{order}{n}{'H' if kind == 3 else 'I'}"
                place = at + 8 if struct.calcsize(layout) <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
                lists[_TIFF_PLACES[tag]] = struct.unpack_from(layout, data, place)
    except struct.error:
        return len(data) + 1
    return max(map(sum, zip(lists.get(0, ()), lists.get(1, ()), strict=False)), default=0)
