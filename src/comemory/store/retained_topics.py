"""What brokers keep of us after we have gone: retained topics, remembered so that they can be taken back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import ColumnElement, delete, insert, select

from comemory.store.database import Database
from comemory.store.schema import announced


class Announced:
    """The retained topics of one site, by sink and broker. May be called from any thread.

    Args:
        database: the store's.
        site: only rows of this media folder are seen: others may share database and broker.
    """

    def __init__(self, database: Database, site: str) -> None:
        self._database, self._site = database, site
        self._sinks: Sequence[str] = ()

    def route(self, sinks: Iterable[str]) -> None:
        """These are the sinks there are; what others left may be taken back by any that knows its broker."""
        self._sinks = tuple(sinks)

    def keep(self, sink: str, broker: str, topics: Iterable[str]) -> None:
        """Remember topics, before anything is published on them; those of a sink that is no more are taken over.

        Raises:
            StoreError: it cannot be written.
        """
        with self._database.write() as connection:
            known = select(announced.c.topic).where(self._of(broker), announced.c.sink == sink)
            new = sorted(set(topics) - set(connection.execute(known).scalars()))
            for topic in new:
                connection.execute(insert(announced).values(site=self._site, sink=sink, broker=broker, topic=topic))
            nobodys = announced.c.sink.not_in(self._sinks) & announced.c.topic.in_(new)
            connection.execute(delete(announced).where(self._of(broker), nobodys))

    def stale(self, sink: str, broker: str, wanted: Collection[str]) -> list[str]:
        """Topics that a sink, or one that is no more, has left on a broker, and that no sink wants now.

        Raises:
            StoreError: the database does not answer.
        """
        with self._database.read() as connection:
            asked = select(announced.c.sink, announced.c.topic).where(self._of(broker))
            rows = [(row.sink, row.topic) for row in connection.execute(asked)]
        others = {topic for name, topic in rows if name != sink and name in self._sinks}
        return sorted({topic for _, topic in rows} - others - set(wanted))

    def forget(self, broker: str, topic: str) -> None:
        """A topic was taken back.

        Raises:
            StoreError: it cannot be written.
        """
        with self._database.write() as connection:
            connection.execute(delete(announced).where(self._of(broker), announced.c.topic == topic))

    def left(self) -> dict[str, list[str]]:
        """Sinks that are no more, with the brokers that keep something of them.

        Raises:
            StoreError: the database does not answer.
        """
        found: dict[str, list[str]] = {}
        asked = select(announced.c.sink, announced.c.broker).where(
            announced.c.site == self._site, announced.c.sink.not_in(self._sinks)
        )
        with self._database.read() as connection:
            for row in connection.execute(asked.distinct()):
                found.setdefault(row.sink, []).append(row.broker)
        return found

    def _of(self, broker: str) -> ColumnElement[bool]:
        return (announced.c.site == self._site) & (announced.c.broker == broker)
