"""Alerts as signed HTTP POST requests."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from comemory.alerts.addresses import resolve_host
from comemory.alerts.config import WebhookSettings, http_url
from comemory.alerts.sink import Notification, StatelessSink
from comemory.errors import ConfigError, DeliveryError, last_line
from comemory.secret_values import resolve_secret

ID, TIMESTAMP, SIGNATURE = "X-Comemory-Id", "X-Comemory-Timestamp", "X-Comemory-Signature"
_OWN_HEADERS = frozenset(name.lower() for name in (ID, TIMESTAMP, SIGNATURE, "Host", "Content-Length", "Content-Type"))


class Webhook(StatelessSink):
    """Posts each alert as JSON. Any status 2xx is a delivery; redirects and proxies are not followed.

    Raises:
        ConfigError: the URL or a header cannot be used, or a variable is not set.
    """

    Settings = WebhookSettings

    def __init__(self, name: str, settings: WebhookSettings) -> None:
        self.name, self.settings = name, settings
        where = f"of [alerts.{name}]"
        try:
            self._url = urlsplit(http_url(resolve_secret(settings.url, f"the url {where}")))
        except ValueError as error:
            raise ConfigError(f"the url {where} cannot be used: {error}") from None
        secret = settings.secret
        self._secret = None if secret is None else resolve_secret(secret, f"the secret {where}").encode()
        self._headers = {
            key: resolve_secret(value, f"the header {key} {where}") for key, value in settings.headers.items()
        }
        for key, value in self._headers.items():
            if key.lower() in _OWN_HEADERS or not key.isascii() or not _is_header(f"{key}: {value}"):
                raise ConfigError(
                    f"the header {key!r} {where} cannot be used: comemory sets it itself, or it is not one line of text"
                )
        self._context = tls_context(settings.ca_file, where) if self._url.scheme == "https" else None
        self._open: _Connection | None = None

    def deliver(self, notification: Notification) -> None:
        """Post one alert.

        Raises:
            DeliveryError: no status 2xx came back in time.
        """
        body = json.dumps(notification.payload, separators=(",", ":")).encode()
        headers = {
            **self._headers,
            "Content-Type": "application/json",
            "User-Agent": "comemory",
            **sign(self._secret, notification.id, body, int(time.time())),
        }
        connection = self._connection()
        deadline = threading.Timer(self.settings.timeout_s, connection.abort)
        deadline.daemon = True
        deadline.start()
        self._open = connection
        try:
            connection.request("POST", _target(self._url), body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"no answer within {self.settings.timeout_s:g} s" if connection.is_aborted else last_line(error)
            raise DeliveryError(f"{self._safe_url()} did not answer: {reason or type(error).__name__}") from None
        finally:
            self._open = None
            deadline.cancel()
            connection.close()
        if 300 <= status < 400:
            raise DeliveryError(f"{self._safe_url()} answered {status}: redirects are not followed, set the final URL")
        if not 200 <= status < 300:
            raise DeliveryError(f"{self._safe_url()} answered {status}: expected 2xx")

    def close(self) -> None:
        """Abort the request that is under way."""
        connection = self._open
        if connection is not None:
            connection.abort()

    def _connection(self) -> _Connection:
        host = str(self._url.hostname)
        port = self._url.port or (443 if self._context else 80)
        addresses = resolve_host(host, port, allow_private=self.settings.allow_private)
        return _Connection(host, port, addresses, self._context, self.settings.timeout_s)

    def _safe_url(self) -> str:
        """The URL without its path and query, which may hold secrets."""
        return f"{self._url.scheme}://{self._url.hostname}"


class _Connection(http.client.HTTPConnection):
    """A connection to addresses that were resolved before. The name is used for the Host header and the certificate only."""

    def __init__(
        self, host: str, port: int, addresses: Sequence[str], context: ssl.SSLContext | None, timeout_s: float
    ) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self.default_port = 443 if context else 80
        self.is_aborted = False
        self._addresses, self._context, self._timeout_s = addresses, context, timeout_s

    def connect(self) -> None:
        failure: OSError = OSError("no address")
        for address in self._addresses:
            try:
                raw = socket.create_connection((address, self.port), self._timeout_s / len(self._addresses))
            except OSError as error:
                failure = error
                continue
            raw.settimeout(self._timeout_s)
            self.sock = raw
            if self._context is not None:
                secured = self._context.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
                self.sock = secured
                secured.do_handshake()
            return
        raise failure

    def abort(self) -> None:
        """Abort the connection, from another thread."""
        self.is_aborted = True
        connected = self.sock
        if connected is not None:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def sign(secret: bytes | None, id: str, body: bytes, timestamp: int) -> dict[str, str]:
    """The headers of a signed request: HMAC-SHA256 over the timestamp, a full stop and the body.

    >>> sign(b"key", "1", b"{}", 1700000000)["X-Comemory-Signature"][:23]
    'sha256=9d713ed406bb7076'
    """
    headers = {ID: id, TIMESTAMP: str(timestamp)}
    if secret is not None:
        digest = hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        headers[SIGNATURE] = f"sha256={digest}"
    return headers


def is_signed_by(
    secret: bytes, headers: Mapping[str, str], body: bytes, *, now: float | None = None, max_age_s: float = 300.0
) -> bool:
    """Whether a received request is signed with the secret and not too old; for receivers written in Python."""
    received = {key.lower(): value for key, value in headers.items()}
    stamp = received.get(TIMESTAMP.lower(), "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        return False
    expected = sign(secret, "", body, int(stamp))[SIGNATURE]
    fresh = abs((time.time() if now is None else now) - int(stamp)) <= max_age_s
    return hmac.compare_digest(expected.encode(), received.get(SIGNATURE.lower(), "").encode()) and fresh


def tls_context(ca_file: Path | None, where: str) -> ssl.SSLContext:
    """A TLS context that verifies certificates: against the system's, or against those of `ca_file`.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise ConfigError(f"the ca_file {where} cannot be read: {ca_file}: {last_line(error)}") from None


def _target(url: SplitResult) -> str:
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    return quote(target, safe="%/:=&?~+!$,;'@()*[]-._|")


def _is_header(line: str) -> bool:
    return all(" " <= character <= "~" or "\u00a0" <= character <= "\u00ff" for character in line)
