from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from datasets import made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from comemory.datasets import mat5
from comemory.datasets.mat5 import read_cells
from comemory.errors import DatasetError

FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def cells(arrays: list[Any], shape: tuple[int, int] | None = None) -> np.ndarray:
    box = np.empty(len(arrays), object)
    box[:] = arrays
    return box.reshape(shape or (1, len(arrays)), order="F")


def saved(variables: dict[str, Any], compressed: bool = True) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=compressed)
    return buffer.getvalue()


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, shape: tuple[int, ...], name: bytes, body: bytes, order: str = "<", flags: int = 0) -> bytes:
    head = element(6, struct.pack(f"{order}II", kind | flags, 0), order)
    head += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order) + element(1, name, order)
    return element(14, head + body, order)


def mat_file(body: bytes, order: str = "<") -> bytes:
    version = struct.pack(f"{order}H", 0x0100)
    return b"MATLAB 5.0 MAT-file".ljust(124) + version + (b"IM" if order == "<" else b"MI") + body


def box(body: bytes, count: int = 1, order: str = "<") -> bytes:
    return mat_file(matrix(1, (1, count), b"volLabel", body, order), order)


def read(tmp_path: Path, data: bytes, name: str = "volLabel") -> list[np.ndarray]:
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    return list(read_cells(path, name))


@pytest.mark.parametrize("number", [8, 17, 19, 21])
def test_the_real_masks_are_what_scipy_reads(data: Path, number: int) -> None:
    path = data / "avenue" / "testing_label_mask" / f"{number}_label.mat"
    expected = scipy.io.loadmat(path)["volLabel"][0]
    count = 0
    for ours, theirs in zip(read_cells(path, "volLabel"), expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
        count += 1
    assert count == len(expected)


NUMBERS = st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]).flatmap(
    lambda kind: hnp.arrays(np.dtype(kind), hnp.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4))
)


@FUZZ
@given(st.lists(NUMBERS, min_size=1, max_size=4), st.booleans())
def test_any_numbers_come_back_as_scipy_reads_them(tmp_path: Path, arrays: list[np.ndarray], compressed: bool) -> None:
    data = saved({"other": np.arange(3.0), "text": "hello", "volLabel": cells(arrays)}, compressed)
    expected = scipy.io.loadmat(io.BytesIO(data))["volLabel"].ravel(order="F")
    for ours, theirs in zip(read(tmp_path, data), expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)


def test_cells_come_down_the_columns(tmp_path: Path) -> None:
    arrays = [np.full((1, 1), value) for value in range(6)]
    found = read(tmp_path, saved({"volLabel": cells(arrays, (2, 3))}))
    assert [int(array[0, 0]) for array in found] == list(range(6))


@pytest.mark.parametrize("compressed", [False, True])
def test_the_other_byte_order_is_read(tmp_path: Path, compressed: bool) -> None:
    values = np.arange(6, dtype=">u2").reshape(2, 3, order="F")
    body = matrix(1, (1, 1), b"volLabel", matrix(11, (2, 3), b"", element(4, values.tobytes(order="F"), ">"), ">"), ">")
    if compressed:
        squeezed = zlib.compress(body)
        body = struct.pack(">II", 15, len(squeezed)) + squeezed
    data = mat_file(body, ">")
    expected = scipy.io.loadmat(io.BytesIO(data))["volLabel"][0, 0]
    (ours,) = read(tmp_path, data)
    assert np.array_equal(ours, expected)
    assert np.array_equal(ours, values)


def test_an_empty_cell_is_an_empty_array(tmp_path: Path) -> None:
    (array,) = read(tmp_path, box(element(14, b"")))
    assert array.size == 0


ONE = matrix(9, (2, 2), b"", element(2, b"\0\1\1\0"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not start with a MATLAB 5 header"),
        (b"MATLAB 7.3 MAT-file".ljust(200), "save it again with -v7"),
        (mat_file(b"")[:124] + b"\x00\x09IM", "version is 0x0900"),
        (mat_file(b""), "no variable 'volLabel' .it has: none"),
        (mat_file(matrix(9, (1, 1), b"mask", element(2, b"\1"))), "it has: mask"),
        (mat_file(b"\x0e\0\0"), "ends early"),
        (mat_file(struct.pack("<II", 14, 1 << 31)), "are left"),
        (mat_file(matrix(9, (1, 1), b"volLabel", element(2, b"\1"))), "is not a cell array"),
        (box(ONE, count=2), "reaches beyond its end"),
        (box(ONE, count=1 << 30), "states 1073741824 cells"),
        (box(ONE + ONE), "not as long as it states"),
        (box(element(9, b"\0" * 8)), "is not an array"),
        (box(matrix(4, (1, 1), b"", element(4, b"a\0"))), "something else than real numbers"),
        (box(matrix(6, (1, 1), b"", element(9, b"\0" * 8), flags=0x0800)), "something else than real numbers"),
        (box(matrix(17, (1, 1), b"", b"")), "something else than real numbers"),
        (box(matrix(9, (3, 2), b"", element(2, b"\0\1"))), r"shape .3, 2. has 2 bytes"),
        (box(matrix(9, (-1, 2), b"", element(2, b"\0\1"))), r"has the shape .-1, 2."),
        (box(matrix(9, (1, 1), b"", element(9, b"\0" * 8))), "class 9 is stored as type 9"),
        (box(matrix(9, (1, 1), b"", element(77, b"\0"))), "stored as type 77"),
        (box(matrix(9, (2, 2), b"", element(2, b"\0\1\1\0") + bytes(8))), "not as long as it states"),
        (box(matrix(9, (1, 1), b"", struct.pack("<HHI", 2, 9, 0))), "small element states 9 bytes"),
        (box(matrix(9, (1, 1), b"", struct.pack("<II", 2, 1 << 30))), "states 1073741824 bytes, more than"),
        (box(matrix(9, (1, 1), b"", struct.pack("<II", 2, 1 << 20))), "reaches beyond its end"),
        (box(element(14, element(5, bytes(8)))), "has no flags"),
        (box(element(14, element(6, struct.pack("<II", 9, 0)) + element(6, bytes(8)))), "has no shape"),
        (
            box(element(14, element(6, struct.pack("<II", 9, 0)) + element(5, bytes(8)) + element(9, bytes(8)))),
            "has no name",
        ),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DatasetError, match=said) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "a.mat"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        list(read_cells(tmp_path / "absent.mat", "volLabel"))


def test_a_file_that_inflates_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat5, "MAX_FILE_BYTES", 1 << 20)
    array = np.zeros((1 << 10, 1 << 10), np.uint8)
    data = saved({"volLabel": cells([array, array])})
    assert len(data) < 1 << 14
    with pytest.raises(DatasetError, match="reaches beyond its end"):
        read(tmp_path, data)


def test_a_wrong_checksum_and_data_behind_the_array_are_refused(tmp_path: Path) -> None:
    body = matrix(1, (1, 1), b"volLabel", ONE)
    good = zlib.compress(body)
    for squeezed, said in ((good[:-1] + bytes([good[-1] ^ 1]), "damaged"), (zlib.compress(body + b"x"), "more data")):
        with pytest.raises(DatasetError, match=said):
            read(tmp_path, mat_file(struct.pack("<II", 15, len(squeezed)) + squeezed))


@FUZZ
@given(st.binary(max_size=400), st.sampled_from(["<", ">", ""]), st.sampled_from([14, 15, None]))
def test_arbitrary_bytes_give_a_result_or_one_error(tmp_path: Path, junk: bytes, order: str, kind: int | None) -> None:
    body = junk if kind is None else struct.pack(f"{order or '<'}II", kind, len(junk)) + junk
    assert "\n" not in made.error_of(lambda: read(tmp_path, mat_file(body, order) if order else junk))


@FUZZ
@given(st.data())
def test_a_flipped_or_cut_file_gives_a_result_or_one_error(tmp_path: Path, data: st.DataObject) -> None:
    compressed = data.draw(st.booleans())
    content = bytearray(saved({"volLabel": cells([np.eye(5, dtype=np.uint8), np.ones((2, 3))])}, compressed))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(124, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(100, len(content)))]
    assert "\n" not in made.error_of(lambda: read(tmp_path, bytes(content)))
