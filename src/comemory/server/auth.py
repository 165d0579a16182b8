"""Who may do what: sessions, tokens, roles, and the proof that a change was made by the page itself (CSRF)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import argon2
from itsdangerous import BadSignature, TimestampSigner

from comemory.errors import ConfigError
from comemory.server.auth_file import (
    MAX_PASSWORD_LENGTH,
    ROLES,
    Credentials,
    Role,
    Token,
    hash_password,
    hash_token,
    load_credentials,
    load_ended_sessions,
    save_ended_sessions,
)
from comemory.server.login_throttle import LoginThrottle

SESSION_COOKIE, DEVICE_COOKIE = "comemory_session", "comemory_device"
CSRF_HEADER = "X-CSRF-Token"
DEVICE_S = 365 * 86400
"""A browser that has logged in is known for a year: a flood of wrong guesses from elsewhere does not lock it out."""
_SETTINGS = "settings"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        kind: `open` where no password is set, `session` of the page, `token` of the API, `proxy` where a trusted proxy
            names the user.
        name: for the record of who changed something.
        role: what the caller may do.
        session: its id, for `session` only.
        expires: in seconds since 1970, for `session` only.
        credential: identifies the password or token that let the caller in: another one ends what rests on it.
    """

    kind: Literal["open", "session", "token", "proxy"]
    name: str
    role: Role = "admin"
    session: str | None = None
    expires: float = math.inf
    credential: str = ""

    def has_role(self, role: Role) -> bool:
        """Whether the caller has a role, or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Auth:
    """Authenticates callers, and starts and ends sessions.

    Args:
        credentials: content of the access file, or its path: then a change of the file takes effect at once.
        session_hours: how long a login lasts.
        password: of the admin, from the settings, plain or hashed; in addition to those of the file.
        token: of the admin, from the settings, plain or hashed; in addition to those of the file.
        ended: file of the sessions that were ended, for the next start; None forgets them with the process.
        proxy_role: role of users that a trusted proxy names.

    Raises:
        ConfigError: a file cannot be read, or is another kind of file.
    """

    def __init__(
        self,
        credentials: Credentials | Path,
        *,
        session_hours: float = 12.0,
        password: str | None = None,
        token: str | None = None,
        ended: Path | None = None,
        proxy_role: Role = "operator",
    ) -> None:
        self.session_s = session_hours * 3600
        self.throttle = LoginThrottle()
        self.proxy_role = proxy_role
        is_plain = password is not None and not password.startswith("$argon2")
        self._own_password = hash_password(password) if is_plain and password is not None else password
        self._own_token = None if token is None else Token(_token_hash(token), "admin")
        self._path = credentials if isinstance(credentials, Path) else None
        self._stamp: tuple[int, ...] = ()
        self._lock, self._hashing = threading.Lock(), threading.Lock()
        self._credentials = load_credentials(credentials) if isinstance(credentials, Path) else credentials
        self._stamp = self._file_stamp()
        self._ended_file = ended
        self._ended = OrderedDict({} if ended is None else load_ended_sessions(ended))

    @property
    def is_required(self) -> bool:
        """Whether callers must log in or send a token."""
        return self.has_password or bool(self._tokens())

    @property
    def has_password(self) -> bool:
        """Whether a login is possible at all."""
        return bool(self._passwords())

    def login(self, password: str) -> str | None:
        """The cookie of a new session; None where the password is wrong.

        One guess at a time: argon2 takes 64 MiB of memory.
        """
        if len(password) > MAX_PASSWORD_LENGTH:
            return None
        for role, hashed in self._passwords().items():
            with self._hashing:
                try:
                    argon2.PasswordHasher().verify(hashed, password)
                except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                    continue
            return f"{role}.{self._signer(role).sign(secrets.token_urlsafe(24)).decode()}"
        return None

    def logout(self, caller: Caller) -> None:
        """End a session: its cookie is refused from now on, also after a restart."""
        if caller.session is not None:
            with self._lock:
                now = time.time()
                self._ended[caller.session] = now
                while now - next(iter(self._ended.values())) > self.session_s:
                    self._ended.popitem(last=False)
                if self._ended_file is not None:
                    try:
                        save_ended_sessions(self._ended_file, self._ended)
                    except ConfigError as error:
                        log.warning("an ended session would be accepted again after a restart: %s", error)

    def authenticate(
        self, cookie: str | None, authorization: str | None, proxy_user: str | None = None
    ) -> Caller | None:
        """The caller; None for one who is unknown.

        Args:
            cookie: of the session.
            authorization: the header. Only `Bearer` is a token; a proxy that asks for a password forwards `Basic`.
            proxy_user: the user that a trusted proxy names; the caller of this method checks that it is trusted.
        """
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() == "bearer":
            return self._bearer(token)
        if proxy_user:
            return Caller("proxy", proxy_user[:200], self.proxy_role)
        if not self.is_required:
            return Caller("open", "page")
        return self._session(cookie) if cookie else None

    def has_ended(self, caller: Caller) -> bool:
        """Whether a caller who was let in would not be any more: logged out, expired, token removed, password changed."""
        if caller.kind == "session":
            is_valid = caller.session not in self._ended and time.time() <= caller.expires
            return not (is_valid and caller.credential == self._passwords().get(caller.role))
        if caller.kind == "token":
            token = self._tokens().get(caller.name)
            return token is None or token.hash != caller.credential
        return caller.kind == "open" and self.is_required

    def csrf_token(self, caller: Caller) -> str:
        """The proof that the page sends with each change."""
        return self._digest(f"csrf {caller.session or caller.name}")

    def has_csrf_proof(self, caller: Caller, header: str | None) -> bool:
        """Whether a change comes from the page itself. A token needs no further proof: no browser sends it by itself."""
        if caller.kind == "token":
            return True
        return header is not None and hmac.compare_digest(self.csrf_token(caller).encode(), header.encode())

    def new_device(self) -> str:
        """The cookie of a browser that has logged in."""
        return self._device_signer().sign(secrets.token_urlsafe(12)).decode()

    def known_device(self, cookie: str | None) -> str | None:
        """The id of a browser that has logged in before; None for others."""
        try:
            return self._device_signer().unsign(cookie or "", max_age=DEVICE_S).decode()
        except (BadSignature, ValueError):
            return None

    def _bearer(self, token: str) -> Caller | None:
        hashed, found = hash_token(token.strip()), None
        for name, known in self._tokens().items():
            if hmac.compare_digest(known.hash.encode(), hashed.encode()):
                found = Caller("token", name, known.role, credential=known.hash)
        return found

    def _session(self, cookie: str) -> Caller | None:
        role, _, signed = cookie.partition(".")
        password = next((hashed for known, hashed in self._passwords().items() if known == role), None)
        if password is None:
            return None
        try:
            known_role: Role = next(known for known in ROLES if known == role)
            unsigned, begun = self._signer(known_role).unsign(
                signed, max_age=math.floor(self.session_s), return_timestamp=True
            )
            session = unsigned.decode()
        except (BadSignature, ValueError):
            return None
        if session in self._ended:
            return None
        expires = begun.timestamp() + self.session_s
        return Caller("session", f"page ({role})", known_role, session, expires, password)

    def _passwords(self) -> Mapping[Role, str]:
        """Argon2 hashes by role; that of the settings is for the admin."""
        found = self._current().passwords
        return found if self._own_password is None else {**found, "admin": self._own_password}

    def _tokens(self) -> Mapping[str, Token]:
        found = self._current().tokens
        return found if self._own_token is None else {**found, _SETTINGS: self._own_token}

    def _current(self) -> Credentials:
        """The credentials, read again where the access file has changed. A file that is damaged changes nothing."""
        if self._path is not None and (stamp := self._file_stamp()) != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._stamp = stamp
                    try:
                        changed = load_credentials(self._path)
                        self._credentials = replace(changed, key=self._credentials.key)
                    except ConfigError as error:
                        log.error("the passwords and tokens stay as they were: %s", error)
        return self._credentials

    def _file_stamp(self) -> tuple[int, ...]:
        """Changes whenever the access file does."""
        if self._path is None:
            return ()
        try:
            status = self._path.stat()
        except OSError:
            return (0,)
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def _signer(self, role: Role) -> TimestampSigner:
        """Signs sessions with a key that depends on the password: a new password ends the sessions of the old one."""
        salt = self._digest(f"session {role} {self._passwords().get(role)}")
        return TimestampSigner(self._credentials.key, salt=salt, digest_method=hashlib.sha256)

    def _device_signer(self) -> TimestampSigner:
        return TimestampSigner(self._credentials.key, salt="device", digest_method=hashlib.sha256)

    def _digest(self, text: str) -> str:
        return hmac.new(self._credentials.key.encode(), text.encode(), hashlib.sha256).hexdigest()


def _token_hash(token: str) -> str:
    return token.removeprefix("sha256:") if token.startswith("sha256:") else hash_token(token)
