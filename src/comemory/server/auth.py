"""Who may do what: sessions, tokens, and the proof that a change was asked for by the page itself."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import argon2
from itsdangerous import BadSignature, TimestampSigner

from comemory.errors import ConfigError
from comemory.server.auth_file import (
    MAX_PASSWORD_LENGTH,
    Credentials,
    hash_password,
    hash_token,
    load_ended_sessions,
    save_ended_sessions,
)
from comemory.server.login_throttle import LoginThrottle

SESSION_COOKIE = "comemory_session"
CSRF_HEADER = "X-CSRF-Token"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        kind: `open` where no password is set, `session` of the page, `token` of the API.
        name: for the record of who marked an event.
        session: its identifier, for `session` alone.
        until: when it is over by itself, in seconds since 1970, for `session` alone.
    """

    kind: Literal["open", "session", "token"]
    name: str
    session: str | None = None
    until: float = math.inf


class Auth:
    """The door: tells callers apart, and lets them in and out.

    Args:
        kept: the access file's content.
        session_hours: how long a login lasts.
        password, token: of the settings, plain or hashed; they stand beside those of the file.
        ended: file of the sessions that were ended, for a server that begins anew; None forgets them with this one.

    Raises:
        ConfigError: that file is not one.
    """

    def __init__(
        self,
        kept: Credentials,
        *,
        session_hours: float = 12.0,
        password: str | None = None,
        token: str | None = None,
        ended: Path | None = None,
    ) -> None:
        self.session_s = session_hours * 3600
        chosen = password or kept.password
        plain = password is not None and not password.startswith("$argon2")
        self._password = hash_password(password) if plain and password is not None else chosen
        self._tokens = dict(kept.tokens)
        if token is not None:
            self._tokens["settings"] = (
                token.removeprefix("sha256:") if token.startswith("sha256:") else hash_token(token)
            )
        self._key = kept.key.encode()
        self._signer = TimestampSigner(kept.key, salt=self._digest(f"session {chosen}"), digest_method=hashlib.sha256)
        self._file = ended
        self._ended = OrderedDict({} if ended is None else load_ended_sessions(ended))
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self.throttle = LoginThrottle()

    @property
    def is_required(self) -> bool:
        """Whether callers must say who they are."""
        return self._password is not None or bool(self._tokens)

    @property
    def has_password(self) -> bool:
        """Whether the page can be entered at all."""
        return self._password is not None

    def login(self, password: str) -> str | None:
        """The cookie of a new session, None when the password is wrong. One guess at a time: argon2 takes 64 MiB."""
        if self._password is None or len(password) > MAX_PASSWORD_LENGTH:
            return None
        with self._hashing:
            try:
                argon2.PasswordHasher().verify(self._password, password)
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return None
        return self._signer.sign(secrets.token_urlsafe(24)).decode()

    def logout(self, caller: Caller) -> None:
        """End a session; its cookie is worth nothing from now on, nor after a restart."""
        if caller.session is not None:
            with self._lock:
                now = time.time()
                self._ended[caller.session] = now
                while now - next(iter(self._ended.values())) > self.session_s:
                    self._ended.popitem(last=False)
                if self._file is not None:
                    try:
                        save_ended_sessions(self._file, self._ended)
                    except ConfigError as error:
                        log.warning("a session that was ended could begin again after a restart: %s", error)

    def authenticate(self, cookie: str | None, authorization: str | None) -> Caller | None:
        """Who asks, None for a stranger."""
        if authorization is not None:
            return self._bearer(authorization)
        if not self.is_required:
            return Caller("open", "page")
        return self._session(cookie) if cookie else None

    def has_ended(self, caller: Caller) -> bool:
        """Whether the session of a caller that was let in has ended since."""
        return caller.session in self._ended or time.time() > caller.until

    def csrf_token(self, caller: Caller) -> str:
        """What a page of this caller proves itself with when it changes something."""
        return self._digest(f"csrf {caller.session}")

    def has_csrf_proof(self, caller: Caller, given: str | None) -> bool:
        """Whether a change was asked for by the page itself, or with a token, which no browser sends on its own."""
        if caller.kind == "token":
            return True
        return given is not None and hmac.compare_digest(self.csrf_token(caller).encode(), given.encode())

    def _bearer(self, authorization: str) -> Caller | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        given, found = hash_token(token.strip()), None
        for name, kept in self._tokens.items():
            if hmac.compare_digest(kept.encode(), given.encode()):
                found = Caller("token", name)
        return found

    def _session(self, cookie: str) -> Caller | None:
        try:
            signed, begun = self._signer.unsign(cookie, max_age=math.floor(self.session_s), return_timestamp=True)
            session = signed.decode()
        except (BadSignature, ValueError):
            return None
        return (
            None if session in self._ended else Caller("session", "page", session, begun.timestamp() + self.session_s)
        )

    def _digest(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
