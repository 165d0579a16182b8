"""Zones and budgets set while running: they outlive a restart, until the settings say something new."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comemory.config import build
from comemory.errors import ConfigError
from comemory.files import alone_in, read_object, write_text
from comemory.live.config import CameraSettings, LiveSettings

KEYS = ("zones", "false_alarms", "model")


class Overrides:
    """What was set while running, in `overrides.json`, each with the setting that it took the place of.

    A setting that has changed since wins over what was set before: who edits the file means it.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "overrides.json"
        self._seen = self._stamp()

    def laid_over(self, settings: LiveSettings) -> LiveSettings:
        """The settings with what was set while running."""
        kept = self._read()
        cameras = {name: self._camera(camera, kept.get(name, {})) for name, camera in settings.cameras.items()}
        return settings.model_copy(update={"cameras": cameras})

    def changed(self) -> bool:
        """Whether the file is another one than at the last call."""
        before, self._seen = self._seen, self._stamp()
        return self._seen != before

    def set(self, camera: str, key: str, was: Any, now: Any) -> None:
        """Keep a value of a camera, in plain JSON, and the setting that it takes the place of.

        Raises:
            SourceError: it cannot be written, or what is there cannot be read.
        """
        with alone_in(self.path.parent):
            kept = _entries(read_object(self.path))
            entry = kept.setdefault(camera, {})
            if was == now:
                entry.pop(key, None)
            else:
                entry[key] = {"was": was, "now": now}
            write_text(self.path, json.dumps(kept, indent=1) + "\n")

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)

    def _camera(self, camera: CameraSettings, kept: Mapping[str, Any]) -> CameraSettings:
        plain = camera.model_dump(mode="json")
        changes = {
            key: kept[key]["now"]
            for key in KEYS
            if isinstance(kept.get(key), dict) and "now" in kept[key] and kept[key].get("was") == plain[key]
        }
        try:
            return build(CameraSettings, {**plain, **changes}) if changes else camera
        except ConfigError:
            return camera

    def _read(self) -> dict[str, Any]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return _entries(kept) if isinstance(kept, dict) else {}


def _entries(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in kept.items() if isinstance(entry, dict)}
