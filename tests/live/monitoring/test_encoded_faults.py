"""Camera faults in video as cameras send it: encoded, with the noise of a sensor, and with a running clock."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from comemory.datasets import open_dataset
from comemory.live.config import HealthSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.image_health import ImageHealth

Image = np.ndarray
RATE_HZ = 10
HEALTHY_S, FAULTY_S = 8, 11
SIZE = (360, 480)
FOUND_S = 10.0
"""A fault is found within this time."""


@pytest.fixture(scope="module")
def scene() -> list[Image]:
    """A rendered walkway with people, enlarged."""
    video = open_dataset("synthetic:seed=3,frames=190,training=1,testing=1,size=240x320").training()[0].source
    return [cv2.resize(frame.image, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for frame in video]  # type: ignore[union-attr]


def draw_clock(image: Image, second: int) -> Image:
    image = np.ascontiguousarray(image)
    cv2.rectangle(image, (5, 5), (175, 25), (0, 0, 0), -1)
    cv2.putText(image, f"2026-11-28 12:00:{second:02d}", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return image


@functools.cache
def grains(noise: float) -> list[Image]:
    """The noise of a sensor, the same in every recording."""
    rng = np.random.default_rng(0)
    n_frames = (HEALTHY_S + FAULTY_S) * RATE_HZ
    return [np.round(rng.normal(0, noise, (*SIZE, 1))).astype(np.int16) for _ in range(n_frames)]


def record(scene: list[Image], fault: Callable[[Image, Image], Image], noise: float = 2.0) -> Iterator[Image]:
    """Images of a camera that develops a fault after `HEALTHY_S`, with a clock drawn by the camera.

    Args:
        fault: of the image now, and of the last healthy one.
    """
    n_healthy = HEALTHY_S * RATE_HZ
    last = scene[0]
    for k, grain in enumerate(grains(noise)):
        image = np.clip(scene[k] + grain, 0, 255).astype(np.uint8)
        last = image if k < n_healthy else last
        yield draw_clock(image if k < n_healthy else fault(image, last), k // RATE_HZ)


ENCODERS = {
    "GOP 20": ("libx264", {"crf": "23", "preset": "veryfast", "g": "20"}),
    "GOP 50": ("libx264", {"crf": "28", "preset": "veryfast", "g": "50", "tune": "zerolatency"}),
    "GOP 500": ("libx264", {"crf": "26", "preset": "veryfast", "g": "500"}),
    "CBR": (
        "libx264",
        {"b": "600k", "maxrate": "600k", "bufsize": "600k", "preset": "veryfast", "g": "20", "tune": "zerolatency"},
    ),
    "MJPEG": ("mjpeg", {"q": "5"}),
}


def encode(images: Iterator[Image], name: str) -> list[av.VideoFrame]:
    codec, options = ENCODERS[name]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=RATE_HZ, options=options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as container:
        return list(container.decode(video=0))


def check_all(frames: list[av.VideoFrame]) -> list[tuple[CameraState, bool]]:
    """The state at each frame, and whether the frame may be scored."""
    health, found = ImageHealth(HealthSettings()), []
    for k, frame in enumerate(frames):
        small = np.asarray(cv2.resize(frame.to_ndarray(format="rgb24"), (240, 160), interpolation=cv2.INTER_AREA))
        finding = health.check(small, float(Fraction(k, RATE_HZ)), frame)
        found.append((finding.state, finding.usable))
    return found


def cover_half(image: Image, last: Image) -> Image:
    covered = image.copy()
    covered[:, : SIZE[1] // 2] = (40, 42, 45)
    return covered


FAULTS: dict[str, tuple[Callable[[Image, Image], Image], CameraState]] = {
    "frozen": (lambda image, last: last, CameraState.FROZEN),
    "half covered": (cover_half, CameraState.COVERED),
    "out of focus": (lambda image, last: cv2.GaussianBlur(image, (0, 0), 6), CameraState.COVERED),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_within_ten_seconds(scene: list[Image], fault: str, encoder: str) -> None:
    change, state = FAULTS[fault]
    found = check_all(encode(record(scene, change), encoder))
    n_healthy = HEALTHY_S * RATE_HZ
    assert all(one == (CameraState.LIVE, True) for one in found[:n_healthy])
    first = next((k for k, one in enumerate(found) if one[0] is state), len(found))
    assert first - n_healthy <= FOUND_S * RATE_HZ
    assert not any(usable for _, usable in found[first:])
    if fault != "frozen":
        assert sum(usable for _, usable in found[n_healthy:]) <= 1, "the switch itself must not be scored"


@pytest.mark.parametrize("noise", [0.7, 2.0])
@pytest.mark.parametrize("encoder", ["GOP 20", "GOP 50", "CBR", "MJPEG"])
def test_empty_scene_with_the_noise_of_a_sensor_is_not_frozen(scene: list[Image], encoder: str, noise: float) -> None:
    found = check_all(encode(record([scene[0]] * len(scene), lambda image, last: image, noise), encoder))
    assert {state for state, _ in found} == {CameraState.LIVE}


def test_a_frozen_camera_is_live_again_with_its_first_new_image(scene: list[Image]) -> None:
    def stuck_for_nine_seconds() -> Iterator[Image]:
        for k in range(HEALTHY_S * RATE_HZ):
            yield draw_clock(scene[k], k // RATE_HZ)
        for k in range(9 * RATE_HZ):
            yield draw_clock(scene[HEALTHY_S * RATE_HZ], HEALTHY_S + k // RATE_HZ)
        for k in range(20):
            yield draw_clock(scene[HEALTHY_S * RATE_HZ + 30 + k], HEALTHY_S + 9 + k // RATE_HZ)

    found = check_all(encode(stuck_for_nine_seconds(), "GOP 20"))
    n_before = (HEALTHY_S + 9) * RATE_HZ
    assert found[n_before - 1][0] is CameraState.FROZEN
    assert found[n_before] == (CameraState.LIVE, True)
