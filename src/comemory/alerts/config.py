"""The settings of the alert sinks: `[alerts.NAME]` of the live settings. A further kind has its own beside its sink."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator

from comemory.alerts import SINKS
from comemory.alerts.hours import Hours
from comemory.config import Settings, build
from comemory.errors import ConfigError
from comemory.secret_values import PREFIX
from comemory.store.routing import AlertKind

KINDS: tuple[AlertKind, ...] = ("new", "update", "end", "state", "system")
Seconds = Annotated[float, Field(ge=0, le=86400)]
TimeLimit = Annotated[float, Field(gt=0, le=300)]


def _host(host: str) -> str:
    """A host name that can be looked up.

    Raises:
        ValueError: the resolver would raise an error that is none of the network's.
    """
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("this is not a host name: its parts have 1 to 63 letters, with dots between them") from None
    if any(character.isspace() or ord(character) < 32 for character in host):
        raise ValueError("this is not a host name: it has spaces or control characters")
    return host


Host = Annotated[str, AfterValidator(_host)]


class CameraRules(Settings):
    """Settings of one camera that replace those of the sink; None keeps the sink's."""

    cooldown_s: Seconds | None = Field(None, title="Cool-down", description="In seconds; replaces the sink's.")
    quiet_hours: tuple[str, ...] | None = Field(None, title="Quiet hours", description="Replace the sink's.")

    @field_validator("quiet_hours")
    @classmethod
    def _parse_hours(cls, hours: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in hours or ():
            Hours.parse(text)
        return hours


class SinkSettings(Settings):
    """Settings that all kinds of sinks share."""

    retry_s: ClassVar[float] = 2.0
    """First wait between two attempts; it doubles with each failure. Short, since most failures are a lost packet."""
    retry_max_s: ClassVar[float] = 120.0
    """Longest wait between two attempts: a receiver that is back gets its alerts within two minutes."""

    kinds: tuple[AlertKind, ...] = Field(
        ("new", "end", "state", "system"),
        title="Kinds",
        description="Which changes are sent: `new`, `update` and `end` of an event; `state` of a camera; `system` of the "
        "service itself, such as a full disk.",
    )
    cameras: tuple[str, ...] = Field(
        (), title="Cameras", description="Only events and states of these cameras are sent; of all cameras when empty."
    )
    min_score: float | None = Field(
        None, title="Minimum score", description="Events whose peak score stays below it are not sent."
    )
    cooldown_s: Seconds = Field(
        0.0,
        title="Cool-down",
        description="For this many seconds after an alert of a camera, its further events are muted.",
    )
    quiet_hours: tuple[str, ...] = Field(
        (),
        title="Quiet hours",
        description="Events that begin in these hours are muted: `22:00-06:00`, `sat-sun 00:00-24:00`. Camera states are "
        "sent at all hours.",
    )
    time_zone: str | None = Field(
        None, title="Time zone", description="Of the quiet hours, such as `Europe/Paris`; this machine's when not set."
    )
    per_camera: dict[str, CameraRules] = Field(
        default_factory=dict,
        title="Per camera",
        description="A cool-down and quiet hours of its own for a camera: `[alerts.NAME.per_camera.CAMERA]`.",
    )
    delay_s: Seconds = Field(
        0.0, title="Delay", description="Seconds before the first attempt, so that the thumbnail is ready."
    )
    state_delay_s: Seconds = Field(
        15.0, title="State delay", description="A camera state must last this many seconds before it is sent."
    )
    timeout_s: TimeLimit = Field(10.0, title="Time-out", description="Of one attempt, in seconds.")
    give_up_h: float = Field(
        72.0, gt=0, le=8760, title="Give up after", description="Hours after which an alert is no longer retried."
    )
    link: str | None = Field(
        None,
        title="Link",
        description="Goes into each alert; `{id}` and `{camera}` are replaced, such as `https://shelf.lan/#/events/{id}`.",
    )

    @field_validator("quiet_hours")
    @classmethod
    def _parse_hours(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for text in hours:
            Hours.parse(text)
        return hours

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        try:
            _ = ZoneInfo(zone) if zone is not None else None
        except (OSError, ValueError, LookupError):
            raise ValueError(f"unknown time zone {zone!r}: expected a name such as 'Europe/Paris' or 'UTC'") from None
        return zone


class WebhookSettings(SinkSettings):
    """An HTTP POST of JSON, signed where a secret is set."""

    kind: Literal["webhook"] = "webhook"
    url: str = Field(repr=False, title="URL", description="`http://…`, `https://…` or `env:NAME`.")
    secret: str | None = Field(
        None, repr=False, title="Secret", description="Key of the signature, or `env:NAME`; unsigned when not set."
    )
    allow_private: bool = Field(
        False,
        title="Allow private addresses",
        description="Also send to addresses that are not public, such as 10.0.0.5.",
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        title="Headers",
        description="Sent with each request; values may be `env:NAME`.",
    )
    ca_file: Path | None = Field(
        None, title="CA file", description="Certificates to trust instead of the system's, PEM."
    )
    heartbeat_min: float | None = Field(
        None,
        gt=0,
        le=10080,
        title="Heartbeat",
        description="Minutes between messages of the kind `heartbeat`, so that a watchdog elsewhere notices when they stop; "
        "none when not set.",
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        return url if url.startswith(PREFIX) else http_url(url)


class MqttSettings(SinkSettings):
    """A broker, with topics and discovery as Home Assistant expects them."""

    retry_max_s: ClassVar[float] = 30.0

    kind: Literal["mqtt"] = "mqtt"
    kinds: tuple[AlertKind, ...] = Field(KINDS, title="Kinds", description="As of all sinks.")
    state_delay_s: Seconds = Field(0.0, title="State delay", description="As of all sinks.")
    host: Host = Field(min_length=1, title="Host", description="Of the broker.")
    port: int | None = Field(
        None, ge=1, le=65535, title="Port", description="Of the broker; 1883, or 8883 with TLS, when not set."
    )
    username: str | None = Field(None, title="User name", description="Or `env:NAME`.")
    password: str | None = Field(None, repr=False, title="Password", description="Or `env:NAME`.")
    tls: bool = Field(False, title="TLS", description="Encrypt the connection.")
    ca_file: Path | None = Field(
        None, title="CA file", description="Certificates to trust instead of the system's, PEM."
    )
    prefix: str = Field(
        "comemory",
        pattern=r"^[^+#/\s\x00][^+#\s\x00]*$",
        max_length=100,
        title="Topic prefix",
        description="The first part of every topic.",
    )
    discovery: str = Field(
        "homeassistant",
        pattern=r"^([^+#/\s\x00][^+#\s\x00]*)?$",
        max_length=100,
        title="Discovery prefix",
        description="Of Home Assistant's MQTT discovery; empty switches discovery off.",
    )
    commands: bool = Field(
        False,
        title="Commands",
        description="Pause and snooze cameras by messages on `CAMERA/pause/set` and `CAMERA/snooze/set`. Everybody who may "
        "publish there can do so: restrict these topics on the broker.",
    )
    client_id: str | None = Field(
        None, title="Client id", description="Made from the prefix and the sink's name when not set."
    )


class AppriseSettings(SinkSettings):
    """E-mail and the other services that Apprise knows, one URL a sink."""

    kind: Literal["apprise"] = "apprise"
    kinds: tuple[AlertKind, ...] = Field(("new", "state", "system"), title="Kinds", description="As of all sinks.")
    cooldown_s: Seconds = Field(300.0, title="Cool-down", description="As of all sinks.")
    delay_s: Seconds = Field(3.0, title="Delay", description="As of all sinks.")
    state_delay_s: Seconds = Field(60.0, title="State delay", description="As of all sinks.")
    timeout_s: TimeLimit = Field(30.0, title="Time-out", description="As of all sinks.")
    url: str = Field(
        repr=False,
        min_length=1,
        title="URL",
        description="Of the service, or `env:NAME`: `mailtos://USER:PASSWORD@HOST?to=desk@example.org`, "
        "`ntfy://TOPIC`, `tgram://TOKEN/CHAT`. See github.com/caronc/apprise.",
    )


class CommandSettings(SinkSettings):
    """A program that gets the JSON on its standard input."""

    kind: Literal["command"] = "command"
    argv: tuple[str, ...] = Field(
        min_length=1,
        title="Command",
        description="The program and its arguments. No shell reads them, and none may be `env:NAME`: every account of the "
        "machine can see the arguments of a running program.",
    )

    @field_validator("argv")
    @classmethod
    def _is_command(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        if not argv[0] or any("\0" in word for word in argv):
            raise ValueError("argv needs a program first, and no null bytes: such as ['/usr/local/bin/siren', 'on']")
        if any(word.startswith(PREFIX) for word in argv):
            raise ValueError(
                "an argument of argv cannot be env:NAME, since other accounts could see it: let the program read the "
                "variable itself, it gets the environment of comemory"
            )
        return argv


def sink_settings_class(kind: str) -> type[SinkSettings]:
    """The settings of a kind of sink: `Settings` of its class in the registry.

    Raises:
        ConfigError: there is no such kind.
        RuntimeMissing: the kind needs a package that is not installed.
    """
    found: type[SinkSettings] = SINKS.load(kind).Settings
    return found


def parse_sink_settings(name: str, values: Mapping[str, Any]) -> SinkSettings:
    """The settings in `[alerts.NAME]`.

    Raises:
        ConfigError: they do not fit; no secret is in the text.
        RuntimeMissing: the kind needs a package that is not installed.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in SINKS:
        hint = "; e-mail is sent by the kind 'apprise'" if kind == "email" else ""
        raise ConfigError(f"[alerts.{name}] has kind {kind!r}: expected one of {', '.join(SINKS)}{hint}")
    model = sink_settings_class(kind)
    try:
        return build(model, values)
    except ConfigError as error:
        raise ConfigError(f"[alerts.{name}]: {error}") from None


def http_url(url: str) -> str:
    """The URL of a webhook, checked.

    Raises:
        ValueError: it is not a URL of HTTP; the text does not repeat it, since it may hold a secret.
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
    try:
        _host(parts.hostname)
    except ValueError as error:
        raise ValueError(f"{error}: {expected}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL has a user or password in it: use headers, such as Authorization = 'env:NAME'")
    return url
