"""The audit log: logins, verdicts, deletions and changed settings, one JSON line each, readable by its owner alone."""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from comemory.store.event import iso

MAX_BYTES = 5_000_000
"""Some 30,000 entries; then the file becomes `audit.1.jsonl`, and the one before that is deleted."""
log = logging.getLogger(__name__)


class AuditLog:
    """Appends entries to a file. A full disk is logged and stops no request.

    Args:
        path: of the file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, action: str, by: str, client: str, target: str = "", value: object = None) -> None:
        """Add an entry.

        Args:
            action: such as `login`, `verdict`, `delete`, `zones`.
            by: name of the caller.
            client: address that the request came from.
            target: event or camera.
            value: what was set.
        """
        if self._path is None:
            return
        entry = {"time": iso(datetime.now(UTC)), "action": action, "by": by, "client": client, "target": target}
        line = json.dumps(entry if value is None else {**entry, "value": value}) + "\n"
        with self._lock:
            try:
                self._rotate(self._path)
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                with os.fdopen(descriptor, "ab", buffering=0) as file:
                    file.write(line.encode())
            except OSError as error:
                log.error("cannot write %s: %s", self._path, error.strerror or error)

    def _rotate(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            if path.stat().st_size > MAX_BYTES:
                path.replace(path.with_name(f"{path.stem}.1{path.suffix}"))
