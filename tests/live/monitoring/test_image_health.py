"""Camera faults, found in rendered images that were changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from comemory.datasets import open_dataset
from comemory.live.config import HealthSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.image_health import COMPARE_INTERVAL_S, ImageHealth
from comemory.video.source import open_source

Image = np.ndarray
STEP_S = 0.25


@pytest.fixture(scope="module")
def scene() -> list[Image]:
    video = open_dataset("synthetic:seed=3,frames=40,training=1,testing=1,size=120x180").training()[0].source
    return [frame.image for frame in video]  # type: ignore[union-attr]


def feed(health: ImageHealth, images: list[Image], start_s: float) -> tuple[list[CameraState], list[bool]]:
    found = [health.check(np.ascontiguousarray(image), start_s + k * STEP_S) for k, image in enumerate(images)]
    return [one.state for one in found], [one.usable for one in found]


FAULTS: dict[CameraState, Callable[[Image], Image]] = {
    CameraState.BLACK: lambda image: image // 40,
    CameraState.COVERED: lambda image: np.full_like(image, 130) + image // 80,
    CameraState.MOVED: lambda image: np.roll(image, 40, axis=0),
}


@pytest.mark.parametrize("state", FAULTS)
def test_faulty_images_are_found_and_never_usable(scene: list[Image], state: CameraState) -> None:
    health = ImageHealth(HealthSettings())
    states, usable = feed(health, scene, 0)
    assert set(states) == {CameraState.LIVE}
    assert all(usable)
    states, usable = feed(health, [FAULTS[state](image) for image in scene], 100)
    assert states[-1] is state
    assert sum(usable) <= 1
    states, usable = feed(health, scene, 200)
    assert states[-1] is CameraState.LIVE
    assert usable[-1]


def test_out_of_focus_is_covered(scene: list[Image]) -> None:
    health = ImageHealth(HealthSettings())
    feed(health, scene, 0)
    states, _ = feed(health, [np.asarray(cv2.GaussianBlur(image, (0, 0), 8)) for image in scene], 100)
    assert states[-1] is CameraState.COVERED


@pytest.mark.parametrize("width", [0.25, 0.35])
@pytest.mark.parametrize("level", [0, 255])
def test_a_large_thing_of_strong_contrast_is_not_covered(scene: list[Image], width: float, level: int) -> None:
    rows, columns = scene[0].shape[:2]
    mask = np.zeros((rows, columns), np.float32)
    mask[rows // 10 : -(rows // 10), int(0.35 * columns) : int((0.35 + width) * columns)] = 1
    lorry = cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None]
    health = ImageHealth(HealthSettings())
    feed(health, scene, 0)
    states, usable = feed(
        health, [np.round(image * (1 - lorry) + level * lorry).astype(np.uint8) for image in scene], 20
    )
    assert set(states) == {CameraState.LIVE}
    assert all(usable)


OTHER_SCENES = [pytest.param(name, marks=pytest.mark.slow) for name in ("ped1:ped1", "avenue:avenue", "folder:coffee")]


@pytest.mark.parametrize("name", ["ped2:ped2", *OTHER_SCENES])
def test_recorded_normal_footage_is_live(data: Path, name: str) -> None:
    kind, folder = name.split(":")
    health, start = ImageHealth(HealthSettings()), 0.0
    found = []
    for video in open_dataset(f"{kind}:{data / folder}").training():
        source = open_source(video.source)
        step = round(COMPARE_INTERVAL_S * (source.rate_hz or 10))
        for frame in source:
            if frame.index % step == 0:
                found.append(health.check(frame.image, start))
                start += COMPARE_INTERVAL_S
    assert len(found) > 200
    assert {finding.state for finding in found} == {CameraState.LIVE}
    assert all(finding.usable for finding in found)


def test_recorded_footage_out_of_focus_is_covered(data: Path) -> None:
    clips = [list(open_source(data / "ped2" / "training" / "frames" / name)) for name in ("03", "04")]
    health = ImageHealth(HealthSettings())
    assert set(feed(health, [frame.image for frame in clips[0]], 0)[0]) == {CameraState.LIVE}
    blurred = [np.asarray(cv2.GaussianBlur(frame.image, (0, 0), 4)) for frame in clips[1]]
    states, usable = feed(health, blurred, 100)
    assert states[-1] is CameraState.COVERED
    assert not any(usable)


def test_identical_images_are_frozen_after_the_time(scene: list[Image]) -> None:
    health = ImageHealth(HealthSettings(frozen_s=3))
    states, usable = feed(health, [scene[0]] * 30, 0)
    assert states[11] is CameraState.LIVE
    assert states[13] is CameraState.FROZEN
    assert not usable[13]
    assert feed(health, scene, 50)[0][-1] is CameraState.LIVE


def test_darker_light_is_no_moved_view(scene: list[Image]) -> None:
    health = ImageHealth(HealthSettings())
    feed(health, scene, 0)
    assert set(feed(health, [image // 3 for image in scene], 100)[0]) == {CameraState.LIVE}


def test_reference_survives_a_restart(scene: list[Image], tmp_path: Path) -> None:
    view = tmp_path / "cameras" / "view.npz"
    health = ImageHealth(HealthSettings(), view)
    feed(health, scene, 0)
    health.save()
    moved = [np.roll(image, 40, axis=0) for image in scene]
    again = ImageHealth(HealthSettings(), view)
    assert feed(again, moved, 0)[0][-1] is CameraState.MOVED
    again.reset_reference()
    assert set(feed(again, moved, 100)[0]) == {CameraState.LIVE}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"not a file of NumPy"])
def test_damaged_reference_file_is_replaced(scene: list[Image], tmp_path: Path, content: bytes) -> None:
    view = tmp_path / "view.npz"
    view.write_bytes(content)
    assert set(feed(ImageHealth(HealthSettings(), view), scene, 0)[0]) == {CameraState.LIVE}
