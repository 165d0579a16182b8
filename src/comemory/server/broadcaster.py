"""Sends the messages of one engine to many browsers: scores four times a second, everything else at once."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from comemory.errors import ComemoryError, mask_password
from comemory.live.contract import EngineContract, Message
from comemory.server.schemas import camera_view, event_view
from comemory.store.event import StoredEvent
from comemory.store.store import EventStore
from comemory.types import JSON

SCORES_EVERY_S = 0.25
STATUS_EVERY_S = 2.0
FOLLOW_UP_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""After a message about an event, when it is read from the store again: its images and its clip are stored later."""
_ERRORS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a fault of the engine, the store or a file can raise: it is logged, and the messages go on."""
MAX_LISTENERS = 64
QUEUE_SIZE = 256
MAX_LOGGED_ERRORS = 100
log = logging.getLogger(__name__)


class TooManySubscribers(Exception):  # noqa: N818
    """Too many pages have subscribed."""


class EventFollower:
    """Recent events, read from the store again until their files are there."""

    def __init__(self, store: EventStore | None) -> None:
        self._store = store
        self._events: dict[str, tuple[JSON, list[float]]] = {}

    def track(self, event: JSON, now: float) -> JSON:
        """The event of a message, with what the store has of it; it is read again later."""
        shown = {**event, **(self._stored(event["id"]) or {})} if self._store is not None else event
        shown["end"] = event["end"] or shown["end"]
        self._events[event["id"]] = (shown, [now + wait_s for wait_s in FOLLOW_UP_S])
        return shown

    def changes(self, now: float) -> Iterator[JSON]:
        """Events whose files or verdict have changed since they were sent last."""
        for id, (shown, due) in list(self._events.items()):
            if not due:
                del self._events[id]
            elif due[0] <= now:
                del due[0]
                found = self._stored(id)
                if found is not None and found != shown:
                    self._events[id] = (found, due)
                    yield found

    def _stored(self, id: str) -> JSON | None:
        try:
            found = None if self._store is None else self._store.get(id)
        except ComemoryError:
            return None
        return None if found is None else event_view(found.to_json())


class Broadcaster:
    """Sends messages from the engine's thread to subscribers in the event loop.

    A subscriber that is too slow loses the oldest messages, never the newest.

    Attributes:
        is_closed: every subscriber was sent a message of the kind `end`, and returns at it.

    Args:
        engine: a running one.
        store: of its events; None where they are not stored in a database.
        learning: the trainings that run, as JSON; called with every status.
    """

    def __init__(self, engine: EngineContract, store: EventStore | None, learning: Callable[[], list[Any]]) -> None:
        self._engine, self._learning = engine, learning
        self._logged: set[str] = set()
        self._followed = EventFollower(store)
        self._listeners: set[asyncio.Queue[Message]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self.is_closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start sending; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="comemory-messages", daemon=True)
        self._thread.start()

    def close_streams(self) -> None:
        """Close all streaming responses after what they were sent before; called in the event loop."""
        self._stopping.set()
        self.is_closed = True
        self._deliver({"kind": "end"})

    def stop(self) -> None:
        """Stop; may be called without `start`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=0.5)

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[Message]]:
        """A queue of the messages from now on.

        Raises:
            TooManySubscribers: there are `N_LISTENERS` already.
        """
        if len(self._listeners) >= MAX_LISTENERS:
            raise TooManySubscribers
        waiting: asyncio.Queue[Message] = asyncio.Queue(QUEUE_SIZE)
        self._listeners.add(waiting)
        try:
            yield waiting
        finally:
            self._listeners.discard(waiting)

    def status(self) -> Message:
        """The present state of all cameras and trainings."""
        return {
            "kind": "status",
            "cameras": [camera_view(status) for status in self._engine.status()],
            "learning": self.learning(),
        }

    def learning(self) -> list[Any]:
        """The trainings that run; empty where that cannot be read."""
        try:
            return self._learning()
        except _ERRORS as error:
            self._log_once(error)
            return []

    def publish_event(self, event: StoredEvent, change: Literal["update", "delete"]) -> None:
        """Send that a person changed or deleted an event; may be called from any thread."""
        shown = event_view(event.to_json())
        self._send({"kind": "event", "camera": event.camera, "change": change, "event": shown})

    def _run(self) -> None:
        scores: dict[str, Message] = {}
        next_scores = next_status = time.monotonic()
        with self._engine.subscribe() as arriving:
            while not self._stopping.is_set():
                try:
                    with suppress(queue.Empty):
                        self._handle(arriving.get(timeout=SCORES_EVERY_S), scores)
                    now = time.monotonic()
                    for event in self._followed.changes(now):
                        self._send({"kind": "event", "camera": event["camera"], "change": "update", "event": event})
                    if scores and now >= next_scores:
                        self._send({"kind": "scores", "cameras": scores})
                        scores, next_scores = {}, now + SCORES_EVERY_S
                    if now >= next_status:
                        next_status = now + STATUS_EVERY_S
                        if self._listeners:
                            self._send(self.status())
                except _ERRORS as error:
                    self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        """Log why a message could not be sent, each cause once; later messages are sent."""
        text = f"{type(error).__name__}: {' '.join(mask_password(str(error)).split())}"
        if text not in self._logged and len(self._logged) < MAX_LOGGED_ERRORS:
            self._logged.add(text)
            log.error("a message to the page was lost: %s", text)

    def _handle(self, message: Message, scores: dict[str, Message]) -> None:
        """Collect the highest score of a short time; send everything else at once."""
        if message["kind"] != "score":
            if message["kind"] == "event":
                event = self._followed.track(event_view(message["event"]), time.monotonic())
                message = {**message, "event": event}
            self._send(message)
            return
        highest = scores.get(message["camera"])
        if highest is None or message["score"] >= highest["score"]:
            scores[message["camera"]] = {key: message[key] for key in ("time", "score", "threshold")}

    def _send(self, message: Message) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, message)

    def _deliver(self, message: Message) -> None:
        for waiting in self._listeners:
            if waiting.full():
                waiting.get_nowait()
            waiting.put_nowait(message)
