from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from datasets import made

from comemory.datasets import masks
from comemory.datasets.masks import MaskArray, MaskCells, MaskFiles, read_mask_image
from comemory.errors import DatasetError
from comemory.video.formats import image_size


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_an_image_is_read_and_a_truncated_one_refused(tmp_path: Path, suffix: str) -> None:
    path = made.image_file(tmp_path / f"a{suffix}")
    assert read_mask_image(path).shape[:2] == made.SIZE
    for keep in (0.98, 0.5, 0.05):
        made.cut(path, keep)
        with pytest.raises(DatasetError, match="not a whole image"):
            read_mask_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = made.image_file(tmp_path / f"a{suffix}")
    height, width = made.SIZE
    assert image_size(path.read_bytes()) == (width, height)
    monkeypatch.setattr(masks, "MAX_PIXELS", height * width - 1)
    with pytest.raises(DatasetError, match=f"is {width}x{height}, expected at most"):
        read_mask_image(path)


def test_sizes_in_headers_of_every_kind(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    for ending, options in (
        (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50]),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
        (".tif", [cv2.IMWRITE_TIFF_COMPRESSION, 5]),
    ):
        data = cv2.imencode(ending, image, options)[1].tobytes()
        assert image_size(data) == (47, 33)
        for cut in range(40):
            assert image_size(data[:cut]) in (None, (47, 33))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(DatasetError, match="No such file"):
        read_mask_image(path)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match="is empty"):
        read_mask_image(path)
    path.write_bytes(b"hello")
    with pytest.raises(DatasetError, match="not a whole image"):
        read_mask_image(path)
    with pytest.raises(DatasetError, match="not a regular file"):
        read_mask_image(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DatasetError, match="too many for an image"):
        read_mask_image(path)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_any_pixel_that_is_not_black_is_abnormal(tmp_path: Path, channels: int, kind: type) -> None:
    image = np.zeros((6, 8, channels), kind)
    image[2, 3, 0] = 1
    if channels == 4:
        image[..., 3] = 255
    cv2.imwrite(str(tmp_path / "000.png"), image)
    mask = MaskFiles(tmp_path)[0]
    assert mask.dtype == np.bool_
    assert np.argwhere(mask).tolist() == [[2, 3]]


def test_a_mask_that_is_not_there_is_refused(tmp_path: Path) -> None:
    masks = MaskFiles(made.masks(tmp_path, [0, 1]))
    assert len(masks) == 2
    for index in (-1, 2):
        with pytest.raises(DatasetError, match="there are 2, counted from 0"):
            masks[index]


def test_an_array_is_read_frame_by_frame(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 2, (5, 4, 3))
    np.save(tmp_path / "a.npy", array)
    masks = MaskArray(tmp_path / "a.npy")
    assert np.array_equal(np.stack([masks[index] for index in range(len(masks))]), array == 1)


def test_an_array_of_another_shape_or_with_nan_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 3)))
    with pytest.raises(DatasetError, match=r"shape \(4, 3\), expected \(frames, height, width\)"):
        len(MaskArray(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", np.full((2, 4, 3), np.nan))
    with pytest.raises(DatasetError, match="holds NaN"):
        MaskArray(tmp_path / "b.npy")[0]


def test_cells_are_read_in_any_order(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    frames = [random.integers(0, 2, (7, 9)).astype(np.uint8) for _ in range(4)]
    box = np.empty((1, 4), object)
    box[0, :] = frames
    scipy.io.savemat(tmp_path / "a.mat", {"volLabel": box}, do_compression=True)
    masks = MaskCells(tmp_path / "a.mat", "volLabel")
    assert len(masks) == 4
    for index in (3, 0, 2, 1):
        assert np.array_equal(masks[index], frames[index] == 1)
    assert np.array_equal(pickle.loads(pickle.dumps(masks))[2], frames[2] == 1)
