"""Which camera made a recording, and when: read from its path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from comemory.errors import ConfigError

_PARTS = {
    "{camera}": r"(?P<camera>[^/]+?)",
    "%Y": r"(?P<year>\d{4})",
    "%m": r"(?P<month>\d{2})",
    "%d": r"(?P<day>\d{2})",
    "%H": r"(?P<hour>\d{2})",
    "%M": r"(?P<minute>\d{2})",
    "%S": r"(?P<second>\d{2})",
    "*": r"[^/]*",
}
_TOKEN = re.compile("|".join(re.escape(token) for token in _PARTS))

_UNKNOWN = re.compile(r"%[A-Za-z]|\{[^}]*\}?")
"""What looks like a part and is none."""

_DATE = r"(?P<year>(?:19|20)\d\d)[-_./]?(?P<month>[01]\d)[-_./]?(?P<day>[0-3]\d)"
_TIME = r"(?:[T _./-]*(?P<hour>[0-2]\d)[-_.:h]?(?P<minute>[0-5]\d)(?:[-_.:m]?(?P<second>[0-5]\d))?)?"
_GUESS = re.compile(rf"(?<!\d){_DATE}{_TIME}(?!\d)")


@dataclass(frozen=True, slots=True)
class RecordingPath:
    """What the path of a recording tells.

    Attributes:
        camera: its name.
        started_at: on the clock of the archive; None where the path has no date.
    """

    camera: str
    started_at: datetime | None


class Layout:
    """How the paths of an archive are made.

    Args:
        template: of the end of a path, with `{camera}`, `%Y`, `%m`, `%d`, `%H`, `%M`, `%S` and `*`. None guesses: the camera
            is the nearest folder with a letter in its name, the time a date with or without a time of day.

    Raises:
        ConfigError: the template cannot be used.

    >>> Layout("{camera}/%Y-%m-%d/%H%M%S.mp4").read("s3://b/gate/2026-03-14/120500.mp4")
    RecordingPath(camera='gate', started_at=datetime.datetime(2026, 3, 14, 12, 5))
    >>> Layout().read("/archive/2026/03/14/gate/12-05-00.mp4")
    RecordingPath(camera='gate', started_at=datetime.datetime(2026, 3, 14, 0, 0))
    """

    def __init__(self, template: str | None = None) -> None:
        self.template = template
        self._pattern: re.Pattern[str] | None = None
        if template is not None:
            self._pattern = _compile(template)

    def read(self, path: str) -> RecordingPath:
        """The camera and the start of the recording at a path or URL."""
        path = _plain_path(path)
        found = self._pattern.search(path) if self._pattern else _last(_GUESS, path)
        groups = found.groupdict() if found else {}
        return RecordingPath(groups.get("camera") or _nearest_folder(path), _time(groups))

    def fits(self, path: str) -> bool:
        """Whether a path ends as the template says; every path without one."""
        return self._pattern is None or self._pattern.search(_plain_path(path)) is not None


def _plain_path(path: str) -> str:
    """A path or URL as its folders are named: the path of a web address is encoded, and may have a query."""
    if not path.lower().startswith(("http://", "https://")):
        return path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc}{unquote(parts.path)}"


def _compile(template: str) -> re.Pattern[str]:
    pattern, end = "", 0
    for token in _TOKEN.finditer(template):
        pattern += re.escape(template[end : token.start()]) + _PARTS[token[0]]
        end = token.end()
    if unknown := _UNKNOWN.search(_TOKEN.sub("\0", template)):
        raise ConfigError(f"the layout {template!r} has {unknown[0]!r}: expected some of {', '.join(_PARTS)}")
    try:
        return re.compile(f"(?:^|/){pattern}{re.escape(template[end:])}$")
    except re.error:
        raise ConfigError(f"the layout {template!r} names a part twice: use each of {', '.join(_PARTS)} once") from None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match: the file's own date counts more than that of a folder above."""
    return max(pattern.finditer(text), key=lambda found: found.start(), default=None)


def _time(groups: dict[str, str | None]) -> datetime | None:
    if not groups.get("year"):
        return None
    try:
        return datetime(*(int(groups.get(part) or default) for part, default in _DEFAULTS.items()))  # type: ignore[arg-type]
    except ValueError:
        return None


_DEFAULTS = {"year": 0, "month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}


def _nearest_folder(path: str) -> str:
    """The nearest folder whose name has a letter; the file's own name without one."""
    folders = [
        part for part in PurePosixPath(path.partition("://")[2] or path).parent.parts if re.search("[A-Za-z]", part)
    ]
    return folders[-1] if folders else PurePosixPath(path).stem
