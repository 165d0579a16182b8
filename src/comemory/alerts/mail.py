"""Alerts by e-mail, the thumbnail attached."""

from __future__ import annotations

import json
import mimetypes
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from comemory.alerts.config import EmailSettings
from comemory.alerts.sink import Message
from comemory.alerts.webhook import tls_context
from comemory.errors import DeliveryError, last_line
from comemory.secret_values import reveal
from comemory.store.retained_topics import Announced

_PORTS = {"starttls": 587, "ssl": 465, "none": 25}
_WORDS = {"new": "something unusual", "update": "still unusual", "end": "over", "test": "a test"}


class Email:
    """Sends each alert as one message by SMTP.

    Raises:
        ConfigError: a variable is not set, or the certificates cannot be read.
    """

    def __init__(self, name: str, settings: EmailSettings) -> None:
        self.name, self.settings = name, settings
        where = f"of [alerts.{name}]"
        self._login: tuple[str, str] | None = None
        if settings.username is not None and settings.password is not None:
            user = reveal(settings.username, f"the username {where}")
            self._login = (user, reveal(settings.password, f"the password {where}"))
        self._context = tls_context(settings.ca_file, where)
        self._port = settings.port or _PORTS[settings.security]
        self._open: smtplib.SMTP | None = None

    def start(self, cameras: Sequence[str], announced: Announced) -> None:
        """Nothing to do: every message has a connection of its own."""

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Nothing to do: nobody is told of cameras before something happens."""

    def deliver(self, message: Message) -> None:
        """Hand one message to the server.

        Raises:
            DeliveryError: the server did not take it, for all or for one of the addresses.
        """
        told = self.settings
        server = f"the mail server {told.host}:{self._port}"
        try:
            mail = write_mail(message, told.sender, told.to)
            with self._deadline(), self._connect() as connection:
                if self._login is not None:
                    connection.login(*self._login)
                refused = connection.send_message(mail)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise DeliveryError(f"{server} did not take the message: {last_line(error)}") from None
        finally:
            self._open = None
        if refused:
            raise DeliveryError(f"{server} refused {sorted(refused)[0]}: correct the address")

    def close(self) -> None:
        """Break off the message that is under way."""
        connection = self._open
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Break off a server that answers, but never to the end; again and again, for a handshake has no socket."""
        over = threading.Event()

        def break_off() -> None:
            wait_s = self.settings.timeout_s
            while not over.wait(wait_s):
                wait_s = 0.2
                self.close()

        threading.Thread(target=break_off, name=f"deadline of {self.name}", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _connect(self) -> smtplib.SMTP:
        told = self.settings
        if told.security == "ssl":
            return _Encrypted(self._hold, told.host, self._port, timeout=told.timeout_s, context=self._context)
        connection = _Plain(self._hold, told.host, self._port, timeout=told.timeout_s)
        if told.security == "starttls":
            try:
                connection.starttls(context=self._context)
            except BaseException:
                connection.close()
                raise
        return connection

    def _hold(self, connection: smtplib.SMTP) -> None:
        self._open = connection


class _Plain(smtplib.SMTP):
    """A connection that is known before it is made, so that it can be broken off while the server greets."""

    def __init__(self, tell: Callable[[smtplib.SMTP], None], *arguments: Any, **named: Any) -> None:
        tell(self)
        super().__init__(*arguments, **named)


class _Encrypted(smtplib.SMTP_SSL):
    """The same, encrypted from its first byte."""

    def __init__(self, tell: Callable[[smtplib.SMTP], None], *arguments: Any, **named: Any) -> None:
        tell(self)
        super().__init__(*arguments, **named)


def write_mail(message: Message, sender: str, to: Sequence[str]) -> EmailMessage:
    """The message of an alert: a line for people, the facts, the JSON; its id is made of the alert's.

    Raises:
        ValueError: an address cannot be put into a header.
    """
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Subject"] = f"comemory: {' '.join(_headline(message).split())[:150]}"
    mail["Date"] = format_datetime(datetime.fromisoformat(message.payload["time"]))
    mail["Message-ID"] = f"<{message.id}@comemory.invalid>"
    mail["Auto-Submitted"] = "auto-generated"
    facts = [_headline(message), "", *_facts(message)]
    mail.set_content("\n".join(facts) + "\n\n" + json.dumps(message.payload, indent=1) + "\n")
    if message.thumbnail is not None:
        with suppress(OSError):
            picture = message.thumbnail.read_bytes()
            main, _, sub = (mimetypes.guess_type(message.thumbnail.name)[0] or "application/octet-stream").partition(
                "/"
            )
            mail.add_attachment(picture, maintype=main, subtype=sub, filename=f"thumbnail{message.thumbnail.suffix}")
    return mail


def _headline(message: Message) -> str:
    after = message.payload.get("after") or {}
    if message.kind == "state":
        return f"{message.camera} is {after.get('state')}"
    return f"{message.camera}: {_WORDS.get(message.kind, message.kind)}"


def _facts(message: Message) -> list[str]:
    after = message.payload.get("after") or {}
    named = {
        "when": after.get("start") or after.get("at") or message.payload.get("time"),
        "until": after.get("end"),
        "score": after.get("peak_score"),
        "threshold": after.get("threshold"),
        "what": after.get("message"),
        "link": message.payload.get("link"),
    }
    known = {key: value for key, value in named.items() if value is not None}
    return [f"{key}: {value:.3g}" if isinstance(value, float) else f"{key}: {value}" for key, value in known.items()]
