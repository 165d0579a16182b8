"""Opening a store: URLs, migrations, databases that are newer, damaged or away, and full disks."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from stored import make_event

from comemory.errors import ConfigError, StoreError
from comemory.store.database import VERSION_TABLE, Database, parse_url
from comemory.store.schema import events, metadata
from comemory.store.store import EventStore


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            " ",
            "sqlite://",
            "sqlite:///:memory:",
            "mysql://me@host/x",
            "postgresql://h:99999/x",
            "http://x",
            "a\0b",
            "://",
            "sqlite+aiosqlite:///x",
        ],
    )
    def test_urls_of_other_kinds_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigError, match="expected a path"):
            parse_url(url)

    def test_a_password_is_never_shown(self) -> None:
        with pytest.raises(ConfigError) as failure:
            parse_url("mysql://me:hunter2@host/events")
        assert "hunter2" not in str(failure.value)

    @given(st.text(max_size=40))
    @settings(max_examples=50, deadline=None)
    def test_any_text_is_read_or_refused(self, url: str) -> None:
        try:
            assert parse_url(url).get_backend_name() in ("sqlite", "postgresql")
        except ConfigError:
            return


TABLES_OF_SCHEMA_2 = {"events", "files", "verdicts", "states", "scores", "outbox", "announced"}
EVENT_COLUMNS_OF_SCHEMA_2 = {
    "id",
    "site",
    "camera",
    "start",
    "peak",
    "end",
    "updated",
    "peak_score",
    "appearance",
    "motion",
    "box",
    "height",
    "width",
    "model",
    "threshold",
    "verdict",
    "suppressed",
    "cells",
}


class TestMigrations:
    def test_they_lead_to_the_schema_of_the_code(self, url: str) -> None:
        database = Database(url)
        with database.read() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table": VERSION_TABLE, "compare_type": _types_differ}
            )
            differences = compare_metadata(context, metadata)
        database.close()
        assert differences == []

    def test_opening_again_changes_nothing(self, url: str) -> None:
        for _ in range(2):
            Database(url).close()

    def test_scores_of_schema_2_go_to_the_folder_of_their_camera(self, url: str, tmp_path: Path) -> None:
        with EventStore.open(url, tmp_path / "one") as one, EventStore.open(url, tmp_path / "two") as two:
            one.record_state("gate", "live")
            two.begin(make_event(camera="yard"))
        later_columns = [column.name for column in events.columns if column.name not in EVENT_COLUMNS_OF_SCHEMA_2]
        later_tables = [table.name for table in metadata.sorted_tables if table.name not in TABLES_OF_SCHEMA_2]
        steps = (
            *(f"ALTER TABLE events DROP COLUMN {name}" for name in later_columns),
            "ALTER TABLE files DROP COLUMN uploaded",
            *(f"DROP TABLE {name}" for name in later_tables),
            "DROP TABLE scores",
            "CREATE TABLE scores (camera VARCHAR(200) NOT NULL, minute BIGINT NOT NULL, model VARCHAR(64) NOT NULL, "
            "peak FLOAT NOT NULL, maxima {bytes} NOT NULL, PRIMARY KEY (camera, minute))",
            "CREATE INDEX scores_by_minute ON scores (minute)",
            *(
                f"INSERT INTO scores VALUES ('{name}', 60000000, 'm', 1.5, {{part}})"
                for name in ("gate", "yard", "gone")
            ),
            f"UPDATE {VERSION_TABLE} SET version_num = '0002'",
        )
        database = Database(url)
        kinds = ("BLOB", "x'0000c03f'") if database.is_sqlite else ("BYTEA", "'\\x0000c03f'::bytea")
        with database.write() as connection:
            for step in steps:
                connection.exec_driver_sql(step.format(bytes=kinds[0], part=kinds[1]))
        database.close()
        since = datetime(1970, 1, 1, tzinfo=UTC)
        with EventStore.open(url, tmp_path / "one") as one, EventStore.open(url, tmp_path / "two") as two:
            found = [[store.score_summary(name, since).minutes for name in ("gate", "yard")] for store in (one, two)]
            assert found == [[1, 0], [0, 1]]
            assert one.score_summary("gate", since).maxima.tolist() == [1.5]

    def test_a_newer_database_is_refused(self, url: str, tmp_path: Path) -> None:
        database = Database(url)
        with database.write() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        database.close()
        with pytest.raises(StoreError, match=r"schema 9999, which this comemory does not know .* update comemory"):
            EventStore.open(url, tmp_path / "media")
        with pytest.raises(StoreError, match="9999"):
            EventStore.open(url, tmp_path / "media")

    def test_two_processes_open_a_new_database_at_once(self, url: str) -> None:
        code = "import sys; from comemory.store.database import Database; Database(sys.argv[1]).close()"
        started = [subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE) for _ in range(2)]
        assert [(process.communicate(timeout=60)[1], process.returncode) for process in started] == [(b"", 0)] * 2


def _types_differ(*seen: object) -> bool | None:
    """Times are whole numbers in the database; all else is compared as it is."""
    _, _, _, database_type, code_type = seen
    return (
        None if type(code_type).__name__ != "Moment" else type(database_type).__name__ not in ("BIGINT", "BigInteger")
    )


class TestErrors:
    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "events.db"
        path.write_bytes(b"this is no database at all" * 100)
        with pytest.raises(StoreError, match="not a database"):
            Database(str(path))

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match="cannot make the folder of the store"):
            Database(str(tmp_path / "file" / "events.db"))
        with pytest.raises(StoreError, match="cannot use the media folder"):
            EventStore.open(str(tmp_path / "events.db"), tmp_path / "file" / "media")

    def test_tables_of_someone_else(self, tmp_path: Path) -> None:
        path = tmp_path / "events.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE events (a int)")
        connection.close()
        with pytest.raises(StoreError, match="already exists"):
            Database(str(path))

    def test_a_server_that_is_away(self) -> None:
        pytest.importorskip("psycopg", reason="needs psycopg: pip install '.[postgres]'")
        with pytest.raises(StoreError) as failure:
            Database("postgresql://me:hunter2@127.0.0.1:1/events")
        assert "hunter2" not in str(failure.value)
        assert "\n" not in str(failure.value)

    def test_a_server_that_comes_back(self, postgres: Callable[[], str], tmp_path: Path) -> None:
        url = postgres()
        with EventStore.open(url, tmp_path / "media") as store:
            event = make_event()
            store.begin(event)
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = :name"
            other = Database(url)
            with other.read() as connection:
                connection.execute(text(cut), {"name": url.partition("@/")[2].partition("?")[0]})
            other.close()
            assert store.get(event.id) is not None


FILL = """
    import json, signal, sys
    from dataclasses import replace
    from datetime import UTC, datetime, timedelta
    from pathlib import Path
    from comemory.errors import StoreFull
    from comemory.store.store import EventStore, StoredEvent, new_id

    folder, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    now = datetime(2026, 3, 2, tzinfo=UTC)

    def make(k):
        at = now + timedelta(seconds=k)
        return StoredEvent(new_id(at), "gate", at, at, None, 1.0, 1.0, 1.0, None, (2, 3), "m", 0.5, cells=(0.123456789,) * 300)

    with EventStore.open(str(folder / "events.db"), folder / "media") as store:
        errors, begun = [], []
        for k in range(5000):
            event = make(k)
            try:
                store.begin(event)
                begun.append(event.id)
                source = scratch / f"{k}.jpg"
                source.write_bytes(bytes(30000))
                store.attach(event.id, "clip", source)
                store.end(replace(event, end=event.start))
            except StoreFull as error:
                errors.append(str(error))
                assert store.error == str(error)
                if len(errors) == 3:
                    break
        full = store.error
        free_before = store.counts().free_bytes
        swept = store.sweep(now, None, None, free_before + 1_000_000)
        again = make(9000)
        store.begin(again)
        store.end(replace(again, end=again.start))
        missing = [id for id in begun if store.get(id) is None]
        page = {event.id for event in store.page(limit=500)}
        print(json.dumps({"errors": errors, "full": full, "after": store.error, "swept": swept.files, "begun": len(begun),
                          "missing": len(missing), "deleted": swept.events, "there": again.id in page}))
"""


class TestFullDisk:
    def test_it_is_reported_and_a_sweep_makes_room(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip("needs the right to mount a small tmpfs")
        try:
            command = [sys.executable, "-c", textwrap.dedent(FILL), str(disk), str(tmp_path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            seen = json.loads(done.stdout)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        assert len(seen["errors"]) == 3
        assert all("disk is full; free space or lower the retention" in line for line in seen["errors"])
        assert seen["full"] == seen["errors"][-1]
        assert seen["after"] is None
        assert seen["swept"] > 5
        assert seen["missing"] == seen["deleted"]
        assert seen["there"]

    def test_a_file_that_may_not_grow(self, tmp_path: Path) -> None:
        code = """
            import resource, sys
            from datetime import UTC, datetime
            from pathlib import Path
            from comemory.errors import StoreFull
            from comemory.store.store import EventStore
            with EventStore.open(sys.argv[1] + "/events.db", Path(sys.argv[1]) / "media") as store:
                resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
                try:
                    for k in range(100_000):
                        store.record_state("gate", str(k), "x" * 10_000)
                except StoreFull as error:
                    first = error
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                store.record_state("gate", "after")
                print(first, "|", k > 5, store.error, store.states(limit=1)[0].state)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ,
        )
        assert done.returncode == 0, done.stderr
        assert "its disk is full; free space" in done.stdout
        assert done.stdout.strip().endswith("| True None after")
