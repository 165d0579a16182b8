"""Secrets in settings, taken from environment variables."""

from __future__ import annotations

import os

from comemory.errors import ConfigError

PREFIX = "env:"


def resolve_secret(value: str, what: str) -> str:
    """Return the secret of a setting: `env:NAME` is read from the environment, any other value is the secret itself.

    Args:
        value: of the setting.
        what: the setting, for error messages.

    Raises:
        ConfigError: the variable is not set, or empty. The message contains its name, never a value.

    >>> resolve_secret("plain", "the password")
    'plain'
    """
    if not value.startswith(PREFIX):
        return value
    name = value.removeprefix(PREFIX)
    found = os.environ.get(name, "") if name and "\0" not in name and "=" not in name else ""
    if not found:
        raise ConfigError(f"{what} is {value!r}, and the environment variable {name!r} is not set: set it")
    return found
