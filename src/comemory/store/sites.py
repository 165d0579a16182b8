"""The media folders of several processes that share one database: which there are, and which one an event belongs to."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from comemory.errors import SourceError, StoreError
from comemory.files import read_json_object, write_text
from comemory.store.media import MediaFolder

_NAME = re.compile(r"[0-9a-f]{32}")
REFRESH_S = 5.0
"""Seconds between two looks for new folders."""


ANNOUNCEMENT = "site.json"


class Sites:
    """The media folders `PARENT/*/media` on a shared path, and those that a process announces from elsewhere.

    May be called from any thread.

    Args:
        parent: holds a folder of each process.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._folders: dict[str, Path] = {}
        self._media: dict[str, MediaFolder] = {}
        self._looked_s = float("-inf")

    def folders(self) -> Mapping[str, Path]:
        """Site to media folder."""
        with self._lock:
            if time.monotonic() - self._looked_s >= REFRESH_S:
                self._looked_s = time.monotonic()
                self._folders |= dict(_found(self._parent))
            return dict(self._folders)

    def media(self, site: str) -> MediaFolder | None:
        """The media folder of a site; None for one that is not here."""
        folder = self.folders().get(site)
        if folder is None or _name_of(folder) != site:  # on the disk of another machine
            return None
        with self._lock, suppress(StoreError):
            if site not in self._media:
                self._media[site] = MediaFolder(folder, shared=True)
        return self._media.get(site)


def announce(folder: Path, site: str, media: Path) -> None:
    """Say where the media folder of a process is, which may be on a disk of its own.

    Args:
        folder: of the process, in the parent of `Sites`.
        site: name of the media folder.
        media: the folder, absolute.

    Raises:
        SourceError: it cannot be written.
    """
    write_text(folder / ANNOUNCEMENT, json.dumps({"site": site, "media": str(media)}) + "\n")


def _found(parent: Path) -> list[tuple[str, Path]]:
    """Name and path of each folder. One that cannot be read is left out."""
    found = {}
    for path in sorted(parent.glob(f"*/{ANNOUNCEMENT}")):
        with suppress(SourceError):
            said = read_json_object(path)
            name, media = said.get("site"), said.get("media")
            if isinstance(name, str) and _NAME.fullmatch(name) and isinstance(media, str):
                found[name] = Path(media)
    for path in sorted(parent.glob("*/media/.site")):
        if site := _name_of(path.parent):
            found[site] = path.parent
    return list(found.items())


def _name_of(media: Path) -> str | None:
    """The name in `.site` of a media folder; None where there is none."""
    with suppress(OSError, UnicodeDecodeError):
        name = (media / ".site").read_text(encoding="ascii").strip()
        return name if _NAME.fullmatch(name) else None
    return None
