"""Pictures that cannot be judged, told by real pictures that were spoilt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from comemory.datasets import open_dataset
from comemory.live.config import HealthSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.image_health import ImageHealth

Picture = np.ndarray
STEP_S = 0.25


@pytest.fixture(scope="module")
def scene() -> list[Picture]:
    video = open_dataset("synthetic:seed=3,frames=40,training=1,testing=1,size=120x180").training()[0].source
    return [frame.image for frame in video]  # type: ignore[union-attr]


def feed(health: ImageHealth, pictures: list[Picture], start_s: float) -> tuple[list[CameraState], list[bool]]:
    found = [health.check(np.ascontiguousarray(picture), start_s + k * STEP_S) for k, picture in enumerate(pictures)]
    return [one.state for one in found], [one.usable for one in found]


SPOILT: dict[CameraState, Callable[[Picture], Picture]] = {
    CameraState.BLACK: lambda picture: picture // 40,
    CameraState.COVERED: lambda picture: np.full_like(picture, 130) + picture // 80,
    CameraState.MOVED: lambda picture: np.roll(picture, 40, axis=0),
}


@pytest.mark.parametrize("state", SPOILT)
def test_spoilt_pictures_are_told_and_never_usable(scene: list[Picture], state: CameraState) -> None:
    health = ImageHealth(HealthSettings())
    states, usable = feed(health, scene, 0)
    assert set(states) == {CameraState.LIVE}
    assert all(usable)
    states, usable = feed(health, [SPOILT[state](picture) for picture in scene], 100)
    assert states[-1] is state
    assert sum(usable) <= 1
    states, usable = feed(health, scene, 200)
    assert states[-1] is CameraState.LIVE
    assert usable[-1]


def test_defocus_is_blinded(scene: list[Picture]) -> None:
    health = ImageHealth(HealthSettings())
    feed(health, scene, 0)
    states, _ = feed(health, [np.asarray(cv2.GaussianBlur(picture, (0, 0), 8)) for picture in scene], 100)
    assert states[-1] is CameraState.COVERED


def test_identical_pictures_freeze_after_the_time(scene: list[Picture]) -> None:
    health = ImageHealth(HealthSettings(frozen_s=3))
    states, usable = feed(health, [scene[0]] * 30, 0)
    assert states[11] is CameraState.LIVE
    assert states[13] is CameraState.FROZEN
    assert not usable[13]
    assert feed(health, scene, 50)[0][-1] is CameraState.LIVE


def test_darker_light_is_no_other_scene(scene: list[Picture]) -> None:
    health = ImageHealth(HealthSettings())
    feed(health, scene, 0)
    assert set(feed(health, [picture // 3 for picture in scene], 100)[0]) == {CameraState.LIVE}


def test_the_scene_outlives_a_restart(scene: list[Picture], tmp_path: Path) -> None:
    view = tmp_path / "cameras" / "view.npz"
    health = ImageHealth(HealthSettings(), view)
    feed(health, scene, 0)
    health.save()
    moved = [np.roll(picture, 40, axis=0) for picture in scene]
    again = ImageHealth(HealthSettings(), view)
    assert feed(again, moved, 0)[0][-1] is CameraState.MOVED
    again.reset_reference()
    assert set(feed(again, moved, 100)[0]) == {CameraState.LIVE}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"nothing of the kind"])
def test_a_torn_view_is_learned_anew(scene: list[Picture], tmp_path: Path, content: bytes) -> None:
    view = tmp_path / "view.npz"
    view.write_bytes(content)
    assert set(feed(ImageHealth(HealthSettings(), view), scene, 0)[0]) == {CameraState.LIVE}
