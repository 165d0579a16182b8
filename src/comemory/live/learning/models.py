"""The bundles that were trained for a camera: the newest is active, and a rollback leads to the one before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comemory.bundle import open_bundle
from comemory.errors import BundleError, ConfigError
from comemory.files import file_lock, read_json_list, require_writable_folder, write_text
from comemory.live.config import LiveSettings
from comemory.live.config.overrides import Overrides
from comemory.live.learning.progress import LearningProgress, read_progress


class CameraModels:
    """The bundles trained for a camera, oldest first, in `cameras/NAME/models.json`.

    Activating one writes it to the overrides, where a running engine finds it and switches without a gap.

    Raises:
        ConfigError: the settings have no such camera.
    """

    def __init__(self, settings: LiveSettings, camera: str) -> None:
        if camera not in settings.cameras:
            raise ConfigError(f"there is no camera {camera!r} in the settings")
        self.settings, self.camera = settings, camera
        self.folder = settings.out / "cameras" / camera
        self._file = self.folder / "models.json"
        self._overrides = Overrides(settings.out)

    @property
    def history(self) -> list[Path]:
        """The active bundle and those before it.

        Raises:
            SourceError: the list is damaged.
        """
        return [Path(str(path)) for path in read_json_list(self._file)]

    @property
    def current(self) -> Path:
        """The active bundle."""
        return self._overrides.apply(self.settings).bundle_of(self.camera)

    def activate(self, bundle: Path) -> None:
        """Activate a bundle; the one before it stays for a rollback.

        Raises:
            BundleError: it is not a bundle, or damaged.
        """
        open_bundle(bundle)
        with self._changing():
            self._write([*self.history, bundle.absolute()])

    def roll_back(self) -> Path:
        """Activate the bundle before the present one, and give its path.

        Raises:
            ConfigError: there is none.
            BundleError: it is missing or damaged.
        """
        with self._changing():
            history = self.history
            if not history:
                raise ConfigError(f"camera {self.camera!r} has no model of its own: there is nothing to go back to")
            configured = self.settings.bundle_of(self.camera)
            before = history[-2] if len(history) > 1 else configured
            try:
                open_bundle(before)
            except BundleError as error:
                raise BundleError(f"cannot go back to {before}: {error}") from None
            self._write(history[:-1])
            self._report_rollback(before)
            return before

    def _report_rollback(self, before: Path) -> None:
        """Replace what the page says of the last training; one that runs goes on to report itself."""
        if not any(one["camera"] == self.camera and one["running"] for one in read_progress(self.settings.out)):
            message = f"the camera uses the model before it again, {before.name}"
            LearningProgress(self.folder, self.camera).begin_stage("rolled back", message, running=False)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock of the camera: one process at a time reads, changes and writes the list."""
        require_writable_folder(self.folder)
        with file_lock(self.folder):
            yield

    def _write(self, history: list[Path]) -> None:
        write_text(self._file, json.dumps([str(path) for path in history], indent=1) + "\n")
        configured = self.settings.cameras[self.camera].model_dump(mode="json")["model"]
        self._overrides.set(self.camera, "model", configured, str(history[-1]) if history else configured)
