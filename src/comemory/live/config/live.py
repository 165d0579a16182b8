"""Everything live in one model, and the file that it is read from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from comemory.alerts.config import SinkSettings, read_alert
from comemory.config import apply_settings, build, read_toml
from comemory.config_model import Settings
from comemory.errors import ConfigError
from comemory.live.config.camera import CameraSettings
from comemory.live.config.groups import (
    DriftSettings,
    EventSettings,
    HealthSettings,
    LearnSettings,
    RetentionSettings,
    StoreSettings,
    WebSettings,
)
from comemory.secret_values import reveal

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class LiveSettings(Settings):
    """Everything live.

    Attributes:
        cameras: by name.
        model: bundle of the cameras that name none.
        out: folder of everything that is written.
        runtime: entry of `runtimes.RUNTIMES`.
        precision: what the network computes in: `fp32`, `bf16`, `int8`; `auto` takes the fastest that the bundle holds
            and this CPU gains by, as `comemory score` does.
        workers: threads that run the network, one core each; None is one for each core.
    """

    cameras: dict[str, CameraSettings] = Field(default_factory=dict)
    model: Path | None = None
    out: Path = Path("live")
    runtime: str = "openvino"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    workers: int | None = Field(None, ge=1, le=256)
    store: StoreSettings = StoreSettings()
    alerts: dict[str, SinkSettings] = Field(default_factory=dict)
    web: WebSettings = WebSettings()
    retention: RetentionSettings = RetentionSettings()
    events: EventSettings = EventSettings()
    health: HealthSettings = HealthSettings()
    drift: DriftSettings = DriftSettings()
    learn: LearnSettings = LearnSettings()

    @model_validator(mode="before")
    @classmethod
    def _writable(cls, values: Any) -> Any:
        """No path, URL or text of any kind can be used with a null byte in it."""
        if place := _null_byte(values):
            raise ValueError(f"{place} has a null byte in it")
        return values

    @field_validator("alerts", mode="before")
    @classmethod
    def _alerts(cls, alerts: Any) -> Any:
        if not isinstance(alerts, Mapping):
            return alerts
        return {name: read_alert(name, told) if isinstance(told, Mapping) else told for name, told in alerts.items()}

    @field_validator("cameras", "alerts")
    @classmethod
    def _named(cls, things: dict[str, Any]) -> dict[str, Any]:
        for name in things:
            if not NAME.fullmatch(name):
                raise ValueError(f"the name {name!r} needs letters, digits, '.', '-' or '_', 64 at most")
        return things

    @model_validator(mode="after")
    def _consistent(self) -> LiveSettings:
        for name, camera in self.cameras.items():
            if camera.model is None and self.model is None:
                raise ValueError(f"camera {name!r} has no model: give model, or --model for all cameras")
        for name, alert in self.alerts.items():
            if strangers := sorted({*alert.cameras, *alert.per_camera} - set(self.cameras)):
                raise ValueError(f"alert {name!r} is for the camera {strangers[0]!r}, which is none")
        return self

    def bundle_of(self, camera: str) -> Path:
        """The bundle that a camera is watched with."""
        path = self.cameras[camera].model or self.model
        if path is None:
            raise ConfigError(f"camera {camera!r} has no model: give model, or --model for all cameras")
        return path

    @property
    def store_url(self) -> str:
        """The URL of the event store, or the path of its file. Never log it unmasked."""
        return reveal(self.store.url, "store.url") if self.store.url else str(self.out.absolute() / "events.db")

    @property
    def media(self) -> Path:
        """The folder of the events' files."""
        return self.store.media or self.out / "media"


def read_live(file: Path | None, values: Mapping[str, Any] | None = None, settings: Sequence[str] = ()) -> LiveSettings:
    """Live settings from a TOML file, with nested values laid over it, and `key=value` settings over both.

    Paths in the file are relative to the file's folder; those given otherwise to the working folder.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value that does not fit.
    """
    merged = {} if file is None else _anchored(read_toml(file), file.absolute().parent)
    _lay_over(merged, values or {})
    return build(LiveSettings, apply_settings(merged, settings))


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), dict):
            _lay_over(below[key], value)
        else:
            below[key] = value


def _anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The file's relative paths made absolute; what does not fit is left for the check of the settings."""

    def groups(name: str) -> list[dict[str, Any]]:
        found = values.get(name)
        return [group for group in found.values() if isinstance(group, dict)] if isinstance(found, dict) else []

    def anchor(group: Any, keys: Sequence[str], to: Callable[[str], str] = lambda path: str(folder / path)) -> None:
        for key in keys:
            if isinstance(group, dict) and isinstance(group.get(key), str):
                group[key] = to(group[key])

    anchor(values, ("model", "out"))
    anchor(values.get("store"), ("media",))
    anchor(values.get("store"), ("url",), lambda url: _absolute_store(url, folder))
    anchor(values.get("web"), ("certificate", "key"))
    for camera in groups("cameras"):
        anchor(camera, ("model",))
        anchor(camera, ("url",), lambda url: absolute(url, folder))
    for alert in groups("alerts"):
        anchor(alert, ("ca_file",))
    return values


def _absolute_store(url: str, folder: Path) -> str:
    """The file of a SQLite store made absolute; other databases and `env:NAME` as they are.

    A path says the same in any folder; in a URL, a `?` or `%` of the folder's name would say something else.
    """
    scheme = "sqlite:///"
    path = url.removeprefix(scheme)
    if path != url:
        whole = str(folder / path)
        return url if path in ("", ":memory:") else whole if {"?", "%"}.isdisjoint(path) else scheme + whole
    return absolute(url, folder)


def _null_byte(values: Any, place: str = "") -> str:
    """Where in nested values a text or path has a null byte, such as `cameras.gate.url`; empty where none has."""
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
    """A file's path made absolute; URLs, devices and `env:NAME` as they are.

    >>> absolute("clip.mp4", Path("/videos")), absolute("rtsp://gate/live", Path("/videos"))
    ('/videos/clip.mp4', 'rtsp://gate/live')
    """
    return url if not url or "://" in url or url.startswith("env:") else str(folder / url)
