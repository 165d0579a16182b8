"""The access file: hashes of passwords and tokens, each with a role, and the key that sessions are signed with.

A password is chosen by a person, so its hash is argon2. A token is 256 random bits, which no dictionary holds: SHA-256 is
enough for it, and costs a caller of the API nothing. The sessions that were ended before their time are in a file beside
it. Both files are readable by their owner alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import argon2

from comemory.errors import ConfigError, SourceError
from comemory.files import file_lock, read_json_object, require_writable_folder, write_bytes

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the least to the most: a viewer reads, an operator also sets verdicts, zones and sensitivity, an admin also
deletes events."""
TOKEN_PREFIX = "cmm_"
MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 8, 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NOT_OURS = "is not an access file of comemory: restore it, or delete it and set the password again"


@dataclass(frozen=True, slots=True)
class Token:
    """A token for the API.

    Attributes:
        hash: SHA-256, hexadecimal.
    """

    hash: str
    role: Role


@dataclass(frozen=True, slots=True)
class Credentials:
    """The content of the access file. No password or token can be recovered from it.

    Attributes:
        key: signs sessions.
        passwords: argon2 hash of the password of each role that has one.
        tokens: by name.
    """

    key: str
    passwords: Mapping[Role, str] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)


def load_credentials(path: Path) -> Credentials:
    """Read the access file. Where there is none, make one with a new key, and neither passwords nor tokens.

    Raises:
        ConfigError: it cannot be read or made, others than its owner can read it, or it is another kind of file.
    """
    if not path.exists():
        with _exclusive(path):
            return _read(path)
    return _read(path)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """One process at a time reads, changes and writes the file."""
    require_writable_folder(path.parent)
    with file_lock(path.parent):
        yield


def _read(path: Path) -> Credentials:
    if not path.exists():
        made = Credentials(secrets.token_urlsafe(32))
        save_credentials(path, made)
        return made
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} {_NOT_OURS}") from None
    if mode & 0o077:
        raise ConfigError(f"others can read {path} (mode {mode:o}): chmod 600 {path}")
    return _checked(found, path)


def _checked(found: Any, path: Path) -> Credentials:
    try:
        key, passwords = found["key"], found.get("passwords", {})
        tokens = {name: Token(token["hash"], token["role"]) for name, token in found.get("tokens", {}).items()}
        is_ours = isinstance(key, str) and len(key) >= 32 and all(isinstance(text, str) for text in passwords.values())
        is_ours &= {*passwords, *(token.role for token in tokens.values())} <= set(ROLES)
        is_ours &= all(isinstance(token.hash, str) for token in tokens.values())
        # A key that is not known may be a password: without it, the page would be open to all.
        is_ours &= {*found} <= {"key", "passwords", "tokens"}
    except (KeyError, TypeError, AttributeError):
        is_ours = False
    if not is_ours:
        raise ConfigError(f"{path} {_NOT_OURS}")
    return Credentials(key, passwords, tokens)


def save_credentials(path: Path, credentials: Credentials) -> None:
    """Write the access file as a whole, readable by its owner alone from its first byte on.

    Raises:
        ConfigError: it cannot be written.
    """
    passwords = {str(role): hashed for role, hashed in credentials.passwords.items()}
    tokens = {name: {"hash": token.hash, "role": token.role} for name, token in credentials.tokens.items()}
    _write_private(path, {"key": credentials.key, "passwords": passwords, "tokens": tokens})


def load_ended_sessions(path: Path) -> dict[str, float]:
    """Sessions that were ended, and when, in seconds since 1970; none where there is no file.

    Raises:
        ConfigError: it cannot be read, or is another kind of file.
    """
    try:
        found = read_json_object(path)
    except SourceError as error:
        raise ConfigError(str(error)) from None
    if not all(isinstance(at, int | float) for at in found.values()):
        raise ConfigError(f"{path} {_NOT_OURS}")
    return found


def save_ended_sessions(path: Path, ended: Mapping[str, float]) -> None:
    """Write the sessions that were ended.

    Raises:
        ConfigError: they cannot be written.
    """
    _write_private(path, dict(ended))


def _write_private(path: Path, content: object) -> None:
    require_writable_folder(path.parent)
    try:
        write_bytes(path, f"{json.dumps(content, indent=1)}\n".encode(), private=True)
    except SourceError as error:
        raise ConfigError(str(error)) from None


def hash_password(password: str) -> str:
    """The argon2id hash of a password.

    Raises:
        ConfigError: it is too short or too long.
    """
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise ConfigError(
            f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters, got {len(password)}: "
            "choose another"
        )
    return argon2.PasswordHasher().hash(password)


def hash_token(token: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def set_password(path: Path, password: str, role: Role = "admin") -> None:
    """Store the hash of a role's password. All sessions of the old one end, also on a running server.

    Raises:
        ConfigError: its length is not allowed, or the file cannot be written.
    """
    hashed = hash_password(password)
    with _exclusive(path):
        credentials = _read(path)
        save_credentials(path, replace(credentials, passwords={**credentials.passwords, role: hashed}))


def add_token(path: Path, name: str, role: Role = "admin") -> str:
    """Make a token for the API and store its hash under a name, replacing one of that name.

    Returns:
        The token. It cannot be shown again.

    Raises:
        ConfigError: the name is not allowed, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the token's name {name!r} needs letters, digits, '.', '-' or '_', 64 at most")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with _exclusive(path):
        credentials = _read(path)
        tokens = {**credentials.tokens, name: Token(hash_token(token), role)}
        save_credentials(path, replace(credentials, tokens=tokens))
    return token


def remove_token(path: Path, name: str) -> None:
    """Remove a token; a running server refuses it from now on.

    Raises:
        ConfigError: there is none of that name.
    """
    with _exclusive(path):
        credentials = _read(path)
        if name not in credentials.tokens:
            known = ", ".join(sorted(credentials.tokens)) or "none"
            raise ConfigError(f"there is no token {name!r} (known: {known})")
        tokens = {key: token for key, token in credentials.tokens.items() if key != name}
        save_credentials(path, replace(credentials, tokens=tokens))
