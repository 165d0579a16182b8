"""One engine's messages to many browsers: scores four times a second, everything else at once."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from comemory.stream.contract import EngineContract, Message
from comemory.web.schemas import camera_view, event_view

SCORES_EVERY_S = 0.25
STATUS_EVERY_S = 2.0
N_LISTENERS = 64
N_WAITING = 256


class TooManyListeners(Exception):  # noqa: N818
    """More pages listen than there is room for."""


class Messages:
    """Passes messages on from the engine's thread to the listeners of the event loop.

    A listener that is too slow loses the oldest messages, never the newest.

    Args:
        engine: a running one.
        learning: what is known of trainings that go on, as JSON; asked with every status.
    """

    def __init__(self, engine: EngineContract, learning: Callable[[], list[Any]]) -> None:
        self._engine, self.learning = engine, learning
        self._listeners: set[asyncio.Queue[Message]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to pass on; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="comemory-messages", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; may be called where it never began."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Message]]:
        """A queue of messages, beginning with the state of things.

        Raises:
            TooManyListeners: there are `N_LISTENERS` already.
        """
        if len(self._listeners) >= N_LISTENERS:
            raise TooManyListeners
        waiting: asyncio.Queue[Message] = asyncio.Queue(N_WAITING)
        self._listeners.add(waiting)
        try:
            yield waiting
        finally:
            self._listeners.discard(waiting)

    def status(self) -> Message:
        """How everything is, now."""
        return {
            "kind": "status",
            "cameras": [camera_view(status) for status in self._engine.status()],
            "learning": self.learning(),
        }

    def _run(self) -> None:
        scores: dict[str, Message] = {}
        next_scores = next_status = time.monotonic()
        with self._engine.subscribe() as arriving:
            while not self._stopping.is_set():
                try:
                    message = arriving.get(timeout=SCORES_EVERY_S)
                    self._take(message, scores)
                except queue.Empty:
                    pass
                now = time.monotonic()
                if scores and now >= next_scores:
                    self._send({"kind": "scores", "cameras": scores})
                    scores, next_scores = {}, now + SCORES_EVERY_S
                if now >= next_status:
                    next_status = now + STATUS_EVERY_S
                    if self._listeners:
                        self._send(self.status())

    def _take(self, message: Message, scores: dict[str, Message]) -> None:
        """Keep the highest score of a short time; send all else on."""
        if message["kind"] != "score":
            shown = event_view(message["event"]) if message["kind"] == "event" else None
            self._send({**message, "event": shown} if shown else message)
            return
        held = scores.get(message["camera"])
        if held is None or message["score"] >= held["score"]:
            scores[message["camera"]] = {key: message[key] for key in ("time", "score", "threshold")}

    def _send(self, message: Message) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, message)

    def _deliver(self, message: Message) -> None:
        for waiting in self._listeners:
            if waiting.full():
                waiting.get_nowait()
            waiting.put_nowait(message)
