"""Secrets that settings name and the environment holds."""

from __future__ import annotations

import os

from comemory.errors import ConfigError

PREFIX = "env:"


def reveal(value: str, what: str) -> str:
    """The secret that a setting stands for: `env:NAME` is read from the environment, all else is taken as it is.

    Raises:
        ConfigError: the variable is not set or is empty; the text names it, never its value.

    >>> reveal("plain", "the password")
    'plain'
    """
    if not value.startswith(PREFIX):
        return value
    name = value.removeprefix(PREFIX)
    found = os.environ.get(name, "") if name and "\0" not in name and "=" not in name else ""
    if not found:
        raise ConfigError(f"{what} is {value!r}, and the environment has no {name!r}: set that variable")
    return found
