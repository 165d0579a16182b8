"""Who may do what: passwords, tokens, sessions, and the proof that a change was asked for by the page itself.

What is kept lies in one file that its owner alone can read: an argon2 hash of the password, SHA-256 of each token, and
the key that sessions are signed with. Tokens are 256 random bits, which no dictionary holds, so a plain hash of them
is enough and costs a caller of the API nothing; a password is chosen by people and gets argon2.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import math
import os
import re
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import argon2
from itsdangerous import BadSignature, TimestampSigner

from comemory.errors import ConfigError
from comemory.outputs import require_folder

SESSION_COOKIE = "comemory_session"
CSRF_HEADER = "X-CSRF-Token"
TOKEN_PREFIX = "cmm_"

SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MIXED_UP = "is not a file of comemory's access: restore it, or delete it and set the password again"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        kind: `open` where no password is set, `session` of the page, `token` of the API.
        name: for the record of who marked an event.
        session: its identifier, for `session` alone.
    """

    kind: Literal["open", "session", "token"]
    name: str
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the access file holds; none of it gives a password or token back.

    Attributes:
        key: signs sessions.
        password: an argon2 hash, None where there is none.
        tokens: SHA-256 of each token, hexadecimal, by the token's name.
    """

    key: str
    password: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)


def read_secrets(path: Path) -> Secrets:
    """Read the access file, or make one with a new key and neither password nor token.

    Raises:
        ConfigError: it cannot be read or made, others than its owner may read it, or it is not such a file.
    """
    if not path.exists():
        made = Secrets(secrets.token_urlsafe(32))
        write_secrets(path, made)
        return made
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} {_MIXED_UP}") from None
    if mode & 0o077:
        raise ConfigError(f"others may read {path} (mode {mode:o}): chmod 600 {path}")
    return _checked(found, path)


def _checked(found: object, path: Path) -> Secrets:
    if not isinstance(found, dict) or not isinstance(found.get("key"), str) or len(found["key"]) < 32:
        raise ConfigError(f"{path} {_MIXED_UP}")
    password, tokens = found.get("password"), found.get("tokens", {})
    if not (password is None or isinstance(password, str)) or not isinstance(tokens, dict):
        raise ConfigError(f"{path} {_MIXED_UP}")
    if not all(isinstance(text, str) for pair in tokens.items() for text in pair):
        raise ConfigError(f"{path} {_MIXED_UP}")
    return Secrets(found["key"], password, tokens)


def write_secrets(path: Path, kept: Secrets) -> None:
    """Write the access file whole, readable by its owner alone from its first byte on.

    Raises:
        ConfigError: it cannot be written.
    """
    require_folder(path.parent)
    beside = path.with_name(f".{path.name}-{secrets.token_hex(6)}.part")
    text = json.dumps({"key": kept.key, "password": kept.password, "tokens": dict(kept.tokens)}, indent=1)
    try:
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def hash_password(password: str) -> str:
    """The argon2id hash of a password.

    Raises:
        ConfigError: it is too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigError(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, got {len(password)}: choose another"
        )
    return argon2.PasswordHasher().hash(password)


def hash_token(token: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def set_password(path: Path, password: str) -> None:
    """Keep a password's hash in the access file; every session of the old one ends. Raises ConfigError."""
    hashed = hash_password(password)
    write_secrets(path, replace(read_secrets(path), password=hashed))


def add_token(path: Path, name: str) -> str:
    """Make a token for the API and keep its hash under a name; an older one of that name is gone.

    Returns:
        The token. It cannot be had again.

    Raises:
        ConfigError: not a name, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the token's name {name!r} needs letters, digits, '.', '-' or '_', 64 at most")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    kept = read_secrets(path)
    write_secrets(path, replace(kept, tokens={**kept.tokens, name: hash_token(token)}))
    return token


def remove_token(path: Path, name: str) -> None:
    """Forget a token. Raises ConfigError where there is none of that name."""
    kept = read_secrets(path)
    if name not in kept.tokens:
        raise ConfigError(f"there is no token {name!r} (known: {', '.join(sorted(kept.tokens)) or 'none'})")
    write_secrets(path, replace(kept, tokens={key: value for key, value in kept.tokens.items() if key != name}))


class Attempts:
    """How often a place has guessed wrong, and how long it waits for that.

    Args:
        free: wrong guesses that cost nothing.
        wait_s: after the first one more; doubled with each that follows, up to `longest_s`.
        everywhere: wrong guesses a minute, of all places together, after which all wait.
    """

    N_PLACES = 4096

    def __init__(
        self,
        free: int = 5,
        wait_s: float = 15.0,
        longest_s: float = 900.0,
        everywhere: int = 60,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.free, self.wait_s, self.longest_s, self.everywhere, self._now = free, wait_s, longest_s, everywhere, now
        self._lock = threading.Lock()
        self._places: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._window, self._n_window = now(), 0

    def wait(self, place: str) -> float:
        """Seconds until this place may guess again, 0 when it may.

        >>> clock = [0.0]
        >>> attempts = Attempts(free=1, wait_s=10, now=lambda: clock[0])
        >>> attempts.failed("192.0.2.1"), attempts.wait("192.0.2.1")
        (None, 0.0)
        >>> attempts.failed("192.0.2.1"), attempts.wait("192.0.2.1"), attempts.wait("192.0.2.2")
        (None, 10.0, 0.0)
        """
        with self._lock:
            until = self._places.get(network(place), (0, 0.0))[1]
            if self._n_window >= self.everywhere:
                until = max(until, self._window + 60.0)
            return max(0.0, until - self._now())

    def failed(self, place: str) -> None:
        """Count a wrong guess."""
        with self._lock:
            now = self._now()
            if now - self._window >= 60.0:
                self._window, self._n_window = now, 0
            self._n_window += 1
            count = self._places.pop(network(place), (0, 0.0))[0] + 1
            over = count - self.free
            wait_s = min(self.wait_s * 2 ** min(over - 1, 30), self.longest_s) if over > 0 else 0.0
            self._places[network(place)] = (count, now + wait_s)
            if len(self._places) > self.N_PLACES:
                self._places.popitem(last=False)

    def succeeded(self, place: str) -> None:
        """Forget a place's wrong guesses."""
        with self._lock:
            self._places.pop(network(place), None)


def network(place: str) -> str:
    """What counts as one place: an IPv4 address, or the /64 network of an IPv6 address, which one subscriber has whole.

    >>> network("2001:db8::1") == network("2001:db8::2"), network("192.0.2.1")
    (True, '192.0.2.1')
    """
    try:
        address = ipaddress.ip_address(place.partition("%")[0])
    except ValueError:
        return place
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


class Access:
    """The door: tells callers apart, and lets them in and out.

    Args:
        kept: the access file's content.
        session_hours: how long a login lasts.
        password, token: of the settings, plain or hashed; they stand beside those of the file.
    """

    def __init__(
        self, kept: Secrets, *, session_hours: float = 12.0, password: str | None = None, token: str | None = None
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
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self.attempts = Attempts()

    @property
    def required(self) -> bool:
        """Whether callers must say who they are."""
        return self._password is not None or bool(self._tokens)

    @property
    def has_password(self) -> bool:
        """Whether the page can be entered at all."""
        return self._password is not None

    def login(self, password: str) -> str | None:
        """The cookie of a new session, None when the password is wrong. One guess at a time: argon2 takes 64 MiB."""
        if self._password is None or len(password) > LONGEST_PASSWORD:
            return None
        with self._hashing:
            try:
                argon2.PasswordHasher().verify(self._password, password)
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return None
        return self._signer.sign(secrets.token_urlsafe(24)).decode()

    def logout(self, caller: Caller) -> None:
        """End a session; its cookie is worth nothing from now on."""
        if caller.session is not None:
            with self._lock:
                now = time.monotonic()
                self._ended[caller.session] = now
                while self._ended and now - next(iter(self._ended.values())) > self.session_s:
                    self._ended.popitem(last=False)

    def caller(self, cookie: str | None, authorization: str | None) -> Caller | None:
        """Who asks, None for a stranger."""
        if authorization is not None:
            return self._bearer(authorization)
        if not self.required:
            return Caller("open", "page")
        session = self._session(cookie) if cookie else None
        return None if session is None else Caller("session", "page", session)

    def is_over(self, caller: Caller) -> bool:
        """Whether the session of a caller that was let in has ended since."""
        return caller.session in self._ended

    def csrf(self, caller: Caller) -> str:
        """What a page of this caller proves itself with when it changes something."""
        return self._digest(f"csrf {caller.session}")

    def proves(self, caller: Caller, given: str | None) -> bool:
        """Whether a change was asked for by the page itself, or with a token, which no browser sends on its own."""
        if caller.kind == "token":
            return True
        return given is not None and hmac.compare_digest(self.csrf(caller).encode(), given.encode())

    def _bearer(self, authorization: str) -> Caller | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        given, found = hash_token(token.strip()), None
        for name, kept in self._tokens.items():
            if hmac.compare_digest(kept.encode(), given.encode()):
                found = Caller("token", name)
        return found

    def _session(self, cookie: str) -> str | None:
        try:
            session = self._signer.unsign(cookie, max_age=math.floor(self.session_s)).decode()
        except (BadSignature, ValueError):
            return None
        return None if session in self._ended else session

    def _digest(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
