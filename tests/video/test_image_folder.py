"""Folders of frames: what counts as a frame, its order, and what happens to damaged ones."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving_disc import disc_images

from comemory.errors import SourceError
from comemory.video.image_folder import natural_key, number_places, read_image
from comemory.video.source import open_source


def fill(folder: Path, n: int = 5, suffix: str = ".png") -> list[np.ndarray]:
    folder.mkdir(exist_ok=True)
    images = disc_images(n)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i}{suffix}"), image[..., ::-1])
    return images


def exif_jpeg(image: np.ndarray, orientation: int) -> bytes:
    data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def huge_png(height: int, width: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def directory_first(tiff: bytes) -> bytes:
    """The same TIFF with its directory, and the strip lists, before the pixels."""
    (place,) = struct.unpack_from("<I", tiff, 4)
    (n,) = struct.unpack_from("<H", tiff, place)
    size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}
    entries = [struct.unpack_from("<HHI4s", tiff, place + 2 + 12 * i) for i in range(n)]
    values = {}
    for tag, kind, count, value in entries:
        length = size[kind] * count
        at = struct.unpack("<I", value)[0]
        values[tag] = value[:length] if length <= 4 else tiff[at : at + length]
    layout = {tag: f"<{count}{'H' if kind == 3 else 'I'}" for tag, kind, count, _ in entries if tag in (273, 279)}
    offsets, counts = (struct.unpack(layout[tag], values[tag]) for tag in (273, 279))
    head = 8 + 2 + 12 * n + 4
    extra = sum(len(value) for value in values.values() if len(value) > 4) + 2 * len(offsets) * 4
    base, moved, pixels = head + extra, [], b""
    for offset, count in zip(offsets, counts, strict=True):
        moved.append(base + len(pixels))
        pixels += tiff[offset : offset + count]
    values[273] = struct.pack(f"<{len(moved)}I", *moved)
    directory, tail = struct.pack("<H", n), b""
    for tag, kind, count, _ in entries:
        value = values[tag]
        if len(value) > 4:
            value, tail = struct.pack("<I", head + len(tail)), tail + value
        directory += struct.pack("<HHI4s", tag, 4 if tag == 273 else kind, count, value.ljust(4, b"\0"))
    return (b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + tail).ljust(base, b"\0") + pixels


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".jpg", ".JPG", ".webp"])
def test_frames_of_every_format(tmp_path, suffix):
    images = fill(tmp_path / "frames", 12, suffix)
    source = open_source(tmp_path / "frames", rate_hz=10)
    frames = list(source)
    assert (source.name, source.rate_hz, source.n_frames, source.size) == ("frames", 10, 12, (48, 64))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 10 for i in range(12)])
    lossless = suffix in (".png", ".bmp", ".tif", ".tiff")
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.flags.c_contiguous
        assert np.abs(frame.image.astype(int) - image).mean() <= (0 if lossless else 3)
    assert source.problems == []
    assert [frame.index for frame in source] == list(range(12))


def test_the_default_rate_is_25(tmp_path):
    fill(tmp_path / "frames")
    source = open_source(tmp_path / "frames")
    assert source.rate_hz is None
    assert [frame.time_s for frame in source] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_missing_numbers_are_missing_time(tmp_path):
    fill(tmp_path, 9)
    for missing in (3, 4, 7):
        (tmp_path / f"{missing}.png").unlink()
    frames = list(open_source(tmp_path, rate_hz=10))
    assert [frame.index for frame in frames] == list(range(6)), "labels go by position"
    assert [round(10 * frame.time_s) for frame in frames] == [0, 1, 2, 5, 6, 8]


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["a1", "a2", "b9"], [0, 1, 2]),
        (["1700000000123", "1700000000987", "1700000002345"], [0, 1, 2]),
        (["07", "7", "8"], [0, 1, 2]),
        (["only"], [0]),
        ([], []),
        (["0010", "0020", "0030", "0090"], [0, 1, 2, 8]),
    ],
)
def test_only_a_regular_numbering_tells_time(names, places):
    assert number_places(names) == places


def test_other_files_are_ignored(tmp_path):
    folder = tmp_path / "frames"
    fill(folder)
    for junk in (".DS_Store", "Thumbs.db", "._1.png", ".hidden.png", "labels.txt", "desktop.ini"):
        (folder / junk).write_bytes(b"junk")
    (folder / "more.png").mkdir()
    source = open_source(folder)
    assert len(list(source)) == source.n_frames == 5
    assert source.problems == []


def test_numbers_are_ordered_by_value():
    names = ["10.jpg", "9.jpg", "100.jpg", "a2.jpg", "a10.jpg", "A3.jpg", "009.jpg"]
    assert sorted(names, key=natural_key) == ["009.jpg", "9.jpg", "10.jpg", "100.jpg", "a2.jpg", "A3.jpg", "a10.jpg"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="ab01²٣.-", min_size=1, max_size=6), max_size=8))
def test_the_order_of_names_is_unique(names):
    turned = names[::-1]
    assert sorted(names, key=natural_key) == sorted(turned, key=natural_key)


def test_a_damaged_frame_is_reported_and_keeps_its_index(tmp_path):
    folder = tmp_path / "frames"
    fill(folder)
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:200])
    source = open_source(folder)
    for _ in range(2):
        frames = list(source)
        assert [frame.index for frame in frames] == [0, 1, 3, 4]
        assert [frame.time_s for frame in frames] == pytest.approx([0, 0.04, 0.12, 0.16])
        assert len(source.problems) == 1
        assert source.problems[0].startswith(str(folder / "2.png"))


def test_the_first_frame_may_be_damaged(tmp_path):
    folder = tmp_path / "frames"
    fill(folder)
    (folder / "0.png").write_bytes(b"not an image")
    source = open_source(folder)
    assert source.size == (48, 64)
    assert [frame.index for frame in source] == [1, 2, 3, 4]
    assert "not an image" in source.problems[0]


def test_a_special_file_is_reported_and_does_not_hang(tmp_path):
    folder = tmp_path / "frames"
    fill(folder)
    os.mkfifo(folder / "5.png")
    (folder / "6.png").symlink_to(folder / "gone.png")
    (folder / "7.png").write_bytes(b"")
    (folder / "8.png").symlink_to("/dev/zero")
    source = open_source(folder)
    assert len(list(source)) == 5
    assert [Path(problem.split(": ")[0]).name for problem in source.problems] == ["5.png", "6.png", "7.png", "8.png"]


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(b"junk")
    with pytest.raises(SourceError, match="none of its 3 images"):
        open_source(folder)


def test_folders_without_frames_are_refused(tmp_path):
    with pytest.raises(SourceError, match="it is empty"):
        open_source(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"such as 'a\.mp4'"):
        open_source(tmp_path)


def test_a_change_of_size_is_an_error_without_a_target_size(tmp_path):
    folder = tmp_path / "frames"
    fill(folder)
    cv2.imwrite(str(folder / "3.png"), disc_images(1, 30, 40)[0])
    seen = []
    with pytest.raises(SourceError, match=r"3\.png: the image is 30x40, those before it are 48x64"):
        seen.extend(frame.index for frame in open_source(folder))
    assert seen == [0, 1, 2]
    sized = open_source(folder, size=(24, 32))
    assert sized.size == (48, 64)
    assert [frame.image.shape for frame in sized] == [(24, 32, 3)] * 5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_images_are_turned_upright(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(exif_jpeg(disc_images(1)[0], orientation))
    expected = cv2.imread(str(path))[..., ::-1]
    made = read_image(path)
    assert made.shape == expected.shape
    assert np.abs(made.astype(int) - expected).mean() < 2
    assert read_image(path, (24, 32)).shape == (24, 32, 3)


@pytest.mark.parametrize("compression", [1, 5, 8])
def test_a_truncated_tiff_with_its_directory_in_front_is_refused(tmp_path, compression):
    image = disc_images(1)[0]
    body = cv2.imencode(".tif", image[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1].tobytes()
    whole = directory_first(body)
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    assert np.array_equal(read_image(path), image)
    for share in (0.2, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: round(len(whole) * share)])
        with pytest.raises(SourceError, match="truncated"):
            read_image(path)


def test_grey_deep_and_transparent_images(tmp_path):
    grey = disc_images(1)[0][..., 0]
    for name, image in (
        ("grey.png", grey),
        ("deep.png", grey.astype(np.uint16) * 257),
        ("deep.tif", grey.astype(np.uint16) * 257),
    ):
        cv2.imwrite(str(tmp_path / name), image)
        made = read_image(tmp_path / name)
        assert made.shape == (48, 64, 3)
        assert np.abs(made.astype(int) - grey[..., None]).max() <= 1
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([disc_images(1)[0][..., ::-1], grey]))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), disc_images(1)[0])


def test_the_content_decides_the_format_not_the_name(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), disc_images(1)[0][..., ::-1])
    path = (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(path), disc_images(1)[0])


def test_a_decompression_bomb_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(huge_png(60_000, 60_000))
    with pytest.raises(SourceError, match="over 100 megapixels"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
def test_an_image_truncated_anywhere_is_refused(tmp_path, suffix):
    data = cv2.imencode(suffix, disc_images(1, 60, 80)[0])[1].tobytes()
    path = tmp_path / f"a{suffix}"
    for n in [*range(0, len(data) - 8, max(1, len(data) // 60)), len(data) - 20]:
        path.write_bytes(data[:n])
        with pytest.raises(SourceError, match=str(path)):
            read_image(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([".jpg", ".png", ".tif", ".bmp", ".webp"]),
    at=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=40),
)
def test_damage_gives_an_image_or_a_source_error(tmp_path, kind, at, junk):
    data = bytearray(cv2.imencode(kind, disc_images(1)[0])[1].tobytes())
    place = round(at * len(data))
    data[place : place + len(junk)] = junk
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with contextlib.suppress(SourceError):
        made = read_image(path)
        assert made.dtype == np.uint8
        assert made.ndim == 3


def test_ped2(data: Path):
    source = open_source(data / "ped2" / "testing" / "frames" / "01", rate_hz=10)
    frames = list(source)
    assert (source.n_frames, source.size, len(frames)) == (180, (240, 360), 180)
    assert source.problems == []
    assert {frame.image.shape for frame in frames} == {(240, 360, 3)}
    expected = cv2.imread(str(data / "ped2" / "testing" / "frames" / "01" / "007.jpg"))[..., ::-1]
    assert np.abs(frames[7].image.astype(int) - expected).max() <= 2
