"""The database of the store: SQLite or PostgreSQL, its migrations, and its errors as `StoreError`."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from comemory.errors import ConfigError, RuntimeMissing, StoreError, StoreFull, install_hint, last_line, mask_password
from comemory.files import check_writable_folder
from comemory.store.schema import events

VERSION_TABLE = "comemory_version"
BUSY_S = 20.0
"""How long SQLite waits for a lock of another process, such as a backup, before a write fails."""
REOPEN_S = 2.0
"""Shortest time between two attempts to open a database that was away at the start."""
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "journal_size_limit=16777216")
CACHE_KIB = 512
"""SQLite's page cache for each connection. It is small since the system caches the file too, and there are many."""
_FULL_IN_SQLITE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP}
)
_FULL_IN_POSTGRES = "53100"
_MIGRATION_LOCK = 0x636F6D656D


class StoreUnavailable(StoreError):  # noqa: N818
    """The database was away at the start, and the next attempt to open it is not due yet."""


class Database:
    """A SQLite file or a PostgreSQL database, migrated to the newest schema.

    Args:
        url: `sqlite:///PATH`, a bare path, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.
        may_be_away: a database that cannot be reached now is no error: it is opened by the first access that can.
        on_open: called once it is open.

    Attributes:
        safe_url: the URL with its password masked.
        error: why the last transaction failed; None after one that worked.

    Raises:
        ConfigError: the URL is of another kind.
        RuntimeMissing: the URL names PostgreSQL and psycopg is not installed.
        StoreError: it cannot be opened, or is newer than this program.
    """

    def __init__(self, url: str, *, may_be_away: bool = False, on_open: Callable[[], None] = lambda: None) -> None:
        parsed = parse_url(url)
        self.safe_url = safe_url_of(parsed)
        self.error: str | None = None
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._on_open = on_open
        self._is_full = self._is_open = False
        self._opening, self._next_attempt = threading.RLock(), 0.0
        self._writing = threading.Lock() if self.is_sqlite else nullcontext()
        self._engine = _engine(parsed)
        try:
            self._ensure_open()
        except StoreError as error:
            if not (may_be_away and is_temporary(error)):
                self.close()
                raise
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it was reached, and has the newest schema."""
        return self._is_open

    def _ensure_open(self) -> None:
        """Migrate the schema at the first access that reaches the database.

        Raises:
            StoreError: it cannot be reached.
        """
        if not self._is_open:
            with self._opening:
                self._open()

    def _open(self) -> None:
        if self._is_open:
            return
        if time.monotonic() < self._next_attempt:
            raise StoreUnavailable(self.error or f"the store {self.safe_url} cannot be opened")
        self._next_attempt = time.monotonic() + REOPEN_S
        with self._translated_errors("opened"), self._engine.connect() as connection:
            _migrate(connection, self.safe_url)
        self._is_open, self.error = True, None
        self._on_open()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading.

        Raises:
            StoreError: the database does not answer.
        """
        self._ensure_open()
        with self._translated_errors("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, or rolled back as a whole.

        Raises:
            StoreError: it could not be committed.
            StoreFull: because the disk is full.
        """
        self._ensure_open()
        with self._translated_errors("written"), self._writing, self._engine.connect() as connection:
            if self._is_full and self.is_sqlite:
                self._truncate_log(connection)
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection
        self.error, self._is_full = None, False

    def check(self) -> list[str]:
        """What SQLite finds wrong with its file, at most 20 lines; nothing for PostgreSQL.

        Raises:
            StoreError: the database does not answer.
        """
        if not self.is_sqlite:
            return []
        with self.read() as connection:
            lines = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all()
        return [str(line) for line in lines if line != "ok"]

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self._engine.dispose()

    def _truncate_log(self, connection: Connection) -> None:
        """Free the space of SQLite's write-ahead log on a full disk: even a transaction that deletes makes it grow."""
        driver = connection.connection.driver_connection
        if driver is not None:
            with suppress(sqlite3.Error):
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    @contextmanager
    def _translated_errors(self, act: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            kind = StoreFull if is_full(error) else StoreError
            text = f"the store {self.safe_url} cannot be {act}: {_reason(error)}"
            if act != "read":
                self.error, self._is_full = text, kind is StoreFull
            raise kind(text) from error


def count_events(url: str) -> int | None:
    """The number of events in a database; None where it is not there yet, or empty. Nothing is made or migrated.

    Args:
        url: see `Database`.

    Raises:
        ConfigError: the URL is of another kind, or the folder of the file cannot be written.
        RuntimeMissing: the URL names PostgreSQL and psycopg is not installed.
        StoreError: it cannot be opened, or is newer than this program.
    """
    parsed = parse_url(url)
    safe_url = safe_url_of(parsed)
    if parsed.get_backend_name() == "sqlite":
        file = Path(parsed.database or "")
        check_writable_folder(file.parent)
        if not file.exists() or not file.stat().st_size:
            return None
        if not os.access(file, os.R_OK | os.W_OK):
            raise StoreError(f"cannot write the store {file}: permission denied")
    engine = _engine(parsed, may_change=False)
    try:
        with engine.connect() as connection, connection.begin():
            if not _schema(connection, safe_url, _known_schemas(_migrations())):
                return None
            return int(connection.execute(select(func.count()).select_from(events)).scalar_one())
    except SQLAlchemyError as error:
        raise StoreError(f"the store {safe_url} cannot be opened: {_reason(error)}") from error
    finally:
        engine.dispose()


def safe_url_of(url: URL) -> str:
    """The URL of a database with its password masked."""
    return mask_password(url.render_as_string(hide_password=False))


def parse_url(url: str) -> URL:
    """The URL of a database; a bare path is a SQLite file.

    Raises:
        ConfigError: it is of another kind.

    >>> parse_url("events.db").database
    'events.db'
    >>> parse_url("postgresql://me@host/events").drivername
    'postgresql+psycopg'
    """
    expected = "expected a path, sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
    if "://" not in url:
        if not url.strip() or "\0" in url:
            raise ConfigError(f"the store's URL is {url!r}: {expected}")
        return URL.create("sqlite", database=url)
    try:
        parsed = make_url(url)
        port = parsed.port
    except (ArgumentError, ValueError):
        raise ConfigError(f"cannot read the store's URL {mask_password(url)!r}: {expected}") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg") or (port is not None and not 0 < port < 65536):
        raise ConfigError(f"cannot use the store's URL {mask_password(url)!r}: {expected}")
    if parsed.drivername == "sqlite" and (parsed.database or ":memory:") == ":memory:":
        raise ConfigError(f"the store's URL {url!r} names no file: {expected}")
    return parsed


def is_full(error: SQLAlchemyError) -> bool:
    """Whether a database failed because its disk is full."""
    origin = getattr(error, "orig", None)
    if isinstance(origin, sqlite3.Error):
        return getattr(origin, "sqlite_errorcode", None) in _FULL_IN_SQLITE
    return getattr(origin, "sqlstate", None) == _FULL_IN_POSTGRES


def is_temporary(error: BaseException) -> bool:
    """Whether a failed write may work later: after a full disk, a lock or an absent database, not with a wrong value."""
    if isinstance(error, (StoreUnavailable, StoreFull)):
        return True
    if isinstance(error, StoreError):
        cause = error.__cause__
        is_lost = getattr(cause, "connection_invalidated", False)
        return is_lost or isinstance(cause, (OperationalError, InterfaceError, InternalError, NoConnectionError))
    return isinstance(error, OSError)


def _reason(error: SQLAlchemyError) -> str:
    if is_full(error):
        return "its disk is full; free space or lower the retention"
    origin = getattr(error, "orig", None) or error
    return last_line(origin) if isinstance(origin, BaseException) else str(origin)


def _engine(url: URL, *, may_change: bool = True) -> Engine:
    if url.get_backend_name() == "sqlite":
        if may_change:
            _make_file(url)
        return _sqlite(url, PRAGMAS if may_change else ())
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=20,
            connect_args={
                "connect_timeout": 5,
                "application_name": "comemory",
                "options": "-c timezone=UTC -c lock_timeout=20000 -c statement_timeout=60000",
            },
        )
    except ImportError as error:
        raise RuntimeMissing(
            f"the store {url.render_as_string()} needs psycopg, which does not load ({last_line(error)}): "
            f"{install_hint('postgres')}"
        ) from error


def _make_file(url: URL) -> None:
    folder = Path(url.database or ".").parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (file := Path(url.database or "")).exists():
            file.touch(mode=0o600)  # SQLite would make it readable for all; its log takes the mode of the file
    except OSError as error:
        if folder.is_dir():
            raise StoreError(f"cannot write the store {url.database}: {error.strerror or error}") from None
        raise StoreError(f"cannot make the folder of the store {folder}: {error.strerror or error}") from None


def _sqlite(url: URL, pragmas: Sequence[str]) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_S, "isolation_level": None}, pool_size=5, max_overflow=20)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in (*pragmas, f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrate(connection: Connection, safe_url: str) -> None:
    """Run the migrations that are missing, one process at a time."""
    config = _migrations()
    known = _known_schemas(config)
    connection = connection.execution_options(writes=True)
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        _schema(connection, safe_url, known)
        attributes: dict[Any, Any] = config.attributes
        attributes.update(connection=connection, version_table=VERSION_TABLE)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(f"the store {safe_url} cannot be brought up to date: {last_line(error)}") from error


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _known_schemas(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _schema(connection: Connection, safe_url: str, known: Set[str]) -> tuple[str, ...]:
    """The schema of a database; empty for one without our tables.

    Raises:
        StoreError: it is newer than this program.
    """
    present = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads()
    unknown = sorted(set(present) - known)
    if unknown:
        raise StoreError(
            f"the store {safe_url} has schema {unknown[0]}, which this comemory does not know "
            f"(it knows up to {max(known)}): update comemory, or open another store"
        )
    return present
