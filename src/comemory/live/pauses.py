"""Cameras that are not watched for a time, or send no alerts: set on the page, by the API or by MQTT; kept over a restart."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from comemory.errors import SourceError
from comemory.files import write_text

PauseKind = Literal["pause", "snooze"]
"""A paused camera is not watched at all; a snoozed one is watched, and its events make no alerts."""
KINDS: tuple[PauseKind, ...] = ("pause", "snooze")


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause or a snooze of one camera.

    Attributes:
        since: when it began, UTC.
        until: when it ends by itself, UTC; None for not before somebody ends it.
        by: who began it.
    """

    since: datetime
    until: datetime | None
    by: str


class Pauses:
    """The pauses of all cameras, in `pauses.json`. May be called from any thread.

    A file that cannot be read counts as empty: it is better to watch a camera than not to.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / "pauses.json"
        self._lock = threading.Lock()
        self._pauses: dict[PauseKind, dict[str, Pause]] = _read(self._path)

    def of_kind(self, kind: PauseKind) -> dict[str, Pause]:
        """The pauses of a kind, by camera."""
        return dict(self._pauses[kind])

    def get(self, kind: PauseKind, camera: str) -> Pause | None:
        """The pause of a camera; None where it has none."""
        return self._pauses[kind].get(camera)

    def to_json(self) -> dict[str, dict[str, dict[str, str | None]]]:
        """All of them in plain JSON: kind, then camera."""
        return {kind: {name: _plain(one) for name, one in found.items()} for kind, found in self._pauses.items()}

    def set(self, kind: PauseKind, camera: str, pause: Pause | None) -> None:
        """Begin a pause, or end one.

        Raises:
            SourceError: it cannot be stored; nothing has changed then.
        """
        with self._lock:
            self._store(self._changed(kind, camera, pause))

    def end_expired(self, kind: PauseKind, camera: str) -> None:
        """End a pause whose time is over, also where that cannot be stored: the next start finds that it is over."""
        with self._lock:
            changed = self._changed(kind, camera, None)
            with suppress(SourceError):
                self._store(changed)
            self._pauses = changed

    def retain(self, cameras: Collection[str]) -> None:
        """Forget all other cameras: a new one of the same name must not begin paused.

        Raises:
            SourceError: it cannot be stored; nothing has changed then.
        """
        with self._lock:
            kept = {kind: {name: one for name, one in self._pauses[kind].items() if name in cameras} for kind in KINDS}
            if kept != self._pauses:
                self._store(kept)

    def expired(self, now: datetime) -> list[tuple[PauseKind, str]]:
        """The pauses whose time is over."""
        return [
            (kind, name)
            for kind in KINDS
            for name, one in self.of_kind(kind).items()
            if one.until is not None and one.until <= now
        ]

    def _changed(self, kind: PauseKind, camera: str, pause: Pause | None) -> dict[PauseKind, dict[str, Pause]]:
        changed = {**self._pauses[kind], camera: pause}
        return {**self._pauses, kind: {name: one for name, one in changed.items() if one is not None}}

    def _store(self, pauses: dict[PauseKind, dict[str, Pause]]) -> None:
        plain = {kind: {name: _plain(one) for name, one in found.items()} for kind, found in pauses.items()}
        write_text(self._path, json.dumps(plain, indent=1) + "\n")
        self._pauses = pauses


def _plain(pause: Pause) -> dict[str, str | None]:
    until = None if pause.until is None else pause.until.isoformat()
    return {"since": pause.since.isoformat(), "until": until, "by": pause.by}


def _read(path: Path) -> dict[PauseKind, dict[str, Pause]]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {kind: {str(name): _pause(one) for name, one in stored.get(kind, {}).items()} for kind in KINDS}
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return {kind: {} for kind in KINDS}


def _pause(stored: Mapping[str, Any]) -> Pause:
    until = None if stored["until"] is None else _utc(stored["until"])
    return Pause(_utc(stored["since"]), until, str(stored["by"]))


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
