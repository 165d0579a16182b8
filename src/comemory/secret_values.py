"""Secrets in settings: taken from environment variables, remembered to be masked, and encoded for URLs."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from comemory.errors import ConfigError, remember_secret, split_password

PREFIX = "env:"


def resolve_secret(value: str, what: str, *, is_location: bool = False) -> str:
    """Return the secret of a setting: `env:NAME` is read from the environment, any other value is the secret itself.

    Args:
        value: of the setting.
        what: the setting, for error messages.
        is_location: it is a URL or a path: of a URL, the password is masked from now on, a path is no secret. Other values
            are masked as a whole.

    Raises:
        ConfigError: the variable is not set, or empty. The message contains its name, never a value.

    >>> resolve_secret("plain", "the password")
    'plain'
    """
    if not value.startswith(PREFIX):
        _remember(value, is_location)
        return value
    name = value.removeprefix(PREFIX)
    found = os.environ.get(name, "") if name and "\0" not in name and "=" not in name else ""
    if not found:
        raise ConfigError(f"{what} is {value!r}, and the environment variable {name!r} is not set: set it")
    _remember(found, is_location)
    return found


def _remember(value: str, is_location: bool) -> None:
    if "://" in value or not is_location:
        remember_secret(value)


def encode_url(url: str) -> str:
    """Percent-encode the user and the password of a URL, so that libraries do not mistake a part of them for the host.

    Escapes that are there already stay.

    >>> encode_url("rtsp://admin:p@ss/[1]%@host:554/live")
    'rtsp://admin:p%40ss%2F%5B1%5D%25@host:554/live'
    >>> encode_url("rtsp://admin:p%40ss@host/live")
    'rtsp://admin:p%40ss@host/live'
    """
    found = split_password(url)
    if found is None:
        return url
    before, password, after = found
    scheme, _, user = before[:-1].partition("://")
    return f"{scheme}://{_encode(user)}:{_encode(password)}{after}"


def _encode(text: str) -> str:
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text), safe="%!$&'()*+,;=")
