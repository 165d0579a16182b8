"""Delivers the messages of a running engine to its subscribers."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from comemory.live.contract import Message

MAX_QUEUED = 1000
"""Messages that may wait for one subscriber: more than a minute of scores of a camera."""


class MessageBus:
    """One bounded queue per subscriber; a slow subscriber never blocks the publisher."""

    def __init__(self) -> None:
        self._queues: tuple[queue.Queue[Message], ...] = ()

    @contextmanager
    def subscribe(self) -> Iterator[queue.Queue[Message]]:
        """See `contract.EngineContract.subscribe`."""
        mine: queue.Queue[Message] = queue.Queue(MAX_QUEUED)
        self._queues = (*self._queues, mine)
        try:
            yield mine
        finally:
            self._queues = tuple(other for other in self._queues if other is not mine)

    def publish(self, message: Message) -> None:
        """Put a message into all queues; a full queue drops its oldest message."""
        for subscriber in self._queues:
            while True:
                try:
                    subscriber.put_nowait(message)
                    break
                except queue.Full:
                    with suppress(queue.Empty):
                        subscriber.get_nowait()
