"""What each kind of sink is told: `[alerts.NAME]` of the live settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from comemory.alerts.hours import Hours
from comemory.config import build
from comemory.config_model import Settings
from comemory.errors import ConfigError, mask_password
from comemory.secret_values import PREFIX

AlertKind = Literal["new", "update", "end", "state"]
KINDS: tuple[AlertKind, ...] = ("new", "update", "end", "state")
Seconds = Annotated[float, Field(ge=0, le=86400)]
TimeLimit = Annotated[float, Field(gt=0, le=300)]


class CameraRules(Settings):
    """What one camera has of its own; None leaves what the sink says."""

    cooldown_s: Seconds | None = None
    quiet: tuple[str, ...] | None = None

    @field_validator("quiet")
    @classmethod
    def _readable(cls, hours: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in hours or ():
            Hours.read(text)
        return hours


class SinkSettings(Settings):
    """What all sinks have in common.

    Attributes:
        kinds: which changes are sent: of an event `new`, `update`, `end`; of a camera's health `state`.
        cameras: of which cameras; all when empty.
        min_score: events whose peak stays below it are not sent; None sends all.
        cooldown_s: for so long after an alert of a camera, its further events are held.
        quiet: hours in which events are held, such as `22:00-06:00` or `sat-sun 00:00-24:00`.
        zone: time zone of `quiet`, such as `Europe/Paris`; None is this machine's.
        per_camera: other cool-downs and quiet hours for some cameras.
        delay_s: alerts wait so long before the first try, so that a thumbnail is there.
        state_delay_s: a camera's state must last so long to be told; one that is over sooner is not.
        timeout_s: for one try.
        retry_s, retry_max_s: the first and the longest wait between tries; it doubles, with jitter.
        give_up_h: an alert older than this is not tried again.
        link: goes into each alert as `link`, with `{id}` and `{camera}` replaced.
    """

    kinds: tuple[AlertKind, ...] = ("new", "end", "state")
    cameras: tuple[str, ...] = ()
    min_score: float | None = None
    cooldown_s: Seconds = 0.0
    quiet: tuple[str, ...] = ()
    zone: str | None = None
    per_camera: dict[str, CameraRules] = Field(default_factory=dict)
    delay_s: Seconds = 0.0
    state_delay_s: Seconds = 15.0
    timeout_s: TimeLimit = 10.0
    retry_s: float = Field(2.0, gt=0, le=3600)
    retry_max_s: float = Field(120.0, gt=0, le=86400)
    give_up_h: float = Field(72.0, gt=0, le=8760)
    link: str | None = None

    @field_validator("quiet")
    @classmethod
    def _readable(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for text in hours:
            Hours.read(text)
        return hours

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str | None) -> str | None:
        try:
            _ = ZoneInfo(zone) if zone is not None else None
        except (OSError, ValueError, LookupError):
            raise ValueError(f"no time zone {zone!r}: expected a name such as 'Europe/Paris' or 'UTC'") from None
        return zone


class WebhookSettings(SinkSettings):
    """An HTTP POST of JSON.

    Attributes:
        url: `http://` or `https://`; `env:NAME`.
        secret: key of the signature; `env:NAME`. Unsigned when None.
        allow_private: also send to addresses that are not of the public internet.
        headers: sent along; values may be `env:NAME`.
        ca_file: certificates to trust instead of the system's.
    """

    kind: Literal["webhook"] = "webhook"
    url: str = Field(repr=False)
    secret: str | None = Field(None, repr=False)
    allow_private: bool = False
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    ca_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        return url if url.startswith("env:") else http_url(url)


class MqttSettings(SinkSettings):
    """A broker, told in the manner that Home Assistant understands.

    Attributes:
        host, port: of the broker; None is 1883, or 8883 with `tls`.
        username, password: `env:NAME`.
        tls, ca_file: encrypt; certificates to trust instead of the system's.
        prefix: the first part of every topic.
        discovery: the prefix of Home Assistant's discovery; nothing is announced when empty.
        client_id: None makes one from the prefix and the sink's name.
    """

    kind: Literal["mqtt"] = "mqtt"
    kinds: tuple[AlertKind, ...] = KINDS
    state_delay_s: Seconds = 0.0
    retry_max_s: float = Field(30.0, gt=0, le=86400)
    host: str = Field(min_length=1)
    port: int | None = Field(None, ge=1, le=65535)
    username: str | None = None
    password: str | None = Field(None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    prefix: str = Field("comemory", pattern=r"^[^+#/\s\x00][^+#\s\x00]*$", max_length=100)
    discovery: str = Field("homeassistant", pattern=r"^([^+#/\s\x00][^+#\s\x00]*)?$", max_length=100)
    client_id: str | None = None


class EmailSettings(SinkSettings):
    """A message by SMTP, with the thumbnail.

    Attributes:
        host, port: of the server; None is 587, 465 or 25 after `security`.
        security: `starttls`, `ssl` or `none`; with `none` no password is sent.
        username, password: `env:NAME`.
        sender, to: addresses.
        ca_file: certificates to trust instead of the system's.
    """

    kind: Literal["email"] = "email"
    kinds: tuple[AlertKind, ...] = ("new", "state")
    cooldown_s: Seconds = 300.0
    delay_s: Seconds = 3.0
    state_delay_s: Seconds = 60.0
    timeout_s: TimeLimit = 30.0
    host: str = Field(min_length=1)
    port: int | None = Field(None, ge=1, le=65535)
    security: Literal["starttls", "ssl", "none"] = "starttls"
    username: str | None = None
    password: str | None = Field(None, repr=False)
    sender: str
    to: tuple[str, ...] = Field(min_length=1, max_length=50)
    ca_file: Path | None = None

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (given,) if isinstance(given, str) else given:
            before, at, after = address.rpartition("@")
            if not (before and at and after) or any(
                character.isspace() or character in "<>,;" for character in address
            ):
                raise ValueError(f"{address!r} is no e-mail address: expected such as 'desk@example.org'")
        return given

    @model_validator(mode="after")
    def _private(self) -> EmailSettings:
        if self.security == "none" and self.password is not None:
            raise ValueError("a password is not sent without encryption: set security to 'starttls' or 'ssl'")
        if (self.username is None) != (self.password is None):
            raise ValueError("a username and a password belong together: give both or none")
        return self


class CommandSettings(SinkSettings):
    """A program that gets the JSON on its standard input.

    Attributes:
        argv: the program and its arguments; no shell reads them, and none is `env:NAME`: every account of the machine
            can see the words of a program that runs.
    """

    kind: Literal["command"] = "command"
    kinds: tuple[AlertKind, ...] = ("new", "end", "state")
    argv: tuple[str, ...] = Field(min_length=1)

    @field_validator("argv")
    @classmethod
    def _words(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        if not argv[0] or any("\0" in word for word in argv):
            raise ValueError(
                "argv needs a program first, and words without NUL: such as ['/usr/local/bin/siren', 'on']"
            )
        if any(word.startswith(PREFIX) for word in argv):
            raise ValueError(
                "a word of argv cannot be env:NAME, for others could see it: let the program read its environment, "
                "which is that of comemory"
            )
        return argv


_BY_KIND: Mapping[str, type[SinkSettings]] = {
    "webhook": WebhookSettings,
    "mqtt": MqttSettings,
    "email": EmailSettings,
    "command": CommandSettings,
}


def read_alert(name: str, values: Mapping[str, Any]) -> SinkSettings:
    """The settings of one `[alerts.NAME]`.

    Raises:
        ConfigError: an unknown kind or key, or a value that does not fit; one line that names the sink.
    """
    kind = values.get("kind")
    model = _BY_KIND.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise ConfigError(f"[alerts.{name}] has kind {kind!r}: expected one of {', '.join(_BY_KIND)}")
    try:
        return build(model, values)
    except ConfigError as error:
        text = mask_password(str(error))
        for key in ("password", "secret", "headers"):
            if text.startswith(f"config key '{key}"):
                text = f"config key {key!r} does not accept what it was given: expected text, such as 'env:NAME'"
        raise ConfigError(f"[alerts.{name}]: {text}") from None


def http_url(url: str) -> str:
    """The URL of a webhook, if it is one.

    Raises:
        ValueError: it is not; the text does not repeat it, for it may hold a secret.
    """
    expected = "expected such as 'https://host/path'"
    if any(character.isspace() or ord(character) < 32 or ord(character) == 127 for character in url):
        raise ValueError(f"the URL has spaces or control characters: {expected}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"the URL cannot be read: {expected}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"the URL is not of http or https, or has no host: {expected}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL has a user or password in it: use headers, such as Authorization = 'env:NAME'")
    return url
