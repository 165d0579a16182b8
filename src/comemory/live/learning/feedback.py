"""Verdicts of operators on events: in the store, or in a file without one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comemory.errors import ComemoryError, ConfigError
from comemory.files import file_lock, read_json_object, write_text
from comemory.store.event import StoredEvent, Verdict

if TYPE_CHECKING:
    from comemory.store.store import EventStore

_PAGE_SIZE = 500


class FeedbackStore:
    """Stores verdicts on events, and gives the signatures of those that are normal.

    Args:
        out: folder of `events.jsonl` and `verdicts.json`.
        store: the event store; None uses the two files.
    """

    def __init__(self, out: Path, store: EventStore | None) -> None:
        self.store = store
        self.path = out / "verdicts.json"
        self._events = out / "events.jsonl"

    def set_verdict(self, event_id: str, verdict: Verdict | None, by: str) -> str:
        """Store a verdict and return the event's camera.

        Raises:
            ConfigError: there is no such event.
            ComemoryError: the verdict cannot be written.
        """
        if self.store is not None:
            if self.store.get(event_id) is None:
                raise ConfigError(f"there is no event {event_id[:64]!r}")
            return self.store.set_verdict(event_id, verdict, by).camera
        event = self._find(event_id)
        with file_lock(self.path.parent):
            stored = _entries(read_json_object(self.path))
            if verdict is None:
                stored.pop(event_id, None)
            else:
                cells = list(event.cells or ())
                stored[event_id] = {"camera": event.camera, "verdict": verdict, "by": by, "cells": cells}
            write_text(self.path, json.dumps(stored) + "\n")
        return event.camera

    def set_verdicts(
        self, event_ids: Sequence[str], verdict: Verdict | None, by: str
    ) -> tuple[set[str], dict[str, str]]:
        """Store the same verdict on many events.

        Returns:
            The cameras of the events that have it; and for each event that has no new verdict, why not.
        """
        cameras: set[str] = set()
        errors: dict[str, str] = {}
        for event_id in event_ids:
            try:
                cameras.add(self.set_verdict(event_id, verdict, by))
            except ComemoryError as error:
                errors[event_id] = str(error)
        return cameras, errors

    def normal_signatures(self, camera: str) -> list[Sequence[float]]:
        """The signatures of the camera's events with the verdict `normal`."""
        if self.store is None:
            entries = [entry for entry in self._read().values() if entry.get("camera") == camera]
            return [entry["cells"] for entry in entries if entry.get("verdict") == "normal" and entry.get("cells")]
        found: list[Sequence[float]] = []
        before: str | None = None
        while True:
            page = self.store.page(camera=camera, verdict="normal", before=before, limit=_PAGE_SIZE)
            found += [event.cells for event in page if event.cells is not None]
            if len(page) < _PAGE_SIZE:
                return found
            before = page[-1].id

    def _find(self, event_id: str) -> StoredEvent:
        newest: dict[str, Any] | None = None
        with suppress(OSError), self._events.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if event_id in line:
                    newest = _event_of(line, event_id) or newest
        if newest is None:
            raise ConfigError(f"there is no event {event_id[:64]!r}")
        try:
            return StoredEvent.from_json(newest)
        except ComemoryError as error:
            raise ConfigError(f"the event {event_id[:64]!r} cannot be read: {error}") from None

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return _entries(stored) if isinstance(stored, dict) else {}


def _entries(stored: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {id_: entry for id_, entry in stored.items() if isinstance(entry, dict)}


def _event_of(line: str, event_id: str) -> dict[str, Any] | None:
    """The event in a line of `events.jsonl`; None if it is another one, or the line is incomplete."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    event = values.get("event") if isinstance(values, dict) else None
    return event if isinstance(event, dict) and event.get("id") == event_id else None
