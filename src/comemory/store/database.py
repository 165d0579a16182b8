"""The database under the store: opened, brought up to date, and its errors told in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from comemory.errors import ConfigError, RuntimeMissing, StoreError, StoreFull, last_line, mask_password

VERSION_TABLE = "comemory_version"
BUSY_S = 20.0
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "journal_size_limit=16777216")
CACHE_KIB = 512
"""Of SQLite, for each connection: what it has read of a database that grows, it keeps up to there. The system has it too."""
_FULL_IN_SQLITE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP}
)
_FULL_IN_POSTGRES = "53100"
_MIGRATION_LOCK = 0x636F6D656D


class Database:
    """A SQLite file or a PostgreSQL database, with the newest schema.

    Args:
        url: `sqlite:///PATH`, a bare path, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.

    Attributes:
        shown: the URL with its password masked.
        trouble: why the last transaction failed, None after one that worked.

    Raises:
        ConfigError: the URL is of another kind.
        RuntimeMissing: PostgreSQL is asked for and psycopg is not installed.
        StoreError: it cannot be opened, or is newer than this program.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self.shown = mask_password(parsed.render_as_string(hide_password=False))
        self.trouble: str | None = None
        self._is_full = False
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._writing = threading.Lock() if self.is_sqlite else nullcontext()
        self._engine = _engine(parsed)
        try:
            with self._told("opened"), self._engine.connect() as connection:
                _migrate(connection, self.shown)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading.

        Raises:
            StoreError: the database does not answer.
        """
        with self._told("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, or nothing of it is there.

        Raises:
            StoreError: it could not be committed.
            StoreFull: because the disk is full.
        """
        with self._told("written"), self._writing, self._engine.connect() as connection:
            if self._is_full and self.is_sqlite:
                self._shorten_log(connection)
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection
        self.trouble, self._is_full = None, False

    def close(self) -> None:
        self._engine.dispose()

    def _shorten_log(self, connection: Connection) -> None:
        """Give SQLite's log back to a full disk: it grows with every transaction, with those that delete too."""
        driver = connection.connection.driver_connection
        if driver is not None:
            with suppress(sqlite3.Error):
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    @contextmanager
    def _told(self, act: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            kind = StoreFull if is_full(error) else StoreError
            text = f"the store {self.shown} cannot be {act}: {_reason(error)}"
            if act == "written":
                self.trouble, self._is_full = text, kind is StoreFull
            raise kind(text) from error


def parse_url(url: str) -> URL:
    """The URL of a store's database; a bare path is a SQLite file.

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


def is_passing(error: BaseException) -> bool:
    """Whether what was refused may be taken later: a full disk, a lock, a database that is away; not a wrong value."""
    if isinstance(error, StoreError):
        cause = error.__cause__
        lost = getattr(cause, "connection_invalidated", False)
        return lost or isinstance(cause, (OperationalError, InterfaceError, InternalError, NoConnectionError))
    return isinstance(error, OSError)


def _reason(error: SQLAlchemyError) -> str:
    if is_full(error):
        return "its disk is full; free space or lower the retention"
    origin = getattr(error, "orig", None) or error
    return last_line(origin) if isinstance(origin, BaseException) else str(origin)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
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
            "pip install 'comemory[postgres]'"
        ) from error


def _sqlite(url: URL) -> Engine:
    folder = Path(url.database or ".").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the store's folder {folder}: {error.strerror or error}") from None
    engine = create_engine(url, connect_args={"timeout": BUSY_S, "isolation_level": None}, pool_size=5, max_overflow=20)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in (*PRAGMAS, f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrate(connection: Connection, shown: str) -> None:
    """Run the migrations that are missing, one process at a time."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    connection = connection.execution_options(writes=True)
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        present = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads()
        strangers = sorted(set(present) - known)
        if strangers:
            raise StoreError(
                f"the store {shown} has schema {strangers[0]}, which is newer than this comemory knows "
                f"(up to {max(known)}): update comemory, or open another store"
            )
        attributes: dict[Any, Any] = config.attributes
        attributes.update(connection=connection, version_table=VERSION_TABLE)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(f"the store {shown} cannot be brought up to date: {last_line(error)}") from error
