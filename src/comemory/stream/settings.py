"""What a live system is told: cameras, store, alerts, page, retention, learning. One TOML, or flags.

[cameras.gate]
url = "rtsp://user:pass@gate.lan/stream"        # or "env:GATE_URL"
model = "models/gate"
false_alarms = "1/day"

[alerts.desk]
kind = "webhook"
url = "https://desk.lan/hook"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from comemory.config import apply_settings, build, read_toml
from comemory.decision import parse_budget
from comemory.errors import ConfigError
from comemory.events.alerts.settings import SinkSettings, read_alert
from comemory.events.hours import Hours
from comemory.events.secrets import reveal
from comemory.settings import Settings

Point = tuple[float, float]
"""x and y as shares of the picture's width and height, 0 to 1, from the top left."""
Zone = tuple[Point, ...]
"""A polygon of at least three points; the last one is joined to the first."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class CameraSettings(Settings):
    """One camera, or a file that is played as if it were one.

    Attributes:
        url: `rtsp://`, `http://` (MJPEG, HLS), `/dev/video0`, a file; or `env:NAME`.
        model: bundle; None takes the one for all cameras.
        false_alarms: how many are bearable on ordinary video.
        fps: frames a second to score; None is the rate that the model was trained at. Other rates than that are scored
            at their own risk: what moves looks faster or slower than what was learned.
        zones: polygons in which nothing counts.
        hours: when events count, such as `08:00-18:00` or `mon-fri 22:00-06:00`, local time; always when empty.
        transport: of RTSP.
        realtime: play a file at its own pace, as if it were live; False reads it as fast as it is scored.
        loop: begin a file anew at its end.
        watch: whether the camera is watched at all.
    """

    url: str = Field(min_length=1, repr=False)
    model: Path | None = None
    false_alarms: str = "1/day"
    fps: float | None = Field(None, gt=0, le=240)
    zones: tuple[Zone, ...] = ()
    hours: tuple[str, ...] = ()
    transport: Literal["tcp", "udp"] = "tcp"
    realtime: bool = True
    loop: bool = False
    watch: bool = True

    @field_validator("false_alarms")
    @classmethod
    def _budget(cls, text: str) -> str:
        parse_budget(text)
        return text

    @field_validator("hours")
    @classmethod
    def _readable(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for text in hours:
            Hours.read(text)
        return hours

    @field_validator("zones")
    @classmethod
    def _inside(cls, zones: tuple[Zone, ...]) -> tuple[Zone, ...]:
        for zone in zones:
            if len(zone) < 3:
                raise ValueError(f"a zone is a polygon of three points or more, got {len(zone)}")
            if any(not 0 <= number <= 1 for point in zone for number in point):
                raise ValueError("the points of a zone are shares of width and height, from 0 to 1")
        return zones

    @property
    def location(self) -> str:
        """The URL or path itself, fetched from the environment where `url` says so. Never log it unmasked."""
        return reveal(self.url, "the url of a camera")

    def is_active(self, now: datetime) -> bool:
        """Whether events count at this local time."""
        return not self.hours or any(Hours.read(text).covers(now) for text in self.hours)


class StoreSettings(Settings):
    """Where events are kept.

    Attributes:
        url: `sqlite:///FILE`, `postgresql+psycopg://…` or `env:NAME`; None is `OUT/events.db`.
        media: folder of thumbnails, heat maps and clips; None is `OUT/media`.
        enabled: False keeps events in `OUT/events.jsonl` alone.
    """

    url: str | None = Field(None, repr=False)
    media: Path | None = None
    enabled: bool = True


class WebSettings(Settings):
    """The page of `comemory serve`.

    Attributes:
        host, port: where it listens.
        password, token: `env:NAME` or a hash, beside those that `comemory serve --set-password` and `--add-token` keep;
            one of them is needed beyond the loopback.
        session_hours: how long a login lasts.
        public_url: how others reach the page, for links in alerts.
        hosts: names that the page may be called by, beside those of the loopback.
        certificate, key: files, PEM, for HTTPS.
    """

    host: str = "127.0.0.1"
    port: int = Field(8710, ge=0, le=65535)
    password: str | None = None
    token: str | None = None
    session_hours: float = Field(12.0, gt=0)
    public_url: str | None = None
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


class RetentionSettings(Settings):
    """How long events and their files are kept: by whichever is reached first.

    Attributes:
        days: of events.
        gigabytes: of all files together, the oldest go first.
        free_gigabytes: of the disk that are left free; the oldest files go first when there is less.
    """

    days: float = Field(30.0, gt=0)
    gigabytes: float = Field(10.0, gt=0)
    free_gigabytes: float = Field(1.0, ge=0)


class EventSettings(Settings):
    """What is kept of an event.

    Attributes:
        clips: keep a clip of it.
        before_s, after_s: seconds of the clip before the start and after the end.
        longest_s: an event that lasts longer is ended and begun anew.
        buffer_mb: memory for the seconds before, for each camera.
    """

    clips: bool = True
    before_s: float = Field(5.0, ge=0, le=60)
    after_s: float = Field(3.0, ge=0, le=60)
    longest_s: float = Field(300.0, ge=1)
    buffer_mb: float = Field(32.0, gt=0)


class HealthSettings(Settings):
    """When a camera is not well.

    Attributes:
        stalled_s: no frame for so long.
        frozen_s: identical frames for so long.
        dark_level: brightest common grey level of a black picture, 0 to 255.
        flat_deviation: largest deviation of grey levels of a blinded picture.
        settle_s: how long a picture is black, blinded or moved before the state says so.
        moved_below: a view whose edges correlate less than this with those of the learned scene is a moved one.
        attempts_per_min: connection attempts a minute, at most.
        backoff_s: longest wait between two attempts.
    """

    stalled_s: float = Field(5.0, gt=0)
    frozen_s: float = Field(10.0, gt=0)
    dark_level: float = Field(16.0, ge=0, le=255)
    flat_deviation: float = Field(4.0, ge=0, le=128)
    settle_s: float = Field(2.0, ge=0)
    moved_below: float = Field(0.65, ge=0, le=1)
    attempts_per_min: int = Field(12, ge=1, le=60)
    backoff_s: float = Field(8.0, gt=0, le=300)


class DriftSettings(Settings):
    """When the scores of ordinary hours have moved away from the calibration.

    Attributes:
        hours: that are looked at together.
        decades: how far the score of the highest tenth may move: 0.5 is three times as many high frames.
        least_frames: of an hour that counts.
    """

    hours: float = Field(12.0, ge=1, le=168)
    decades: float = Field(0.5, gt=0)
    least_frames: int = Field(1000, ge=1)


class LearnSettings(Settings):
    """Learning from a camera.

    Attributes:
        gigabytes: of recorded clips, at most.
        cpu_share: of one core that training may take, 0 to 1.
        preset: of the training.
    """

    gigabytes: float = Field(4.0, gt=0)
    cpu_share: float = Field(0.5, gt=0, le=1)
    preset: str = "small"


class LiveSettings(Settings):
    """Everything live.

    Attributes:
        cameras: by name.
        model: bundle of the cameras that name none.
        out: folder of everything that is written.
        runtime: entry of `runtimes.RUNTIMES`.
        workers: threads that run the network, one core each; None is one for each core.
    """

    cameras: dict[str, CameraSettings] = Field(default_factory=dict)
    model: Path | None = None
    out: Path = Path("live")
    runtime: str = "openvino"
    workers: int | None = Field(None, ge=1, le=256)
    store: StoreSettings = StoreSettings()
    alerts: dict[str, SinkSettings] = Field(default_factory=dict)
    web: WebSettings = WebSettings()
    retention: RetentionSettings = RetentionSettings()
    events: EventSettings = EventSettings()
    health: HealthSettings = HealthSettings()
    drift: DriftSettings = DriftSettings()
    learn: LearnSettings = LearnSettings()

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
            if strangers := sorted(set(alert.cameras) - set(self.cameras)):
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
        """The URL of the event store. Never log it unmasked."""
        return (
            reveal(self.store.url, "store.url") if self.store.url else f"sqlite:///{self.out.absolute() / 'events.db'}"
        )

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
    cameras = values.get("cameras")
    named = list(cameras.values()) if isinstance(cameras, dict) else []
    for group in [group for group in (values, values.get("store"), *named) if isinstance(group, dict)]:
        for key in ("model", "out", "media"):
            if isinstance(group.get(key), str):
                group[key] = str(folder / group[key])
    for camera in [camera for camera in named if isinstance(camera, dict)]:
        if isinstance(camera.get("url"), str):
            camera["url"] = absolute(camera["url"], folder)
    return values


def absolute(url: str, folder: Path) -> str:
    """A file's path made absolute; URLs, devices and `env:NAME` as they are.

    >>> absolute("clip.mp4", Path("/videos")), absolute("rtsp://gate/live", Path("/videos"))
    ('/videos/clip.mp4', 'rtsp://gate/live')
    """
    return url if not url or "://" in url or url.startswith("env:") else str(folder / url)
