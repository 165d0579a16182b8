"""The bundles of a camera: none is lost to another process or to a damaged list."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comemory.errors import ConfigError, SourceError
from comemory.live.config import CameraSettings, LiveSettings
from comemory.live.learning.models import CameraModels
from comemory.live.learning.progress import LearningProgress, read_progress


@pytest.fixture
def settings(tmp_path: Path, nano_bundle: Path) -> LiveSettings:
    return LiveSettings(out=tmp_path / "live", model=nano_bundle, cameras={"gate": CameraSettings(url="rtsp://x/y")})


def test_concurrent_activations_are_all_recorded(settings: LiveSettings, nano_bundle: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: CameraModels(settings, "gate").activate(nano_bundle), range(4)))
    models = CameraModels(settings, "gate")
    assert models.history == [nano_bundle.absolute()] * 4
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: CameraModels(settings, "gate").roll_back(), range(4)))
    assert models.history == []
    with pytest.raises(ConfigError, match="nothing to go back to"):
        models.roll_back()


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000])
def test_damaged_list_is_not_overwritten(settings: LiveSettings, nano_bundle: Path, text: str) -> None:
    models = CameraModels(settings, "gate")
    models.activate(nano_bundle)
    file = models.folder / "models.json"
    file.write_text(text)
    for change in (lambda: models.activate(nano_bundle), models.roll_back):
        with pytest.raises(SourceError, match="is damaged and was left as it is"):
            change()
    assert file.read_text() == text


def test_a_rollback_takes_the_place_of_the_training_that_it_undoes(settings: LiveSettings, nano_bundle: Path) -> None:
    models = CameraModels(settings, "gate")
    with LearningProgress(models.folder, "gate") as progress:
        models.activate(nano_bundle)
    assert [one["stage"] for one in read_progress(settings.out)] == ["done"]
    models.activate(nano_bundle)
    models.roll_back()
    (shown,) = read_progress(settings.out)
    assert (shown["stage"], shown["running"]) == ("rolled back", False)
    assert shown["message"] == f"the camera uses the model before it again, {nano_bundle.name}"
    with progress:
        models.roll_back()
        assert read_progress(settings.out)[0]["running"]
    assert [one["stage"] for one in read_progress(settings.out)] == ["done"]
