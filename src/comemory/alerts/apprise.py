"""Alerts by e-mail and by the other services that Apprise knows, the thumbnail attached."""

from __future__ import annotations

import logging
import re

import apprise

from comemory.alerts.config import AppriseSettings
from comemory.alerts.sink import Notification, StatelessSink
from comemory.errors import ConfigError, DeliveryError
from comemory.secret_values import resolve_secret

_HEADLINES = {"new": "event", "update": "event goes on", "end": "event ended", "test": "test alert"}
_CAUSE = re.compile(r"^(?:Socket )?Exception: ?")
"""How Apprise begins the line that holds the cause; it logs that line at the level of debugging only."""
_SHORTEST_SECRET = 4
"""Shorter parts of a URL are not replaced in error texts: they would hide whole words of them."""
_MAX_REASON = 300
_APPRISE_LOG = logging.getLogger("apprise")
# Apprise logs URLs with their secrets, and the cause of a failure at the level of debugging only: its log is read here,
# attempt by attempt, and goes nowhere else.
_APPRISE_LOG.setLevel(logging.DEBUG)
_APPRISE_LOG.propagate = False
_APPRISE_LOG.addHandler(logging.NullHandler())


class AppriseSink(StatelessSink):
    """Sends each alert to one Apprise URL. Attempts are repeated by the outbox alone, never by Apprise.

    Raises:
        ConfigError: the variable is not set, or Apprise does not know the URL.
    """

    Settings = AppriseSettings

    def __init__(self, name: str, settings: AppriseSettings) -> None:
        self.name, self.settings = name, settings
        url = resolve_secret(settings.url, f"the url of [alerts.{name}]")
        # Apprise works in memory alone, and stops waiting for a service that does not answer.
        asset = apprise.AppriseAsset(
            app_id="comemory", async_mode=False, service_timeout=settings.timeout_s, storage_mode="memory"
        )
        service = apprise.Apprise.instantiate(_without_retries(url), asset=asset, suppress_exceptions=True)
        if service is None:
            scheme, separator, _ = url.partition("://")
            shown = f" ({scheme[:20]}://…)" if separator else ""
            raise ConfigError(
                f"the url of [alerts.{name}]{shown} is not one that Apprise can use: "
                "see github.com/caronc/apprise for the form of each service"
            )
        safe_url = str(service.url(privacy=True))  # type: ignore[no-untyped-call]
        self._service = f"{service.service_name} ({safe_url.partition('://')[0]}://)"
        self._secrets = _secret_parts(url, safe_url)
        self._apprise = apprise.Apprise(asset=asset)
        self._apprise.add(service)

    def deliver(self, notification: Notification) -> None:
        """Send one alert.

        Raises:
            DeliveryError: the service did not accept it in time.
        """
        reasons: list[str] = []
        attachment = notification.thumbnail
        result = self._apprise.notify(
            body=message_text(notification),
            title=alert_title(notification),
            notify_type=_severity(notification),
            attach=str(attachment) if attachment is not None and attachment.is_file() else None,
            log_callback=lambda entry, _service: reasons.append(entry.message),
            log_level=logging.DEBUG,
        )
        if not result:
            raise DeliveryError(f"{self._service} did not accept the alert: {self._reason(reasons)}")

    def close(self) -> None:
        """Nothing to do: Apprise gives an attempt up by itself after `timeout_s`."""

    def _reason(self, messages: list[str]) -> str:
        """The cause that Apprise logged, else its last message; parts of the URL that may be secret are replaced."""
        causes = [_CAUSE.sub("", message) for message in messages if _CAUSE.match(message)]
        text = " ".join((causes or messages or ["no reason given"])[-1].split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:_MAX_REASON]


def alert_title(notification: Notification) -> str:
    """The title of an alert, on one line.

    >>> alert_title(Notification("1", "state", "gate", {"after": {"state": "down"}}))
    'comemory: gate is down'
    """
    after = notification.payload.get("after") or {}
    if notification.kind == "state":
        text = f"{notification.camera} is {after.get('state')}"
    elif notification.kind == "system":
        text = f"{after.get('part')}: {after.get('state')}"
    else:
        text = f"{notification.camera}: {_HEADLINES.get(notification.kind, notification.kind)}"
        text += f", {after['label']}" if after.get("label") else ""
    return f"comemory: {' '.join(text.split())[:150]}"


def message_text(notification: Notification) -> str:
    """The facts of an alert, one a line."""
    after = notification.payload.get("after") or {}
    facts = {
        "time": after.get("start") or after.get("at") or notification.payload.get("time"),
        "until": after.get("end"),
        "score": after.get("peak_score"),
        "threshold": after.get("threshold"),
        "message": after.get("message"),
        "link": notification.payload.get("link"),
        "alert": notification.id,
    }
    known = {key: value for key, value in facts.items() if value is not None}
    lines = (f"{key}: {value:.3g}" if isinstance(value, float) else f"{key}: {value}" for key, value in known.items())
    return "\n".join(lines)


def _severity(notification: Notification) -> apprise.NotifyType:
    """The colour and icon that services give an alert."""
    after = notification.payload.get("after") or {}
    if notification.kind in ("new", "update"):
        return apprise.NotifyType.WARNING
    if notification.kind in ("state", "system") and after.get("state") not in ("live", "ok"):
        return apprise.NotifyType.FAILURE
    return apprise.NotifyType.INFO


def _without_retries(url: str) -> str:
    """The URL with Apprise's own retries switched off: the outbox repeats an attempt, and counts it."""
    return re.sub(r"(?<=[?&])retry=[^&]*", "retry=0", url)


def _secret_parts(url: str, safe_url: str) -> list[str]:
    """The parts of a URL that its masked form does not show, the longest first."""
    parts = {part for part in re.split(r"[:/?&=@,#]+", url) if len(part) >= _SHORTEST_SECRET}
    return sorted((part for part in parts if part not in safe_url), key=len, reverse=True)
