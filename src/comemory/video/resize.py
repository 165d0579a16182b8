"""The one resize of comemory: training, evaluation and live detection see the same pixels because all of them use it."""

from __future__ import annotations

import threading
from typing import cast

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from comemory.errors import SourceError
from comemory.types import describe_value
from comemory.video.formats import MAX_PIXELS as MAX_PIXELS

FLAGS = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""Area averaging, full chroma interpolation, accurate rounding: within 1.5 grey levels of a float reference."""

_MAX_REFORMATTERS = 8  # of each thread; cameras of several sizes may share one
_local = threading.local()


def resize(
    image: NDArray[np.uint8] | av.VideoFrame,
    size: tuple[int, int] | None,
    *,
    reformatter: VideoReformatter | None = None,
) -> NDArray[np.uint8]:
    """Resize an image and convert it to RGB, in one step from any format.

    Args:
        image: an RGB array, or a decoded frame in any pixel format. Alpha is dropped; grey becomes three channels.
        size: (height, width); None leaves the size of the image.
        reformatter: caches its tables between calls, for a stream of images of one size and format. By default each thread
            has one for each of the last `_MAX_REFORMATTERS` sizes and formats.

    Returns:
        A C-contiguous array: the given one, if it is an RGB array of the size already; otherwise a new array that owns its
        memory.

    Raises:
        SourceError: the image is not uint8 (H, W, 3), is empty, or a size is not positive or over `MAX_PIXELS`.

    Shapes:
        image: uint8 (H, W, 3), RGB, if it is an array.
        returns: uint8 (h, w, 3), RGB.

    >>> resize(np.full((4, 6, 3), 200, np.uint8), (2, 3))[0, 0].tolist()
    [200, 200, 200]
    """
    if isinstance(image, np.ndarray):
        _check_image(image)
        if size is None or image.shape[:2] == tuple(size):
            return image if image.flags.c_contiguous else np.ascontiguousarray(image)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    else:
        frame = image
    height, width = size or (frame.height, frame.width)
    _check_size(height, width)
    reformatter = reformatter or _reformatter_for((frame.format.name, frame.height, frame.width, height, width))
    try:
        scaled = reformatter.reformat(frame, width, height, "rgb24", interpolation=FLAGS, threads=1)
        return cast("NDArray[np.uint8]", np.array(scaled.to_ndarray(), dtype=np.uint8, order="C"))
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise SourceError(
            f"cannot convert a {frame.format.name} image of {frame.height}x{frame.width} "
            f"to RGB {height}x{width}: {error}"
        ) from error


def luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of an RGB image (BT.601 weights: 0.299 R + 0.587 G + 0.114 B).

    Shapes:
        image: uint8 (H, W, 3), RGB.
        returns: uint8 (H, W).

    >>> luma(np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)).tolist()
    [[255, 0, 76]]
    """
    _check_image(image)
    return cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def _reformatter_for(kind: tuple[str, int, int, int, int]) -> VideoReformatter:
    if not hasattr(_local, "reformatters"):
        _local.reformatters = {}
    cached = cast("dict[tuple[str, int, int, int, int], VideoReformatter]", _local.reformatters)
    reformatter = cached.pop(kind, None) or VideoReformatter()
    cached[kind] = reformatter
    if len(cached) > _MAX_REFORMATTERS:
        del cached[next(iter(cached))]
    return reformatter


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise SourceError(f"an image is {describe_value(image)}: expected uint8 (height, width, 3), RGB")


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise SourceError(
            f"cannot make an image of {height}x{width}: expected a positive height and width and at most "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        )
