"""Small datasets in the layouts of the real ones, made of random image_files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from comemory.errors import DatasetError

SIZE = (32, 48)
"""Height and width of what is made here."""


def image_file(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def image_files(folder: Path, count: int, suffix: str = ".jpg", start: int = 0) -> Path:
    for index in range(count):
        image_file(folder / f"{index + start:03d}{suffix}", seed=index)
    return folder


def mask(path: Path, abnormal: bool, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros(size, np.uint8)
    if abnormal:
        image[2:5, 3:9] = 255
    assert cv2.imwrite(str(path), image)
    return path


def masks(folder: Path, labels: list[int], suffix: str = ".png", start: int = 0) -> Path:
    for index, label in enumerate(labels):
        mask(folder / f"{index + start:03d}{suffix}", bool(label))
    return folder


def video(path: Path, count: int, size: tuple[int, int] = SIZE, rate: int = 25) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for _ in range(count):
            image = random.integers(0, 256, (*size, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def cut(path: Path, keep: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def error_of(act: Callable[[], object]) -> str:
    """The text of the DatasetError that an act ends with, empty when it succeeds; any other error fails the test."""
    try:
        act()
    except DatasetError as error:
        return str(error)
    return ""
