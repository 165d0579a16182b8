"""The errors comemory raises on purpose.

Every error is a `ComemoryError` and also the matching builtin, so that a caller may catch either::

    ComemoryError
    ├── SourceError      (OSError)      a video, image or camera cannot be opened or read
    │   └── TemporaryError (OSError)    the same, because a server or a lock is not free now: another try may succeed
    ├── DatasetError     (ValueError)   a data set is not what its kind requires
    ├── ConfigError      (ValueError)   a setting, a name or a command line value is not valid
    ├── BundleError      (ValueError)   a bundle is damaged, unsafe or of another version
    ├── EvaluationError  (ValueError)   scores and labels do not match
    ├── TrainingError    (RuntimeError) training cannot start or continue
    ├── StoreError       (OSError)      the store of events cannot be opened, read or written
    │   └── StoreFull    (OSError)      the same, because its disk is full
    ├── DeliveryError    (OSError)      an alert did not reach its sink
    └── RuntimeMissing   (ImportError)  an optional package is needed and not installed

The message of an error is one line: what failed, the value found, what was expected, and a hint.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from urllib.parse import quote, unquote

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 40


class ComemoryError(Exception):
    """The root of every error that comemory raises on purpose."""


class SourceError(ComemoryError, OSError):
    """A video file, folder of frames or camera cannot be opened or read."""


class TemporaryError(SourceError):
    """Something is not to be had now, such as an object store or a cluster: the same command may succeed later."""


class DatasetError(ComemoryError, ValueError):
    """A data set does not contain what its kind requires."""


class ConfigError(ComemoryError, ValueError):
    """A setting, a name or a command line value is not valid."""


class BundleError(ComemoryError, ValueError):
    """A bundle is damaged, unsafe or of another version."""


class EvaluationError(ComemoryError, ValueError):
    """Scores and labels do not match."""


class TrainingError(ComemoryError, RuntimeError):
    """Training cannot start or continue."""


class StoreError(ComemoryError, OSError):
    """The store of events cannot be opened, read or written."""


class StoreFull(StoreError):  # noqa: N818
    """The store of events cannot be written because its disk is full."""


class DeliveryError(ComemoryError, OSError):
    """An alert did not reach its sink."""


class RuntimeMissing(ComemoryError, ImportError):  # noqa: N818
    """An optional package is needed and not installed."""


def suggest(word: str, known: Iterable[str]) -> str:
    """List the known words, the closest one first.

    Returns:
        A clause that ends an error message, such as `did you mean 'small'? (known: nano, paper, small)`.

    >>> suggest("smal", ["nano", "small"])
    "did you mean 'small'? (known: nano, small)"
    >>> suggest("zzz", ["nano", "small"])
    'known: nano, small'
    >>> suggest("zzz", [])
    'there are none'
    """
    names = sorted(known)
    listed = f"known: {', '.join(names)}" if names else "there are none"
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}? ({listed})" if close else listed


def short_repr(value: object) -> str:
    """A value for an error message: its `repr` on one line, abbreviated where it is long or deep.

    >>> short_repr("small")
    "'small'"
    >>> short_repr([[[[1]]], 2, 3, 4, 5, 6, 7, 8])
    '[[[...]], 2, 3, 4, 5, 6, ...]'
    """
    return " ".join(_SHORT.repr(value).split())


def install_hint(extra: str = "") -> str:
    """How to install comemory with the packages of an extra; without one, with those that it always needs.

    >>> install_hint("train")
    "in a checkout of comemory, run pip install '.[train]'"
    """
    return f"in a checkout of comemory, run pip install '.{f'[{extra}]' if extra else ''}'"


_PLAIN_REASONS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"Value error, ", ""),
        (r"Input should be greater than or equal to (\S+)", r"expected \1 or more"),
        (r"Input should be less than or equal to (\S+)", r"expected \1 or less"),
        (r"Input should be greater than (\S+)", r"expected more than \1"),
        (r"Input should be less than (\S+)", r"expected less than \1"),
        (r"Input should be a valid integer(, .*)?", "expected a whole number"),
        (r"Input should be a valid number(, .*)?", "expected a number"),
        (r"Input should be a valid boolean(, .*)?", "expected true or false"),
        (r"Input should be a valid string", "expected a text"),
        (r"Input should be a valid (tuple|list|set|frozenset)", "expected a list"),
        (r"Input should be a valid dictionary.*", "expected a group of settings"),
        (r"Input should be an object", "expected a group of settings"),
        (r"Input (should be|is not) a valid path.*", "expected a path"),
        (
            r"(Tuple|List|Set|String|Dictionary|Value) should have at (least|most) (\d+ \w+?)( after .*)?$",
            r"expected at \2 \3",
        ),
        (r"String should match pattern (.+)", r"expected a text that matches \1"),
        (r"Extra inputs are not permitted", "unknown key"),
        (r"Field required", "is missing"),
        (r"Input should be ", "expected "),
    )
)
"""Texts of pydantic and typer, and plain words for them; all that match are applied, in this order."""


def plain_reason(text: str) -> str:
    """A reason why a value is refused, in plain words, from the text of pydantic or typer; on one line.

    >>> plain_reason("Input should be greater than or equal to 1")
    'expected 1 or more'
    >>> plain_reason("Value error, a zone has 3 points or more")
    'a zone has 3 points or more'
    """
    text = " ".join(text.split())
    for pattern, plain in _PLAIN_REASONS:
        text = pattern.sub(plain, text)
    return text


def last_line(error: BaseException) -> str:
    r"""The last line of another library's error message, which usually has the reason.

    >>> last_line(RuntimeError("Exception from core.cpp:110:\nunknown opset\n"))
    'unknown opset'
    """
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


_SECRETS: set[str] = set()
MIN_SECRET = 4
"""Shorter secrets are not masked everywhere in a text: they also occur in words and numbers."""


def remember_secret(value: str) -> None:
    """Hide this value in every text that `mask_password` returns from now on, however it is written there.

    Args:
        value: a password or token; or a URL, of which the password and the values of the query are hidden.
    """
    found = split_password(value)
    secrets = {value} if "://" not in value else set()
    if found is not None:
        secrets.add(found[1])
    if "://" in value:
        # Not in the password: it may hold an & or a ?, and what follows there would take the address with it.
        query = value if found is None else found[2]
        secrets |= {part.partition("=")[2] for part in re.split(r"[?&]", query)[1:]}
    for secret in secrets:
        plain = unquote(secret)
        _SECRETS.update(one for one in (secret, plain, quote(plain, safe="")) if len(one) >= MIN_SECRET)


def split_password(url: str) -> tuple[str, str, str] | None:
    """Split a URL into the part before its password, the password, and the part from the @ on; None without one.

    The password may contain any character, such as an unescaped slash or @.

    >>> split_password("rtsp://admin:p@ss/word@host/live")
    ('rtsp://admin:', 'p@ss/word', '@host/live')
    """
    scheme, mark, rest = url.partition("://")
    found = _split_userinfo(rest) if mark else None
    return None if found is None else (f"{scheme}://{found[0]}:", found[1], f"@{found[2]}")


def _split_userinfo(rest: str) -> tuple[str, str, str] | None:
    """Split the part of a URL after `://` into user, password, and host with path; None without a password.

    Where a password contains an @ or a slash, several readings are possible: the one whose host looks most like an
    address is taken, and of equals the one with the longest password, so that masking hides too much rather than too
    little.
    """
    found = _PASSWORD.match(rest)
    if found is None:
        return None
    start = len(found[1]) + 1
    before_next_url = rest.find("://", start)
    ends = [
        k
        for k, letter in enumerate(rest[: before_next_url if before_next_url >= 0 else None])
        if letter == "@" and k >= start and _HOST.match(rest, k + 1)
    ]
    if not ends:
        return found[1], found[0][start:-1], rest[found.end() :]
    end = max(ends, key=lambda k: (bool(_ADDRESS.match(rest, k + 1)), k))
    return found[1], rest[start:end], rest[end + 1 :]


def mask_password(text: str) -> str:
    """Hide the passwords of all URLs in a text, and the values of their queries, so that it may be shown or logged.

    Values given to `remember_secret` are hidden wherever they stand in the text.

    >>> mask_password("rtsp://user:secret@host/stream")
    'rtsp://user:***@host/stream'
    >>> mask_password("https://host/live?token=secret&channel=1")
    'https://host/live?token=***&channel=***'
    >>> mask_password("rtsp://host/user=admin&password=secret&channel=1")
    'rtsp://host/user=admin&password=***&channel=1'
    >>> mask_password("/videos/gate.mp4")
    '/videos/gate.mp4'
    """
    # Known passwords go first, the longest one first: an odd one may hide the end of its URL from the expressions below.
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _URL.sub(lambda found: _masked_url(found[0]), text)


_PORT = r"\d{1,5}(?:[/?#]|$)"
_URL = re.compile(
    rf"(?<=://)(?:[^/@:?#\n]*:(?!\s|{_PORT}|\d{{1,5}}:\s)(?:[^/?#\n]*@|[^\s@]*[^\S\n](?:(?!://)[^@\n])*@))?\S*?(?=:?(?:\s|$))"
)
"""A URL in a text. User and password may contain spaces, if an @ follows. The colon in `URL: reason` does not belong to it."""
_PASSWORD = re.compile(rf"^([^/@:?#]*):(?:[^/?#]*@|(?!{_PORT}).*@)")
"""User and password. A password with an unescaped slash ends at the last @; a port is no password."""
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?=[/?#]|$)")
_ADDRESS = re.compile(r"(?:[\w-]+(?:\.[\w-]+)+|localhost|\[[0-9A-Fa-f:.]+\]|[\w.-]+(?=:\d))(?::\d{1,5})?(?=[/?#]|$)")
"""A host that is surely one: with a dot, a port or brackets."""
_IN_PATH = re.compile(r"((?:pass\w*|pwd)=)[^&;?#]*", re.IGNORECASE)
"""Some cameras expect the password in the path."""
_QUERY = re.compile(r"[?#].*$")


def _masked_url(url: str) -> str:
    """Mask the part of a URL after `://`."""
    found = _split_userinfo(url)
    shown = url if found is None else f"{found[0]}:***@{found[2]}"
    return _QUERY.sub(_masked_query, _IN_PATH.sub(r"\1***", shown))


def _masked_query(query: re.Match[str]) -> str:
    return re.sub(r"([?#&;])(?:([^?#&;=]*=)[^?#&;]*|[^?#&;=]+)", r"\1\2***", query[0])
