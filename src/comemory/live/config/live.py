"""All live settings in one model, and how they are read from a TOML file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from comemory.alerts.config import SinkSettings, parse_sink_settings
from comemory.config import Settings, apply_settings, build, read_toml
from comemory.errors import ConfigError
from comemory.live.config.camera import CameraSettings
from comemory.live.config.groups import (
    EventSettings,
    HealthSettings,
    LabelSettings,
    LearnSettings,
    RetentionSettings,
    StoreSettings,
    WebSettings,
)
from comemory.secret_values import resolve_secret

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class LiveSettings(Settings):
    """All settings of a live system: cameras, store, page, alerts, retention, events, labels, health, learning."""

    cameras: dict[str, CameraSettings] = Field(
        default_factory=dict, title="Cameras", description="`[cameras.NAME]`: one table per camera."
    )
    model: Path | None = Field(None, title="Model", description="Bundle for each camera that has none of its own.")
    out: Path = Field(Path("live"), title="Output folder", description="Folder for everything that is written.")
    runtime: str = Field(
        "openvino", title="Runtime", description="What executes the network: `openvino`, `onnx` or `pytorch`."
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        title="Precision",
        description="Number format of the network. `auto` takes the fastest one that the bundle contains and this "
        "CPU runs faster than fp32.",
    )
    device: str = Field(
        "CPU",
        title="Device",
        description="What the network runs on: `CPU`; with the runtime `openvino` also another device that it finds, such as "
        "`GPU`, or `AUTO` for its own choice.",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=256,
        title="Workers",
        description="Threads that score frames, one core each. Default: one per core.",
    )
    store: StoreSettings = StoreSettings()
    alerts: dict[str, SinkSettings] = Field(
        default_factory=dict, title="Alerts", description="`[alerts.NAME]`: one table per alert sink."
    )
    web: WebSettings = WebSettings()
    retention: RetentionSettings = RetentionSettings()
    events: EventSettings = EventSettings()
    labels: LabelSettings = LabelSettings()
    health: HealthSettings = HealthSettings()
    learn: LearnSettings = LearnSettings()

    @model_validator(mode="before")
    @classmethod
    def _writable(cls, values: Any) -> Any:
        """Refuse null bytes: no path, URL or text with one can be used."""
        if place := _null_byte(values):
            raise ValueError(f"{place} contains a null byte")
        return values

    @field_validator("alerts", mode="before")
    @classmethod
    def _alerts(cls, alerts: Any) -> Any:
        if not isinstance(alerts, Mapping):
            return alerts
        return {
            name: parse_sink_settings(name, values) if isinstance(values, Mapping) else values
            for name, values in alerts.items()
        }

    @field_validator("cameras", "alerts")
    @classmethod
    def _named(cls, things: dict[str, Any]) -> dict[str, Any]:
        for name in things:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"the name {name!r} cannot be used: a name has the letters a to z and A to Z, digits, '.', '-' and '_' "
                    "only, begins with a letter or a digit, and has 64 characters at most"
                )
        return things

    @model_validator(mode="after")
    def _consistent(self) -> LiveSettings:
        for name, camera in self.cameras.items():
            if camera.model is None and self.model is None:
                raise ValueError(f"camera {name!r} has no model: give model, or --model for all cameras")
        for name, alert in self.alerts.items():
            if unknown := sorted({*alert.cameras, *alert.per_camera} - set(self.cameras)):
                raise ValueError(f"alert {name!r} names the camera {unknown[0]!r}, which does not exist")
        return self

    def bundle_of(self, camera: str) -> Path:
        """The path of the bundle that scores a camera."""
        path = self.cameras[camera].model or self.model
        if path is None:
            raise ConfigError(f"camera {camera!r} has no model: give model, or --model for all cameras")
        return path

    def require_urls(self) -> None:
        """Check that the URL of each enabled camera is known.

        Raises:
            ConfigError: the environment variable of one is not set.
        """
        for name, camera in self.cameras.items():
            if camera.enabled:
                camera.require_url(name)

    @property
    def store_url(self) -> str:
        """The URL of the event store, or the path of its file. It may hold a password: mask it before logging."""
        return (
            resolve_secret(self.store.url, "store.url", is_location=True)
            if self.store.url
            else str(self.out.absolute() / "events.db")
        )

    @property
    def media(self) -> Path:
        """The folder of thumbnails, heat maps and clips."""
        return self.store.media or self.out / "media"


def read_live(file: Path | None, values: Mapping[str, Any] | None = None, settings: Sequence[str] = ()) -> LiveSettings:
    """Read live settings from a TOML file; nested values override the file, `key=value` settings override both.

    Relative paths in the file start at the file's folder, all others at the working folder.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is invalid.
    """
    merged = {} if file is None else _with_absolute_paths(read_toml(file), file.absolute().parent)
    _merge(merged, values or {})
    return build(LiveSettings, apply_settings(merged, settings))


def _merge(base: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _with_absolute_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The file's values with absolute paths; values of the wrong type are left for the validation to report."""

    def groups(name: str) -> list[dict[str, Any]]:
        found = values.get(name)
        return [group for group in found.values() if isinstance(group, dict)] if isinstance(found, dict) else []

    def replace(
        group: Any, keys: Sequence[str], make: Callable[[str], str] = lambda path: absolute_path(path, folder)
    ) -> None:
        for key in keys:
            if isinstance(group, dict) and isinstance(group.get(key), str):
                group[key] = make(group[key])

    replace(values, ("model", "out"))
    replace(values.get("store"), ("media",))
    replace(values.get("store"), ("url",), lambda url: _absolute_store(url, folder))
    replace(values.get("labels"), ("file",))
    replace(values.get("web"), ("certificate", "key"))
    for camera in groups("cameras"):
        replace(camera, ("model",))
        replace(camera, ("url",), lambda url: absolute(url, folder))
    for alert in groups("alerts"):
        replace(alert, ("ca_file",))
    return values


def _absolute_store(url: str, folder: Path) -> str:
    """Make the file of a SQLite database absolute; leave other databases and `env:NAME` as they are.

    The result is a plain path where possible: a `?` or `%` in a folder's name would change the meaning of a URL.
    """
    scheme = "sqlite:///"
    path = url.removeprefix(scheme)
    if path != url:
        if path in ("", ":memory:"):
            return url
        full = absolute_path(path, folder)
        return full if {"?", "%"}.isdisjoint(path) else scheme + full
    return absolute(url, folder)


def _null_byte(values: Any, place: str = "") -> str:
    """The key of the first text or path with a null byte, such as `cameras.gate.url`; empty if there is none."""
    if isinstance(values, Mapping):
        parts = [(str(key), value) for key, value in values.items()]
        if strange := [key for key, _ in parts if "\0" in key]:
            return f"{place} {strange[0]!r}".strip()
    elif isinstance(values, list | tuple):
        parts = [(str(number), value) for number, value in enumerate(values)]
    else:
        return place if isinstance(values, str | Path) and "\0" in str(values) else ""
    return next(filter(None, (_null_byte(value, f"{place}.{key}".lstrip(".")) for key, value in parts)), "")


def absolute(url: str, folder: Path) -> str:
    """Make the path of a file absolute; leave URLs, devices and `env:NAME` as they are.

    >>> absolute("clip.mp4", Path("/videos")), absolute("rtsp://gate/live", Path("/videos"))
    ('/videos/clip.mp4', 'rtsp://gate/live')
    """
    return url if not url or "://" in url or url.startswith("env:") else absolute_path(url, folder)


def absolute_path(path: str | Path, folder: Path) -> str:
    """Make a path absolute, without `..`; a `..` after a link stays where removing it would change the meaning.

    >>> absolute_path("../new/live.mp4", Path("/videos/site"))
    '/videos/new/live.mp4'
    """
    full = str(folder / path)
    plain = os.path.normpath(full)
    with suppress(OSError, ValueError):  # a null byte is left for the validation to report
        return plain if plain == full or os.path.realpath(plain) == os.path.realpath(full) else full
    return full
