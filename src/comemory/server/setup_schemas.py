"""The JSON of the routes that set the system up. Passwords go in, and never come out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from comemory.server.schemas import RequestBody, ResponseBody

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Text = Annotated[str, Field(min_length=1, max_length=1024)]
URL = Annotated[
    str,
    Field(min_length=1, max_length=1024, description="Its password and the values of its query are never returned."),
]
Flag = Annotated[bool, Field(strict=True)]


def _refuse_text(value: object) -> object:
    """Refuse texts and true or false, which pydantic would read as numbers; 1883.0 is a whole number in JSON."""
    if isinstance(value, str | bool):
        raise ValueError("expected a whole number")
    return value


Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(_refuse_text)]
Hours = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=32)]


class CameraChange(RequestBody):
    """Settings of a camera. One that is left out stays as it is; null sets the default."""

    url: URL | None = None
    model: Text | None = None
    false_alarms: Annotated[str, Field(max_length=32)] | None = None
    unusual_times: Annotated[str, Field(max_length=32)] | None = None
    fps: Annotated[float, Field(gt=0, le=240, strict=True)] | None = None
    hours: Hours | None = None
    transport: Literal["tcp", "udp"] | None = None
    realtime: Flag | None = None
    loop: Flag | None = None
    enabled: Flag | None = None


class NewCamera(CameraChange):
    """A camera to add."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    url: URL


class CameraTest(RequestBody):
    """A camera to open once."""

    url: URL
    transport: Literal["tcp", "udp"] = "tcp"
    name: Annotated[str, Field(pattern=NAME_PATTERN)] | None = Field(
        None,
        description="Of the present camera whose password to use, where the URL is the one that is returned of it.",
    )


class CameraPicture(ResponseBody):
    """What a camera shows."""

    width: int
    height: int
    rate_hz: float | None = Field(description="Frames per second that the stream states; null where it does not.")
    codec: str
    jpeg: str = Field(description="A frame, as JPEG in base64.")


class CameraSetup(ResponseBody):
    """The settings of a camera, as they are in force."""

    name: str
    url: str = Field(description="With its password masked. Sent back as it is, it leaves the URL as it is.")
    model: str | None
    false_alarms: str | None
    unusual_times: str | None
    fps: float | None
    hours: list[str]
    transport: str
    realtime: bool
    loop: bool
    enabled: bool
    in_file: bool = Field(description="Whether it can be changed here; others were given on the command line.")


class Setup(ResponseBody):
    """What can be set up."""

    file: str | None = Field(description="The settings file; null where nothing can be changed here.")
    model: str | None = Field(description="Bundle for each camera that has none of its own.")
    models: list[str] = Field(description="Bundles that are known.")
    cameras: list[CameraSetup]
    has_alerts: bool = Field(description="Whether alerts can be sent at all: they need the store.")


AlertName = Annotated[str, Field(pattern=NAME_PATTERN)]
Secret = Annotated[str, Field(min_length=1, max_length=1024, description="Stored, and never returned.")]


class AlertChange(RequestBody):
    """Settings of an alert sink. One that is left out stays as it is; null sets the default."""

    url: Secret | None = Field(None, description="Of a webhook, or an Apprise URL.")
    secret: Secret | None = Field(None, description="Key of a webhook's signature.")
    allow_private: Flag | None = Field(None, description="Whether a webhook may have an address that is not public.")
    host: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(None, description="Of an MQTT broker.")
    port: Port | None = None
    username: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    password: Secret | None = None
    tls: Flag | None = None
    commands: Flag | None = Field(None, description="Whether messages of the broker may pause and snooze cameras.")
    cameras: Annotated[list[Annotated[str, Field(pattern=NAME_PATTERN)]], Field(max_length=256)] | None = None
    kinds: Annotated[list[Literal["new", "update", "end", "state", "system"]], Field(max_length=5)] | None = None
    cooldown_s: Annotated[float, Field(ge=0, le=86400, strict=True)] | None = None
    quiet_hours: Hours | None = None


class NewAlert(AlertChange):
    """An alert sink to add."""

    name: AlertName
    kind: Literal["webhook", "mqtt", "apprise"]


class AlertSetup(ResponseBody):
    """An alert sink, without its secrets."""

    name: str
    kind: str
    target: str = Field(description="Where it sends, as far as that is no secret.")
    stored: list[str] = Field(description="Settings that are stored and not returned.")
    allow_private: bool | None
    host: str | None
    port: int | None
    username: str | None
    tls: bool | None
    commands: bool | None
    cameras: list[str] = Field(description="Empty for all.")
    kinds: list[str]
    cooldown_s: float
    quiet_hours: list[str]
    in_file: bool = Field(description="Whether it can be changed here.")
    pending: int | None = Field(description="Alerts that wait; null where that cannot be read.")
    delivered: int | None
    failed: int | None
    last_error: str | None = Field(description="Why the last attempt failed; null after one that worked.")
    last_delivery: datetime | None
