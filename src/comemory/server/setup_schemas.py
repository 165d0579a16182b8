"""The JSON of the routes that set the system up. Passwords go in, and never come out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from comemory.server.schemas import Answer, Body

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Text = Annotated[str, Field(min_length=1, max_length=1024)]
URL = Annotated[
    str,
    Field(min_length=1, max_length=1024, description="Its password and the values of its query are never returned."),
]
Hours = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=32)]


class CameraChange(Body):
    """Settings of a camera. One that is left out stays as it is; null sets the default."""

    url: URL | None = None
    model: Text | None = None
    false_alarms: Annotated[str, Field(max_length=32)] | None = None
    fps: Annotated[float, Field(gt=0, le=240)] | None = None
    hours: Hours | None = None
    transport: Literal["tcp", "udp"] | None = None
    realtime: bool | None = None
    loop: bool | None = None
    enabled: bool | None = None


class NewCamera(CameraChange):
    """A camera to add."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    url: URL


class CameraTest(Body):
    """A camera to open once."""

    url: URL
    transport: Literal["tcp", "udp"] = "tcp"
    name: Annotated[str, Field(pattern=NAME_PATTERN)] | None = Field(
        None,
        description="Of the present camera whose password to use, where the URL is the one that is returned of it.",
    )


class CameraPicture(Answer):
    """What a camera shows."""

    width: int
    height: int
    rate_hz: float | None = Field(description="Frames a second that the stream states; null where it does not.")
    codec: str
    jpeg: str = Field(description="A frame, as JPEG in base64.")


class CameraSetup(Answer):
    """The settings of a camera, as they are in force."""

    name: str
    url: str = Field(description="With its password masked. Sent back as it is, it leaves the URL as it is.")
    model: str | None
    false_alarms: str | None
    fps: float | None
    hours: list[str]
    transport: str
    realtime: bool
    loop: bool
    enabled: bool
    in_file: bool = Field(description="Whether it can be changed here; others were given on the command line.")


class Setup(Answer):
    """What can be set up."""

    file: str | None = Field(description="The settings file; null where nothing can be changed here.")
    model: str | None = Field(description="Bundle of the cameras that name none of their own.")
    models: list[str] = Field(description="Bundles that are known.")
    cameras: list[CameraSetup]
