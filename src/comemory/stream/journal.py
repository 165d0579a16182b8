"""Where events go: a line in `events.jsonl`, a row in the store, pictures and clips beside them; never in a worker's way."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from comemory.errors import ComemoryError
from comemory.events.event import FileKind, StoredEvent

if TYPE_CHECKING:
    from comemory.events.store import EventStore

LONGEST_RETRY_S = 30.0


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

    What the store refuses (a full disk, a database that is away) is tried again until it takes it, in order; the lines
    of `events.jsonl` do not wait for that.

    Args:
        out: folder of `events.jsonl` and, without a store, of `media/`.
        store: None keeps events in files alone.
        on_trouble: called with one line when something cannot be written, with an empty one when it can again.
    """

    def __init__(self, out: Path, store: EventStore | None, on_trouble: Callable[[str], None]) -> None:
        self.out, self.store = out, store
        self.trouble = ""
        self._on_trouble = on_trouble
        self._errands = Errands("journal")
        self._lines = threading.Lock()

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

    def attach(self, event_id: str, kind: FileKind, make: Callable[[], Path]) -> None:
        """Make a file and put it beside its event."""

        def errand() -> None:
            path = make()
            if self.store is not None:
                self.store.attach(event_id, kind, path)
            else:
                place = self.out / "media" / event_id / f"{kind}{path.suffix}"
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)

        self._later(errand, retry=False)

    def _later(self, act: Callable[[], object], retry: bool = True) -> None:
        if not self._errands.submit(lambda: self._insist(act, retry)):
            self._tell("the store does not keep up: too many changes wait, this one is in events.jsonl alone")

    def _insist(self, act: Callable[[], object], retry: bool) -> None:
        pause_s = 0.5
        while True:
            try:
                act()
            except (ComemoryError, OSError) as error:
                self._tell(str(error))
                if not retry or self._errands.stopping.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            else:
                self._tell("")
                return

    def _line(self, values: dict[str, object]) -> None:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            with self._lines, (self.out / "events.jsonl").open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self._tell(f"cannot write {self.out / 'events.jsonl'}: {error.strerror or error}")

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_trouble(trouble)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
