"""Topics that MQTT brokers retain for us, remembered so that they can be removed when a camera or sink is gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import ColumnElement, delete, insert, select

from comemory.store.database import Database
from comemory.store.schema import retained_topics


class RetainedTopics:
    """The retained topics of one site, by sink and broker. May be called from any thread.

    Args:
        database: the store's.
        site: only rows of this media folder are used: others may share database and broker.
    """

    def __init__(self, database: Database, site: str) -> None:
        self._database, self._site = database, site
        self._sinks: Sequence[str] = ()

    def set_sinks(self, sinks: Iterable[str]) -> None:
        """The sinks of the settings. The topics of other sinks may be removed by any sink that uses their broker."""
        self._sinks = tuple(sinks)

    def remember(self, sink: str, broker: str, topics: Iterable[str]) -> None:
        """Remember topics, before anything is published on them. Topics of a former sink are taken over.

        Raises:
            StoreError: it cannot be written.
        """
        with self._database.write() as connection:
            known = select(retained_topics.c.topic).where(self._of(broker), retained_topics.c.sink == sink)
            new = sorted(set(topics) - set(connection.execute(known).scalars()))
            for topic in new:
                connection.execute(
                    insert(retained_topics).values(site=self._site, sink=sink, broker=broker, topic=topic)
                )
            orphaned = retained_topics.c.sink.not_in(self._sinks) & retained_topics.c.topic.in_(new)
            connection.execute(delete(retained_topics).where(self._of(broker), orphaned))

    def stale(self, sink: str, broker: str, needed: Collection[str]) -> list[str]:
        """Topics on a broker, of this sink or a former one, that no sink needs now.

        Raises:
            StoreError: the database does not answer.
        """
        with self._database.read() as connection:
            query = select(retained_topics.c.sink, retained_topics.c.topic).where(self._of(broker))
            rows = [(row.sink, row.topic) for row in connection.execute(query)]
        others = {topic for name, topic in rows if name != sink and name in self._sinks}
        return sorted({topic for _, topic in rows} - others - set(needed))

    def forget(self, broker: str, topic: str) -> None:
        """Forget a topic that was removed from the broker.

        Raises:
            StoreError: it cannot be written.
        """
        with self._database.write() as connection:
            connection.execute(delete(retained_topics).where(self._of(broker), retained_topics.c.topic == topic))

    def orphaned(self) -> dict[str, list[str]]:
        """Former sinks, with the brokers that still retain topics of them.

        Raises:
            StoreError: the database does not answer.
        """
        found: dict[str, list[str]] = {}
        query = select(retained_topics.c.sink, retained_topics.c.broker).where(
            retained_topics.c.site == self._site, retained_topics.c.sink.not_in(self._sinks)
        )
        with self._database.read() as connection:
            for row in connection.execute(query.distinct()):
                found.setdefault(row.sink, []).append(row.broker)
        return found

    def _of(self, broker: str) -> ColumnElement[bool]:
        return (retained_topics.c.site == self._site) & (retained_topics.c.broker == broker)
