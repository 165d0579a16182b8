"""The access file: an argon2 hash of the password, SHA-256 of each token, and the key that sessions are signed with.

Beside it are the sessions that were ended before their time, for a server that begins anew. The owner alone can read
them. Tokens are 256 random bits, which no dictionary holds, so a plain hash of them is enough and
costs a caller of the API nothing; a password is chosen by people and gets argon2.
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

import argon2

from comemory.errors import ConfigError, SourceError
from comemory.files import file_lock, read_json_object, require_writable_folder, write_bytes

TOKEN_PREFIX = "cmm_"
MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 8, 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NOT_OURS = "is not a file of comemory's access: restore it, or delete it and set the password again"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the access file holds; none of it gives a password or token back.

    Attributes:
        key: signs sessions.
        password: an argon2 hash, None where there is none.
        tokens: SHA-256 of each token, hexadecimal, by the token's name.
    """

    key: str
    password: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)


def load_credentials(path: Path) -> Credentials:
    """Read the access file, or make one with a new key and neither password nor token.

    Raises:
        ConfigError: it cannot be read or made, others than its owner may read it, or it is not such a file.
    """
    if not path.exists():
        with _exclusive(path):
            return _read(path)
    return _read(path)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """The file is read, changed and written by one process at a time."""
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
        raise ConfigError(f"others may read {path} (mode {mode:o}): chmod 600 {path}")
    return _checked(found, path)


def _checked(found: object, path: Path) -> Credentials:
    if not isinstance(found, dict) or not isinstance(found.get("key"), str) or len(found["key"]) < 32:
        raise ConfigError(f"{path} {_NOT_OURS}")
    password, tokens = found.get("password"), found.get("tokens", {})
    if not (password is None or isinstance(password, str)) or not isinstance(tokens, dict):
        raise ConfigError(f"{path} {_NOT_OURS}")
    if not all(isinstance(text, str) for pair in tokens.items() for text in pair):
        raise ConfigError(f"{path} {_NOT_OURS}")
    return Credentials(found["key"], password, tokens)


def save_credentials(path: Path, kept: Credentials) -> None:
    """Write the access file whole, readable by its owner alone from its first byte on.

    Raises:
        ConfigError: it cannot be written.
    """
    _write_private(path, {"key": kept.key, "password": kept.password, "tokens": dict(kept.tokens)})


def load_ended_sessions(path: Path) -> dict[str, float]:
    """The sessions that were ended, and when, in seconds since 1970; none where there is no file.

    Raises:
        ConfigError: it cannot be read, or is not such a file.
    """
    try:
        found = read_json_object(path)
    except SourceError as error:
        raise ConfigError(str(error)) from None
    if not all(isinstance(at, int | float) for at in found.values()):
        raise ConfigError(f"{path} {_NOT_OURS}")
    return found


def save_ended_sessions(path: Path, ended: Mapping[str, float]) -> None:
    """Keep the sessions that were ended. Raises ConfigError where they cannot be written."""
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
            f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters, got {len(password)}: choose another"
        )
    return argon2.PasswordHasher().hash(password)


def hash_token(token: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def set_password(path: Path, password: str) -> None:
    """Keep a password's hash in the access file; every session of the old one ends. Raises ConfigError."""
    hashed = hash_password(password)
    with _exclusive(path):
        save_credentials(path, replace(_read(path), password=hashed))


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
    with _exclusive(path):
        kept = _read(path)
        save_credentials(path, replace(kept, tokens={**kept.tokens, name: hash_token(token)}))
    return token


def remove_token(path: Path, name: str) -> None:
    """Forget a token. Raises ConfigError where there is none of that name."""
    with _exclusive(path):
        kept = _read(path)
        if name not in kept.tokens:
            raise ConfigError(f"there is no token {name!r} (known: {', '.join(sorted(kept.tokens)) or 'none'})")
        save_credentials(path, replace(kept, tokens={key: value for key, value in kept.tokens.items() if key != name}))
