"""A real PostgreSQL, a real broker, and stores in real databases."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stored import Clock, free_port, wait_until

from comemory.store.store import EventStore


def _postgres_program(name: str) -> Path | None:
    found = shutil.which(name)
    places = [Path(found).resolve()] if found else sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return places[-1] if places else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Empties the database of a PostgreSQL of our own, and gives its URL."""
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install '.[postgres]'")
    initdb, server = _postgres_program("initdb"), _postgres_program("postgres")
    if initdb is None or server is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="comemory-pg-"))
    as_owner: list[str] = []
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_owner = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    made = [*as_owner, str(initdb), "-D", str(data), "-A", "trust", "-U", "comemory", "--no-sync", "-E", "UTF8"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    quick = ["-c", "fsync=off", "-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
    command = [*as_owner, str(server), "-D", str(data), *quick]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)

    def connect() -> Any:
        return psycopg.connect(host=str(folder), user="comemory", dbname="postgres", autocommit=True)

    def answers() -> bool:
        try:
            connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def database() -> str:
        with closing(connect()) as administrator:
            administrator.execute("DROP SCHEMA public CASCADE")
            administrator.execute("CREATE SCHEMA public")
        return f"postgresql+psycopg://comemory@/postgres?host={folder}"

    try:
        wait_until(answers, 60)
        yield database
    finally:
        postmaster = int((data / "postmaster.pid").read_text(encoding="ascii").split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'events.db'}"
    made: str = request.getfixturevalue("postgres")()
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, tmp_path: Path, clock: Clock) -> Iterator[EventStore]:
    """An empty store in each kind of database."""
    with EventStore.open(url, tmp_path / "media", clock=clock) as opened:
        yield opened


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store in SQLite, with the time of day."""
    with EventStore.open(str(tmp_path / "events.db"), tmp_path / "media") as opened:
        yield opened


class Broker:
    """A mosquitto that can be stopped and started again.

    Args:
        program: its path.
        folder: for its files.
        access: the lines of its settings that say who may connect.
    """

    def __init__(self, program: str, folder: Path, access: str = "allow_anonymous true\n") -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{access}", encoding="utf-8")
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([self._program, "-c", str(self._config)], **quiet)
        wait_until(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Stop it as a machine that hangs does: connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


def _mosquitto() -> str:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("needs mosquitto: apt-get install mosquitto")
    return program


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = Broker(_mosquitto(), tmp_path)
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def guarded_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that lets in the user `home` with the password `right` only."""
    program, passwords = _mosquitto(), tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "home", "right"], check=True, capture_output=True)
    # Started by root, mosquitto becomes a user who cannot read the folder of the test.
    owner = "user root\n" if os.getuid() == 0 else ""
    started = Broker(program, tmp_path, f"allow_anonymous false\npassword_file {passwords}\n{owner}")
    started.start()
    try:
        yield started
    finally:
        started.stop()
