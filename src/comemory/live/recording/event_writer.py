"""Where events go: a line in `events.jsonl`, a row in the store, pictures and clips beside them; never in a worker's way."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from comemory.errors import ComemoryError
from comemory.store.event import FileKind, StoredEvent

if TYPE_CHECKING:
    from comemory.store.store import EventStore

LONGEST_RETRY_S = 30.0
Kept = Literal["store", "lines", "pictures", "clips"]
"""What is written, each of which may fail while the others go on."""


class Errands:
    """Work done elsewhere, in order, by one thread.

    Args:
        longest: errands that may wait; more are refused.
    """

    def __init__(self, name: str, longest: int = 10_000) -> None:
        self.name = name
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(longest)
        self.stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, errand: Callable[[], None]) -> bool:
        """Leave an errand; False where too many wait."""
        try:
            self._queue.put_nowait(errand)
        except queue.Full:
            return False
        return True

    def start(self) -> None:
        """Begin with what waits."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def revive(self) -> None:
        """Go on with the next errand where one ended the thread by a fault of its own."""
        if self._thread is not None and not self._thread.is_alive() and not self.stopping.is_set():
            self.start()

    @property
    def n_waiting(self) -> int:
        """Errands that wait."""
        return self._queue.qsize()

    def finish(self, timeout_s: float) -> bool:
        """Do what waits, then end; False where that takes longer than the time."""
        end = time.monotonic() + timeout_s
        self.revive()
        self.stopping.set()
        with suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        if self._thread is None:
            return True
        self._thread.join(max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (errand := self._queue.get()) is not None:
            errand()


class Journal:
    """Events as they change, for files and store.

    What the store cannot take now (a full disk, a database that is away) is tried again until it does, in order; what
    it never will is told and left out. The lines of `events.jsonl` do not wait for either.

    Attributes:
        trouble: what cannot be written, in one line, until it can again; empty when all can.

    Args:
        out: folder of `events.jsonl` and, without a store, of `media/`.
        store: None keeps events in files alone.
        on_trouble: called with each new `trouble`.
    """

    def __init__(self, out: Path, store: EventStore | None, on_trouble: Callable[[str], None]) -> None:
        self.out, self.store = out, store
        self.trouble = ""
        self._on_trouble = on_trouble
        self._errands = Errands("journal")
        self._lines = threading.Lock()
        self._troubles: dict[Kept, str] = {}
        self._telling = threading.Lock()

    @property
    def scratch(self) -> Path:
        """Where files may be written before they are attached."""
        return self.out / "media" / ".scratch" if self.store is None else self.store.scratch

    def start(self) -> None:
        """Begin to write."""
        self._errands.start()

    def revive(self) -> None:
        """See `Errands.revive`."""
        self._errands.revive()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits, then end; False where that takes longer than the time."""
        return self._errands.finish(timeout_s)

    def event(self, change: str, event: StoredEvent) -> None:
        """An event is `new`, has an `update`, or has come to its `end`."""
        self._line({"change": change, "time": _now(), "event": event.to_json()})
        if (store := self.store) is not None:
            act = {"new": store.begin, "update": store.update, "end": store.end}[change]
            self._later(lambda: act(event))

    def state(self, camera: str, state: str, message: str) -> None:
        """A camera's state has changed."""
        at = datetime.now(UTC)
        self._line({"change": "state", "time": _now(), "camera": camera, "state": state, "message": message})
        if (store := self.store) is not None:
            self._later(lambda: store.record_state(camera, state, message or None, at))

    def scores(self, camera: str, minute: datetime, maxima: list[float], model: str) -> None:
        """The highest scores of the parts of a minute that is over."""
        if (store := self.store) is not None:
            self._later(lambda: store.record_scores(camera, minute, maxima, model))

    def attach(
        self, event_id: str, kind: FileKind, make: Callable[[], Path], on_lost: Callable[[], None] = lambda: None
    ) -> bool:
        """Make a file and put it beside its event; False where too much waits.

        Args:
            on_lost: called where it cannot be kept, from whichever thread finds that out.
        """
        what: Kept = "clips" if kind == "clip" else "pictures"

        def errand() -> None:
            try:
                self._place(event_id, kind, make())
            except (ComemoryError, OSError) as error:
                self.tell(what, str(error))
                on_lost()
            else:
                self.tell(what, "")

        if self._submit(errand):
            return True
        on_lost()
        return False

    def tell(self, what: Kept, trouble: str) -> None:
        """Something cannot be written, and why; an empty line when it can again."""
        with self._telling:
            if trouble != self._troubles.get(what, ""):
                self._troubles[what] = trouble
                before, self.trouble = self.trouble, "; ".join(filter(None, dict.fromkeys(self._troubles.values())))
                if self.trouble != before:
                    self._on_trouble(self.trouble)

    def _place(self, event_id: str, kind: FileKind, path: Path) -> None:
        """Put a file beside its event; it goes where that fails, and is not missed where the event was deleted."""
        try:
            if self.store is not None:
                self.store.attach(event_id, kind, path)
            else:
                place = self.out / "media" / event_id / f"{kind}{path.suffix}"
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
        except (ComemoryError, OSError):
            with suppress(OSError):
                path.unlink()
            if self.store is None or self.store.get(event_id) is not None:
                raise

    def _later(self, act: Callable[[], object]) -> None:
        self._submit(lambda: self._insist(act))

    def _submit(self, errand: Callable[[], None]) -> bool:
        taken = self._errands.submit(errand)
        if not taken:
            self.tell("store", "the store does not keep up: too many changes wait, this one is in events.jsonl alone")
        return taken

    def _insist(self, act: Callable[[], object]) -> None:
        from comemory.store.database import is_passing

        pause_s = 0.5
        while True:
            try:
                act()
            except (ComemoryError, OSError, ValueError, ArithmeticError) as error:
                self.tell("store", str(error))
                if not is_passing(error) or self._errands.stopping.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            else:
                self.tell("store", "")
                return

    def _line(self, values: dict[str, object]) -> None:
        path = self.out / "events.jsonl"
        try:
            text = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
            with self._lines:
                _append(path, text.encode(errors="backslashreplace"))
        except (OSError, ValueError) as error:
            self.tell("lines", f"cannot write {path}: {getattr(error, 'strerror', None) or error}")
        else:
            self.tell("lines", "")


def _append(path: Path, line: bytes) -> None:
    """Append a line, whole or not at all; a line that a kill has torn stays apart from it."""
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            while line:
                line = line[file.write(line) :]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
