"""Pixel masks of one video, read frame by frame, from each format that a data set stores them in."""

from __future__ import annotations

import stat
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.datasets.listing import list_images
from comemory.datasets.mat5 import read_cells
from comemory.datasets.npy import open_npy
from comemory.errors import DatasetError
from comemory.video.formats import MAX_PIXELS, image_size, jpeg_end

MAX_IMAGE_BYTES = 1 << 28


class Masks(Protocol):
    """One mask for each frame: `masks[i]` is bool (H, W), True where abnormal. Reading one may raise DatasetError."""

    @property
    def path(self) -> Path:
        """Path of the file or folder, for errors."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[np.bool_]: ...


def read_mask_image(path: Path) -> NDArray[Any]:
    """Decode the image of a mask as it is stored, without conversion.

    Shapes:
        returns: uint8, uint16 or float32, (H, W) or (H, W, channels).

    Raises:
        DatasetError: it cannot be read, is cut short, is not an image, or has more than `MAX_PIXELS`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"{path}: is not a regular file, expected an image")
        if status.st_size > MAX_IMAGE_BYTES:
            raise DatasetError(f"{path}: {status.st_size} bytes are too many for an image (at most {MAX_IMAGE_BYTES})")
        data = path.read_bytes()
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data:
        raise DatasetError(f"{path}: the file is empty")
    size = image_size(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise DatasetError(
            f"{path}: the image is {size[0]}x{size[1]}, expected at most {MAX_PIXELS // 10**6} megapixels"
        )
    try:
        image = None if size is None else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    is_cut_jpeg = data.startswith(b"\xff\xd8") and jpeg_end(data) is None  # decoders fill the rest with grey
    if image is None or is_cut_jpeg:
        raise DatasetError(f"{path}: is not a whole image; copy this file again")
    return np.asarray(image)


class MaskFiles:
    """A folder with one image for each frame; any pixel that is not black is abnormal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        _check_index(self.path, index, len(self))
        image = read_mask_image(self._files[index])
        return _as_mask(self._files[index], image if image.ndim == 2 else image[..., :3].max(axis=2))

    @cached_property
    def _files(self) -> list[Path]:
        return list_images(self.path)


class MaskArray:
    """A `.npy` array (T, H, W), mapped into memory: only the frames asked for are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._array: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self._open())

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        _check_index(self.path, index, len(self))
        return _as_mask(self.path, np.asarray(self._open()[index]))

    def _open(self) -> NDArray[Any]:
        if self._array is None:
            array = open_npy(self.path)
            if array.ndim != 3:
                raise DatasetError(
                    f"{self.path}: holds an array of shape {array.shape}, expected (frames, height, width)"
                )
            self._array = array
        return self._array


class MaskCells:
    """A MATLAB cell array of masks: read once from start to end, then held compressed, for access to any frame."""

    def __init__(self, path: Path, variable: str) -> None:
        self.path = path
        self._variable = variable
        self._packed: list[tuple[tuple[int, ...], bytes]] | None = None

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        _check_index(self.path, index, len(self))
        shape, packed = self._read()[index]
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(np.bool_)

    def _read(self) -> list[tuple[tuple[int, ...], bytes]]:
        if self._packed is None:
            packed = []
            for cell in read_cells(self.path, self._variable):
                mask = _as_mask(self.path, cell)
                packed.append((mask.shape, zlib.compress(np.packbits(mask).tobytes(), 1)))
            self._packed = packed
        return self._packed


def _as_mask(path: Path, values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.ndim != 2:
        raise DatasetError(f"{path}: a mask has the shape {values.shape}, expected (height, width)")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise DatasetError(f"{path}: a mask holds NaN, expected 0 where normal and 1 where abnormal")
    return np.asarray(values != 0)


def _check_index(path: Path, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise DatasetError(f"{path}: there is no mask for frame {index}; there are {count}, counted from 0")
