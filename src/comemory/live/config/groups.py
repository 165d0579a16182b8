"""The settings beside the cameras: event store, web page, retention, events, camera health, learning."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from comemory.config import Settings
from comemory.object_store import media_url_error


class StoreSettings(Settings):
    """The event database and its media files: `[store]`."""

    url: str | None = Field(
        None,
        repr=False,
        title="Database URL",
        description="`sqlite:///FILE`, `postgresql+psycopg://…` or `env:NAME`. Default: `OUT/events.db` (SQLite).",
    )
    media: Path | None = Field(
        None, title="Media folder", description="Folder of thumbnails, heat maps and clips. Default: `OUT/media`."
    )
    media_url: str | None = Field(
        None,
        title="Object store",
        description="URL of an object store, such as `s3://bucket/prefix`: the files of ended events are uploaded from the media "
        "folder. Credentials come from the environment. Default: the files stay in the media folder.",
    )
    enabled: bool = Field(
        True,
        title="Use a database",
        description="`false` writes events to `OUT/events.jsonl` only. Alerts need the database.",
    )

    @field_validator("media_url")
    @classmethod
    def _object_store(cls, url: str | None) -> str | None:
        if url is not None and (reason := media_url_error(url)):
            raise ValueError(reason)
        return url

    @model_validator(mode="after")
    def _with_database(self) -> StoreSettings:
        if self.media_url is not None and not self.enabled:
            raise ValueError("media_url needs the database: remove it, or enabled = false")
        return self


class WebSettings(Settings):
    """The page and the API of `comemory serve`: `[web]`."""

    host: str = Field("127.0.0.1", title="Host", description="Address to listen on.")
    port: int = Field(8710, ge=0, le=65535, title="Port", description="TCP port to listen on; 0 picks a free one.")
    password: str | None = Field(
        None,
        repr=False,
        title="Password",
        description="`env:NAME` or a hash, in addition to the password that `comemory serve --set-password` stores. "
        "A password or a token is required on any address other than the loopback.",
    )
    token: str | None = Field(
        None,
        repr=False,
        title="API token",
        description="`env:NAME` or a hash, in addition to the tokens that `comemory serve --add-token` stores.",
    )
    session_hours: float = Field(
        12.0, gt=0, le=8760, title="Session length", description="Hours until a login expires."
    )
    public_url: str | None = Field(
        None,
        title="Public URL",
        description="URL under which others reach the page, for links in alerts. "
        "With `https://`, cookies are `Secure` and browsers use HTTPS only (HSTS).",
    )
    hosts: tuple[str, ...] = Field(
        (),
        title="Allowed host names",
        description="Host names under which the page may be requested, in addition to those of the loopback.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        title="Trusted proxies",
        description="Addresses of reverse proxies, such as `127.0.0.1`: their X-Forwarded-For and X-Forwarded-Proto count, "
        "those of others are ignored.",
    )
    user_header: str | None = Field(
        None,
        title="User header",
        description="Header in which a trusted proxy names the user that it has logged in, such as `Remote-User`.",
    )
    proxy_role: Literal["viewer", "operator", "admin"] = Field(
        "operator", title="Role of proxy users", description="Role of the users that a trusted proxy names."
    )
    certificate: Path | None = Field(None, title="TLS certificate", description="PEM file; enables HTTPS.")
    key: Path | None = Field(None, title="TLS key", description="PEM file of the certificate's private key.")


class RetentionSettings(Settings):
    """How long events and their files are stored: `[retention]`. The limit that is reached first applies."""

    days: float = Field(30.0, gt=0, le=36500, title="Days", description="Events older than this many days are deleted.")
    max_gb: float = Field(
        10.0,
        gt=0,
        le=1e6,
        title="Disk quota",
        description="Gigabytes that all media files may take; the oldest are deleted first.",
    )
    min_free_gb: float = Field(
        1.0,
        ge=0,
        le=1e6,
        title="Free disk space",
        description="Gigabytes of the disk to leave free; the oldest media files are deleted first.",
    )


class EventSettings(Settings):
    """What is stored of an event: `[events]`."""

    clips: bool = Field(True, title="Store clips", description="Store a video clip of each event.")
    pre_capture_s: float = Field(
        5.0, ge=0, le=60, title="Pre-capture", description="Seconds of the clip before the start of the event."
    )
    post_capture_s: float = Field(
        3.0, ge=0, le=60, title="Post-capture", description="Seconds of the clip after the end of the event."
    )
    max_duration_s: float = Field(
        300.0,
        ge=1,
        le=86400,
        title="Longest event",
        description="Seconds after which an event is ended; if the anomaly goes on, the next event starts.",
    )


class LabelSettings(Settings):
    """Labels of events by an object detector, optional: `[labels]`."""

    file: Path | None = Field(
        None,
        title="Label model",
        description="ONNX or OpenVINO `.xml` file of an object detector; its name for what it finds at an event's peak stands on "
        "the event. Without it, events have no label.",
    )
    layout: Literal["yolox", "nanodet"] | None = Field(
        None,
        title="Layout",
        description="Layout of the detector's output. Default: as the file's metadata say, or as the shape of its output fits.",
    )
    names: tuple[str, ...] = Field(
        (),
        title="Names",
        description="Names of the detector's objects, in its order. Default: those of the file's metadata, or the 80 of COCO.",
    )
    size: int | None = Field(
        None,
        ge=32,
        le=2048,
        title="Input size",
        description="Height and width of the detector's input in pixels, for a file that leaves them open. Default: 416.",
    )
    mean: tuple[float, float, float] | None = Field(
        None,
        title="Mean",
        description="Of blue, green and red, subtracted from the pixels (0 to 255). Default: of the file's metadata, or as the "
        "layout's project trains.",
    )
    std: tuple[float, float, float] | None = Field(
        None,
        title="Standard deviation",
        description="Of blue, green and red, by which the pixels are divided. Default: as for the mean.",
    )
    min_score: float = Field(
        0.4, ge=0, le=1, title="Minimum score", description="Objects below this score give no label."
    )

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if std is not None and min(std) <= 0:
            raise ValueError("the standard deviations must be greater than 0")
        return std


class HealthSettings(Settings):
    """When a camera counts as faulty: `[health]`."""

    stalled_s: float = Field(
        5.0, gt=0, le=86400, title="Stalled after", description="Seconds without a frame until a camera is `stalled`."
    )
    frozen_s: float = Field(
        8.0,
        gt=0,
        le=86400,
        title="Frozen after",
        description="Seconds of an unchanging image until a camera is `frozen`.",
    )


class LearnSettings(Settings):
    """Training on a camera's own footage, `comemory learn`: `[learn]`."""

    max_gb: float = Field(4.0, gt=0, le=1e6, title="Disk quota", description="Gigabytes of recorded clips per camera.")
    cpu_share: float = Field(
        0.5, gt=0, le=1, title="CPU share", description="Share of one core that the training may use, from 0 to 1."
    )
    preset: str = Field("small", title="Preset", description="Training preset; `comemory train --help` lists them.")
    settings: tuple[str, ...] = Field(
        (), title="Training settings", description="Settings on top of the preset, such as `train.epochs=5`."
    )
