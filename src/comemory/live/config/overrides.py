"""Zones, budgets and models set while the system runs: they survive a restart until the settings file changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from comemory.config import build
from comemory.errors import ConfigError
from comemory.files import file_lock, read_json_object, write_text
from comemory.live.config import CameraSettings, LiveSettings
from comemory.scoring.config import DEFAULT_FALSE_ALARMS

KEYS = ("zones", "false_alarms", "model")


class Overrides:
    """Values set while the system runs, in `overrides.json`, each with the setting that it replaced.

    A setting that was edited since then wins over the override.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "overrides.json"
        self._last_version = self._version()

    def apply(self, settings: LiveSettings) -> LiveSettings:
        """The settings with the overrides applied."""
        stored = self._read()
        cameras = {name: self._camera(camera, stored.get(name, {})) for name, camera in settings.cameras.items()}
        return settings.model_copy(update={"cameras": cameras})

    def has_changed(self) -> bool:
        """Whether the file has changed since the last call."""
        before, self._last_version = self._last_version, self._version()
        return self._last_version != before

    def set(self, camera: str, key: str, was: Any, now: Any) -> None:
        """Store a value of a camera.

        Args:
            camera: its name.
            key: name of the setting.
            was: the setting that it replaces, in plain JSON.
            now: the new value, in plain JSON; if it equals `was`, the override is removed.

        Raises:
            SourceError: the file cannot be written, or the present one cannot be read.
        """
        with file_lock(self.path.parent):
            stored = _entries(read_json_object(self.path))
            entry = stored.setdefault(camera, {})
            if was == now:
                entry.pop(key, None)
            else:
                entry[key] = {"was": was, "now": now}
            write_text(self.path, json.dumps(stored, indent=1) + "\n")

    def forget(self, camera: str, keys: Collection[str] = KEYS) -> None:
        """Remove what was set of a camera: it is gone, or the settings file says something new.

        Raises:
            SourceError: the file cannot be written, or the present one cannot be read.
        """
        with file_lock(self.path.parent):
            stored = _entries(read_json_object(self.path))
            entry = {key: value for key, value in stored.get(camera, {}).items() if key not in keys}
            if entry != stored.get(camera, {}):
                write_text(self.path, json.dumps({**stored, camera: entry}, indent=1) + "\n")

    def _version(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)

    def _camera(self, camera: CameraSettings, stored: Mapping[str, Any]) -> CameraSettings:
        plain = camera.model_dump(mode="json")
        changes = {
            key: stored[key]["now"]
            for key in KEYS
            if isinstance(stored.get(key), dict)
            and "now" in stored[key]
            and _is_unedited(plain[key], stored[key].get("was"))
        }
        try:
            return build(CameraSettings, {**plain, **changes}) if changes else camera
        except ConfigError:
            return camera

    def _read(self) -> dict[str, Any]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return _entries(stored) if isinstance(stored, dict) else {}


def _is_unedited(value: Any, was: Any) -> bool:
    """Whether a setting is still what it was when it was overridden; versions before budgets followed the model had 1/h."""
    return value == was or (value is None and was == DEFAULT_FALSE_ALARMS)


def _entries(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in stored.items() if isinstance(entry, dict)}
