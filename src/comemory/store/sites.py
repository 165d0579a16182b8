"""The media folders of several processes that share one database: which there are, and which one an event belongs to."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from comemory.errors import StoreError
from comemory.store.media import MediaFolder

REFRESH_S = 5.0
"""Seconds between two looks for new folders."""


class Sites:
    """The media folders `PARENT/*/media` on a shared path. May be called from any thread.

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
        if folder is None:
            return None
        with self._lock, suppress(StoreError):
            if site not in self._media:
                self._media[site] = MediaFolder(folder, shared=True)
        return self._media.get(site)


def _found(parent: Path) -> list[tuple[str, Path]]:
    """The name in `.site` of each folder. One that cannot be read is left out."""
    found = []
    for path in sorted(parent.glob("*/media/.site")):
        with suppress(OSError, UnicodeDecodeError):
            name = path.read_text(encoding="ascii").strip()
            if re.fullmatch(r"[0-9a-f]{32}", name):
                found.append((name, path.parent))
    return found
