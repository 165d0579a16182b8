"""Who listens to a running engine."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from comemory.live.contract import Message

LONGEST_QUEUE = 1000


class Subscribers:
    """Queues of messages; nobody who listens slowly holds up who tells."""

    def __init__(self) -> None:
        self._queues: tuple[queue.Queue[Message], ...] = ()

    @contextmanager
    def subscribe(self) -> Iterator[queue.Queue[Message]]:
        """See `contract.EngineContract.subscribe`."""
        mine: queue.Queue[Message] = queue.Queue(LONGEST_QUEUE)
        self._queues = (*self._queues, mine)
        try:
            yield mine
        finally:
            self._queues = tuple(other for other in self._queues if other is not mine)

    def publish(self, message: Message) -> None:
        """Give a message to all; the oldest gives way where a queue is full."""
        for subscriber in self._queues:
            while True:
                try:
                    subscriber.put_nowait(message)
                    break
                except queue.Full:
                    with suppress(queue.Empty):
                        subscriber.get_nowait()
