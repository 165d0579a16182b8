"""Object stores through fsspec: the file system of a URL, and requests that are tried again."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from comemory.errors import (
    ConfigError,
    RuntimeMissing,
    SourceError,
    TemporaryError,
    install_hint,
    last_line,
    mask_password,
    short_repr,
)

ATTEMPTS = 7
"""How often a request to an object store is tried."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
"""Pauses between two attempts: doubled each time, with jitter, so that many workers do not come back at once."""

_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, TypeError)
_PERMANENT_NAMES = ("NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ParamValidationError")
"""Errors of botocore, which is not imported here."""

_QUERY = re.compile(r"(\w+://[^\s\"'?]+)\?[^\s\"']*")

_MEDIA_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([A-Za-z0-9][A-Za-z0-9_.-]*)((?:/[A-Za-z0-9_=.-]+)*)/?")
_NO_STORE = ("file", "local", "http", "https", "memory")
"""Kinds of URLs that fsspec knows and that are no object store, or cannot be written."""

T = TypeVar("T")


def is_remote(location: str) -> bool:
    """Whether a location is in an object store or behind a URL, not on this machine.

    >>> is_remote("s3://bucket/a.mp4"), is_remote("/videos/a.mp4"), is_remote("file:///videos/a.mp4")
    (True, False, False)
    """
    return "://" in location and not location.lower().startswith("file://")


def media_url_error(url: str) -> str:
    """Why media cannot be stored at a URL, in one line; empty where they can.

    >>> media_url_error("s3://bucket/media"), media_url_error("s3://bucket")
    ('', '')
    >>> media_url_error("/srv/media")
    "expected the URL of an object store, such as s3://bucket/prefix, not '/srv/media'"
    """
    found = _MEDIA_URL.fullmatch(url)
    if "@" in url:
        return "expected a URL without user and password: the credentials come from the environment"
    if found is None or found[1] in _NO_STORE or {".", ".."} & set(found[3].split("/")):
        return f"expected the URL of an object store, such as s3://bucket/prefix, not {short_repr(url)}"
    return ""


def file_system(location: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Args:
        location: a URL.
        options: of this kind of file system.

    Raises:
        RuntimeMissing: fsspec, or the package for this kind of URL, is not installed.
        ConfigError: no such kind of URL.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise RuntimeMissing(f"{_scheme(location)}:// needs fsspec: {install_hint('archive')}") from None
    try:
        fs, path = url_to_fs(location, use_listings_cache=False, **options)
    except ImportError as error:
        raise RuntimeMissing(f"{_scheme(location)}:// needs a package of fsspec: {last_line(error)}") from None
    except ValueError as error:
        raise ConfigError(f"cannot use {mask_password(location)}: {last_line(error)}") from None
    return fs, str(path)


def _scheme(location: str) -> str:
    return location.partition("://")[0].lower()


def with_retries(call: Callable[[], T], what: str, attempts: int | None = None) -> T:
    """Call a function of an object store, again after an error that may pass.

    Args:
        call: what to do.
        what: it is, for the message of an error.
        attempts: how often it is tried; `ATTEMPTS` by default.

    Raises:
        TemporaryError: it failed so often.
        SourceError: it failed for good.
    """
    pause_s, n_left = FIRST_PAUSE_S, attempts or ATTEMPTS
    while True:
        n_left -= 1
        try:
            return call()
        except Exception as error:  # every file system has its own kinds
            may_pass = not isinstance(error, _PERMANENT) and type(error).__name__ not in _PERMANENT_NAMES
            if n_left and may_pass:
                time.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                continue
            # The query of a request says nothing to a reader, and masked even less.
            reason = "not found" if isinstance(error, FileNotFoundError) else _QUERY.sub(r"\1", last_line(error))
            kind = TemporaryError if may_pass else SourceError
            raise kind(f"{what}: {mask_password(reason)}") from error
