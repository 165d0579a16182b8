"""Cell arrays of numbers from MATLAB 5 `.mat` files, one cell at a time.

Reads what the labels of Avenue and UCSD need and nothing else: numeric arrays in a cell array, compressed or not, of
either byte order. Every length that the file states is checked before it is used, and memory is bounded by one array,
whatever the file states.

`scipy.io.loadmat` is not used, because its memory is not bounded: with scipy 1.17, a file of 184 bytes that states
500 million cells takes 3.9 GiB, 600 kB of compressed zeros take 820 MiB, and 20,000 nested cells end the process. This
reader refuses all three and needs no memory for them.

Source: MathWorks, "MAT-File Format" (level 5).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from comemory.errors import DatasetError

MAX_ARRAY_BYTES = 1 << 28
MAX_FILE_BYTES = 1 << 32
MAX_CELLS = 1 << 20
_CHUNK = 1 << 16
_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_CELL_CLASS, _FUNCTION_CLASS, _OPAQUE_CLASS = 1, 16, 17
_COMPLEX = 0x0800


def read_cells(path: Path, name: str) -> Iterator[NDArray[Any]]:
    """The numeric arrays of the cell array called `name`, in MATLAB's order (down the columns).

    Raises:
        DatasetError: the file cannot be read, is damaged or cut short, is of another version, has no such variable, or
            the variable is not a cell array of real numeric arrays.
    """
    try:
        with path.open("rb") as file:
            yield from _cells_of(file, path, name)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _DamageError as damage:
        raise DatasetError(f"{path}: is not a readable MATLAB 5 file: {damage}") from None


Order = Literal["<", ">"]


class _DamageError(Exception):
    """What is wrong with the file, without its path."""


class _Matrix(NamedTuple):
    kind: int
    flags: int
    shape: tuple[int, ...]
    name: str
    end: int


@dataclass(slots=True)
class _Section:
    """Reads one top-level element, decompressed if it is compressed, and never beyond its end.

    Attributes:
        left: bytes of the element not yet read from the file.
        order: `<` or `>`, the byte order of the file.
        position: bytes returned so far, after decompression.
    """

    file: BinaryIO
    left: int
    order: Order
    inflater: Any = None
    position: int = 0

    def read(self, size: int) -> bytes:
        if size > self.available():
            raise _DamageError("an element reaches beyond its end")
        data = self._inflate(size) if self.inflater else self._raw(size)
        if len(data) < size:
            raise _DamageError("it ends early")
        self.position += size
        return data

    def available(self) -> int:
        """The most bytes that can still be read."""
        return MAX_FILE_BYTES - self.position if self.inflater else self.left

    def finish(self) -> None:
        """Check that nothing follows, and the checksum of a compressed element."""
        if self._inflate(1) if self.inflater else self.left:
            raise _DamageError("there is more data than its arrays need")
        if self.inflater and not self.inflater.eof:
            raise _DamageError("it ends early")

    def _raw(self, size: int) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        return data

    def _inflate(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and not self.inflater.eof:
            source = self.inflater.unconsumed_tail or self._raw(min(_CHUNK, self.left))
            try:
                data = self.inflater.decompress(source, size)
            except zlib.error as error:
                raise _DamageError(f"its compressed data is damaged ({error})") from None
            if not source and not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)


def _cells_of(file: BinaryIO, path: Path, name: str) -> Iterator[NDArray[Any]]:
    order = _byte_order(file.read(_HEADER_BYTES))
    size = path.stat().st_size
    seen = []
    while tag := file.read(8):
        if len(tag) < 8:
            raise _DamageError("it ends early")
        kind, length = struct.unpack(f"{order}II", tag)
        following = file.tell() + length
        if following > size:
            raise _DamageError(f"an element states {length} bytes, but {size - file.tell()} are left")
        section = _Section(file, length, order, zlib.decompressobj() if kind == _COMPRESSED else None)
        matrix = _open_variable(section, kind, length)
        if matrix and matrix.name == name:
            yield from _read_cell_array(section, matrix)
            section.finish()
            return
        if matrix:
            seen.append(matrix.name)
        file.seek(following)
    raise _DamageError(f"it has no variable {name!r} (it has: {', '.join(seen[:10]) or 'none'})")


def _byte_order(header: bytes) -> Order:
    if header.startswith(b"MATLAB 7.3") or header[:8] == b"\x89HDF\r\n\x1a\n":
        raise _DamageError("it is of version 7.3; save it again with -v7")
    if len(header) < _HEADER_BYTES or header[126:128] not in (b"IM", b"MI"):
        raise _DamageError("it does not start with a MATLAB 5 header")
    order: Order = "<" if header[126:128] == b"IM" else ">"
    (version,) = struct.unpack(f"{order}H", header[124:126])
    if version != 0x0100:
        raise _DamageError(f"its version is {version:#06x}, expected 0x0100")
    return order


def _open_variable(section: _Section, kind: int, length: int) -> _Matrix | None:
    """The header of a top-level variable; None for an element that is no variable."""
    if kind == _COMPRESSED:
        kind, length = struct.unpack(f"{section.order}II", section.read(8))
    if kind != _MATRIX or length == 0:
        return None
    return _matrix_head(section, length)


def _matrix_head(section: _Section, length: int) -> _Matrix | None:
    end = section.position + length
    kind, data = _element(section, 8)
    if kind != 6 or len(data) != 8:
        raise _DamageError("an array has no flags")
    (flags,) = struct.unpack(f"{section.order}I", data[:4])
    if flags & 0xFF in (_FUNCTION_CLASS, _OPAQUE_CLASS):
        return None
    kind, data = _element(section, 32 * 4)
    if kind != 5 or len(data) % 4 or not data:
        raise _DamageError("an array has no shape")
    shape = struct.unpack(f"{section.order}{len(data) // 4}i", data)
    if min(shape) < 0:
        raise _DamageError(f"an array has the shape {shape}")
    kind, data = _element(section, 1024)
    if kind not in (1, 2):
        raise _DamageError("an array has no name")
    return _Matrix(flags & 0xFF, flags, shape, data.decode("latin-1"), end)


def _read_cell_array(section: _Section, cell_array: _Matrix) -> Iterator[NDArray[Any]]:
    if cell_array.kind != _CELL_CLASS:
        raise _DamageError(f"{cell_array.name!r} is not a cell array")
    count = math.prod(cell_array.shape)
    if count > MAX_CELLS:
        raise _DamageError(f"{cell_array.name!r} states {count} cells, more than {MAX_CELLS}")
    for _ in range(count):
        kind, length = struct.unpack(f"{section.order}II", section.read(8))
        if kind != _MATRIX:
            raise _DamageError(f"a cell of {cell_array.name!r} is not an array")
        yield _numbers(section, length) if length else np.zeros((0, 0))
    if section.position != cell_array.end:
        raise _DamageError(f"{cell_array.name!r} is not as long as it states")


def _numbers(section: _Section, length: int) -> NDArray[Any]:
    matrix = _matrix_head(section, length)
    if matrix is None or matrix.kind not in _CLASSES or matrix.flags & _COMPLEX:
        raise _DamageError("a cell holds something else than real numbers")
    kind, data = _element(section, MAX_ARRAY_BYTES)
    target = np.dtype(_CLASSES[matrix.kind])
    stored = np.dtype(_TYPES.get(kind, "V1")).newbyteorder(section.order)
    if stored.kind == "V" or (stored.kind == "f" and (target.kind != "f" or stored.itemsize > target.itemsize)):
        raise _DamageError(f"an array of class {matrix.kind} is stored as type {kind}")
    if len(data) != math.prod(matrix.shape) * stored.itemsize:
        raise _DamageError(f"an array of shape {matrix.shape} has {len(data)} bytes")
    if section.position != matrix.end:
        raise _DamageError("an array is not as long as it states")
    values = np.frombuffer(data, stored).astype(target)
    return values.reshape(matrix.shape, order="F")


def _element(section: _Section, most: int) -> tuple[int, bytes]:
    """The type and bytes of a data element, small or normal; its padding is skipped."""
    tag = section.read(8)
    kind, size = struct.unpack(f"{section.order}II", tag)
    if kind >> 16:
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise _DamageError(f"a small element states {size} bytes")
        return kind, tag[4 : 4 + size]
    if size > most:
        raise _DamageError(f"an element states {size} bytes, more than {most}")
    data = section.read(size)
    section.read(-size % 8)
    return kind, data
