"""Which bundles a camera had: the newest is in force, the one before it is a rollback away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comemory.bundle import open_bundle
from comemory.errors import BundleError, ConfigError
from comemory.files import alone_in, read_list, require_folder, write_text
from comemory.live.config import LiveSettings
from comemory.live.config.overrides import Overrides


class CameraModels:
    """The bundles that a camera has learned, oldest first, in `cameras/NAME/models.json`.

    Putting one in force writes it to the overrides, where a running engine finds it and goes over to it without a gap.
    """

    def __init__(self, settings: LiveSettings, camera: str) -> None:
        if camera not in settings.cameras:
            raise ConfigError(f"there is no camera {camera!r} in the settings")
        self.settings, self.camera = settings, camera
        self.folder = settings.out / "cameras" / camera
        self._file = self.folder / "models.json"
        self._overrides = Overrides(settings.out)

    @property
    def learned(self) -> list[Path]:
        """Those learned and in force or before the one in force.

        Raises:
            SourceError: the list is damaged: nothing is put in force over it.
        """
        return [Path(str(path)) for path in read_list(self._file)]

    @property
    def current(self) -> Path:
        """The bundle in force."""
        return self._overrides.laid_over(self.settings).bundle_of(self.camera)

    def put(self, bundle: Path) -> None:
        """Put a bundle in force; the one before stays for rollback.

        Raises:
            BundleError: it is none, or damaged.
        """
        open_bundle(bundle)
        with self._changing():
            self._write([*self.learned, bundle.absolute()])

    def roll_back(self) -> Path:
        """Go back to the bundle before; gives it.

        Raises:
            ConfigError: there is none before it.
            BundleError: that one is gone or damaged.
        """
        with self._changing():
            learned = self.learned
            if not learned:
                raise ConfigError(
                    f"camera {self.camera!r} has learned no model of its own: there is nothing to go back to"
                )
            told = self.settings.bundle_of(self.camera)
            before = learned[-2] if len(learned) > 1 else told
            try:
                open_bundle(before)
            except BundleError as error:
                raise BundleError(f"cannot go back to {before}: {error}") from None
            self._write(learned[:-1])
            return before

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The list is read, changed and written by one process at a time."""
        require_folder(self.folder)
        with alone_in(self.folder):
            yield

    def _write(self, learned: list[Path]) -> None:
        write_text(self._file, json.dumps([str(path) for path in learned], indent=1) + "\n")
        told = self.settings.cameras[self.camera].model_dump(mode="json")["model"]
        self._overrides.set(self.camera, "model", told, str(learned[-1]) if learned else told)
