"""Kill `comemory serve` at random moments while its disk fills and its database goes away, and count what was lost.

    python benchmarks/chaos.py --kills 50 --json chaos.json
    python benchmarks/chaos.py --kills 50 --database sqlite --json chaos-sqlite.json

A real `comemory serve` watches rendered cameras that show events all the time, with clips, in a folder on a small file
system in memory. Its events go to a real PostgreSQL (or to SQLite in that folder), its alerts to a real mosquitto and to a
webhook that fails now and then. Each life of the service lasts until a random moment, from before it listens to some
seconds after; then it is killed with SIGKILL. In some lives the file system is filled to its last block, in some the
database is killed, before the start or in the middle. The last life is left alone with an empty disk and a database until
everything is stored and sent, and is stopped with SIGTERM.

An event counts as reported if anybody outside saw it: a line of `events.jsonl`, a message to an open page, or an alert.

Results:
    kills, seconds               number of kills, and duration
    while_starting, disk_full, database_away, both
                                 kills before the service listened, and in each trouble
    events                       reported before a kill
    events_lost, events_twice    of those, not in the database at the end, and with more than one row
    events_left_open             in the database without an end
    alerts, alerts_pending       in the outbox, and of those neither sent nor muted
    webhook_missed, broker_missed
                                 events in the database of which the sink got no beginning, or no end
    duplicates                   alerts that the webhook got more than once, which is allowed
    media                        files of events that were seen at any kill
    media_deleted                of those, not in the folder at the end, nor in its quarantine
    clips_interrupted            clips that a kill interrupted, after their first fragment
    clips_deleted                of those, in neither
    clips_set_aside              in the quarantine, although their event is stored and has no other clip
    restart_misses               restarts after which an event of an earlier life was not stored within a minute
    exit_status, unstored        of the last life
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from alerts_under_kill import SECRET, Receiver
from live_system import REPOSITORY, Served, live_environment, mosquitto

from comemory.datasets import open_dataset
from comemory.errors import ComemoryError, RuntimeMissing, SourceError
from comemory.types import Frame
from comemory.video.writer import write_video

RATE_HZ, N_FRAMES, FIRST = 10.0, 100, 24
"""Frames of the rendered scene, and the first that is shown: half a second before its event."""
DISK_MIB = 48
"""Of the file system: some minutes of events."""
LIFE_S = 6.0
"""Longest life after the service listens."""
TROUBLE = 0.25
"""Share of the lives in which the disk is full, and in which the database is away."""
CHECKED = 0.3
"""Share of the lives without trouble in which the restart is checked before the kill."""
RESTART_S = 60.0
SETTLE_S = 180.0
CONFIG = """
model = "{model}"
workers = 1
{cameras}
[store]
url = "{url}"

[retention]
min_free_gb = 0

[events]
pre_capture_s = 0.5
post_capture_s = 0.5
max_duration_s = 1

[alerts.hook]
kind = "webhook"
url = "{hook}"
secret = "{secret}"
allow_private = true
kinds = ["new", "update", "end"]
timeout_s = 1

[alerts.broker]
kind = "mqtt"
host = "127.0.0.1"
port = {broker}
kinds = ["new", "update", "end"]
timeout_s = 1
"""
CAMERA = """
[cameras.{name}]
url = "{url}"
loop = true
fps = 5
false_alarms = "1/min"
"""
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Postgres:
    """A PostgreSQL server of its own that can be killed and started again.

    Attributes:
        url: of its database.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._data = folder, folder / "data"
        self._programs = _postgres_programs()
        self._as_owner: list[str] = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self._as_owner = ["runuser", "-u", "postgres", "--"]
        self.url = f"postgresql+psycopg://comemory@/postgres?host={folder}"
        options = ["-A", "trust", "-U", "comemory", "--no-sync", "-E", "UTF8"]
        self._run("initdb", "-D", str(self._data), *options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c fsync=off -c listen_addresses= -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-s", "-l", str(self._folder / "log"), "-o", options, "start")

    def kill(self) -> None:
        """End it at once, without a checkpoint, as a crash does."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-s", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_owner, str(self._programs / program), *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if subprocess.run(command, cwd=self._folder, check=False, **quiet).returncode != 0:  # type: ignore[call-overload]
            raise RuntimeMissing(f"{program} of PostgreSQL failed: see {self._folder / 'log'}")


def _postgres_programs() -> Path:
    found = shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        raise RuntimeMissing("PostgreSQL is not installed: run scripts/services")
    return places[-1]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that runs, and is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="comemory-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            with suppress(RuntimeMissing):
                server.kill()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory of `DISK_MIB`.

    Raises:
        RuntimeMissing: this account may not mount one.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0:
        raise RuntimeMissing("a small file system cannot be mounted: run this as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


class Trouble:
    """What is wrong with the machine now.

    Attributes:
        is_full: the disk is.
        is_away: the database is.
    """

    def __init__(self, disk: Path, database: Postgres | None) -> None:
        self.is_full = self.is_away = False
        self._filler, self._database = disk / "filler", database

    def set(self, *, full: bool, away: bool) -> None:
        """Fill or empty the disk, kill or start the database."""
        if full:
            self._fill()
        elif self.is_full:
            self._filler.unlink()
        if self._database is not None and away != self.is_away:
            (self._database.kill if away else self._database.start)()
        self.is_full, self.is_away = full, away and self._database is not None

    def _fill(self) -> None:
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))


class BrokerListener:
    """Notes the events of which a broker was told a beginning and an end."""

    def __init__(self, port: int) -> None:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self.notified: set[tuple[str, str]] = set()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe("comemory/events", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, _client: object, _data: object, message: Any) -> None:
        payload = json.loads(message.payload)
        self.notified.add((payload["after"]["id"], payload["kind"]))

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class Life:
    """One `comemory serve`, from its start to its kill."""

    def __init__(self, config: Path, out: Path, log: Path) -> None:
        self._log, self.seen = log, set[str]()
        command = [sys.executable, "-m", "comemory", "serve", "--config", str(config), "--out", str(out), "--port", "0"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._page: threading.Thread | None = None

    @property
    def port(self) -> int | None:
        """Of the page, once it listens; a service that ended by itself is an error.

        Raises:
            SourceError: it has ended.
        """
        text = self._log.read_text(encoding="utf-8", errors="replace")
        if self.process.poll() is not None:
            raise SourceError(f"comemory serve ended by itself with status {self.process.returncode}: {text[-2000:]}")
        found = re.search(r"the page is at http://[^:]+:(\d+)", text)
        return int(found[1]) if found else None

    def live(self, seconds: float) -> None:
        """Let it run for so long; its page is followed once it listens."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._follow()
            time.sleep(min(0.02, max(0.0, until - time.monotonic())))

    def wait_until_it_listens(self) -> None:
        """Wait for the page, and follow it.

        Raises:
            SourceError: it has ended, or does not listen in time.
        """
        until = time.monotonic() + 120
        while self.port is None:
            if time.monotonic() > until:
                raise SourceError("comemory serve does not listen after two minutes")
            time.sleep(0.05)
        self._follow()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self._page is not None:
            self._page.join(10)

    def _follow(self) -> None:
        if self._page is None and (port := self.port) is not None:
            running = Served(port, self.process, self._log)
            self._page = threading.Thread(target=self._read_messages, args=(running,), daemon=True)
            self._page.start()

    def _read_messages(self, running: Served) -> None:
        connection = running.connect()
        with suppress(OSError, HTTPException):
            connection.request("GET", "/api/v1/stream")
            answer = connection.getresponse()
            while line := answer.readline():
                if line.startswith(b"data:") and b'"change"' in line:
                    message = json.loads(line[5:])
                    self.seen.add(message["event"]["id"])
        connection.close()


@dataclass
class Seen:
    """What was seen from outside so far.

    Attributes:
        events: reported in any way.
        media: paths of files of events, relative to the media folder.
        clips: events whose clip a kill interrupted.
        counts: of the lives.
    """

    events: set[str] = field(default_factory=set)
    media: set[str] = field(default_factory=set)
    clips: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def collect(self, out: Path, life: Life, receiver: Receiver, listener: BrokerListener) -> None:
        """Take in what one life has shown and written."""
        self.events |= life.seen | {id for id, _ in receiver.notified | listener.notified}
        with suppress(FileNotFoundError):
            for line in (out / "events.jsonl").read_bytes().split(b"\n"):
                with suppress(ValueError, KeyError):
                    self.events.add(json.loads(line)["event"]["id"])
        media = out / "media"
        self.media |= {str(path.relative_to(media)) for path in _event_files(media)}
        clips = [path for path in (media / ".incoming").glob("*.mp4") if path.is_file()]
        self.clips |= {path.stem.removesuffix("-clip") for path in clips if path.stat().st_size > 2000}


def _event_files(media: Path) -> list[Path]:
    return [path for path in media.glob("[!.]*/*/*") if path.is_file() and path.suffix != ".json"]


def chaos(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all lives, and compare.

    Raises:
        SourceError: a life ended by itself.
        RuntimeMissing: PostgreSQL, mosquitto or the right to mount a file system is missing.
    """
    chance, began = random.Random(args.seed), time.monotonic()
    video = _render(folder / "video.mp4")
    seen = Seen()
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "disk"))
        database = stack.enter_context(postgres()) if args.database == "postgresql" else None
        broker = stack.enter_context(mosquitto())
        receiver = Receiver(args.seed, failing=0.2)
        stack.callback(receiver.close)
        listener = BrokerListener(broker)
        stack.callback(listener.close)
        out, trouble = disk / "live", Trouble(disk, database)
        url = database.url if database is not None else f"sqlite:///{out / 'events.db'}"
        cameras = "".join(CAMERA.format(name=f"camera-{k}", url=video) for k in range(1, args.cameras + 1))
        text = CONFIG.format(
            model=args.model.absolute(), cameras=cameras, url=url, hook=receiver.url, secret=SECRET, broker=broker
        )
        config = folder / "live.toml"
        config.write_text(text, encoding="utf-8")

        def collect(life: Life) -> None:
            seen.collect(out, life, receiver, listener)

        for number in range(args.kills):
            if number:  # the first start makes its files: without room for them it is refused
                trouble.set(full=chance.random() < TROUBLE, away=chance.random() < TROUBLE)
            life = Life(config, out, folder / "log")
            try:
                _live(life, chance, trouble, seen, url, is_first=number == 0)
            finally:
                life.kill()
            collect(life)
            if args.verbose:
                print(f"kill {number + 1}: {len(seen.events)} events, {dict(seen.counts)}", file=sys.stderr)
        trouble.set(full=False, away=False)
        life = Life(config, out, folder / "log")
        try:
            last = _settle(life, url, seen)
        finally:
            life.kill()
        collect(life)
        found = compare(url, out, seen, receiver, listener)
    return {"kills": args.kills, "seconds": round(time.monotonic() - began, 1), **seen.counts, **found, **last}


def _render(path: Path) -> Path:
    """A scene with an event from its first second on, played forwards and backwards."""
    source = open_dataset(f"synthetic:seed=5,frames={N_FRAMES},training=1,testing=1").testing()[0].source
    images = [frame.image for frame in source][FIRST:]  # type: ignore[union-attr]
    frames = (Frame(image, k / RATE_HZ, k) for k, image in enumerate(images + images[::-1]))
    write_video(frames, path, RATE_HZ)
    return path


def _live(life: Life, chance: random.Random, trouble: Trouble, seen: Seen, url: str, *, is_first: bool) -> None:
    """One life up to the moment of its kill."""
    known = set(seen.events)
    if chance.random() < 0.1 and not is_first:
        life.live(chance.random() * 4)
    else:
        life.wait_until_it_listens()
        if not (trouble.is_full or trouble.is_away) and chance.random() < CHECKED:
            seen.counts["restarts_checked"] += 1
            until = time.monotonic() + RESTART_S
            while known - _stored_ids(url).keys() and time.monotonic() < until:
                life.live(0.2)
            seen.counts["restart_misses"] += bool(known - _stored_ids(url).keys())
        life.live(chance.random() * LIFE_S)
        if chance.random() < TROUBLE:
            trouble.set(full=chance.random() < 0.5, away=chance.random() < 0.5)
            life.live(chance.random() * LIFE_S)
    seen.counts["while_starting"] += life.port is None
    name = {(True, True): "both", (True, False): "disk_full", (False, True): "database_away"}
    if key := name.get((trouble.is_full, trouble.is_away)):
        seen.counts[key] += 1


def _settle(life: Life, url: str, seen: Seen) -> dict[str, Any]:
    """Leave the service alone until all is stored and sent, then stop it."""
    life.wait_until_it_listens()
    known = set(seen.events)
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until and (known - _stored_ids(url).keys() or _n_pending(url, known)):
        life.live(0.5)
    life.process.terminate()
    status = life.process.wait(30)
    return {"exit_status": status}


def _stored_ids(url: str) -> Counter[str]:
    from sqlalchemy import select

    from comemory.store.database import Database
    from comemory.store.schema import events

    database = Database(url)
    try:
        with database.read() as connection:
            return Counter(connection.execute(select(events.c.id)).scalars())
    finally:
        database.close()


def _n_pending(url: str, of_events: set[str]) -> int:
    from sqlalchemy import select

    from comemory.store.database import Database
    from comemory.store.schema import outbox

    database = Database(url)
    try:
        with database.read() as connection:
            waiting = connection.execute(select(outbox.c.event_id).where(outbox.c.next_try.is_not(None))).scalars()
            return sum(id in of_events for id in waiting)
    finally:
        database.close()


def compare(url: str, out: Path, seen: Seen, receiver: Receiver, listener: BrokerListener) -> dict[str, Any]:
    """Compare the database, the media folder and both receivers with what was seen."""
    from sqlalchemy import select

    from comemory.store.database import Database
    from comemory.store.schema import events, files, outbox

    database = Database(url)
    with database.read() as connection:
        rows = connection.execute(select(events.c.id, events.c.camera, events.c.start, events.c.end)).all()
        clips = set(connection.execute(select(files.c.event_id).where(files.c.kind == "clip")).scalars())
        alerts = connection.execute(select(outbox.c.id, outbox.c.sink, outbox.c.next_try, outbox.c.failed_at)).all()
    database.close()
    stored = {row.id for row in rows}
    same_start = Counter((row.camera, row.start) for row in rows)
    media = out / "media"
    quarantined = {str(path.relative_to(media / ".quarantine")) for path in (media / ".quarantine").rglob("*")}
    present = {str(path.relative_to(media)) for path in _event_files(media)} | quarantined
    aside = {found[0] for name in quarantined if name.endswith(".mp4") and (found := ID.search(name))}
    left = json.loads(b"[" + b",".join(_waiting(media / ".write-ahead")) + b"]")
    return {
        "events": len(seen.events),
        "events_lost": len(seen.events - stored),
        "events_twice": sum(number - 1 for number in same_start.values()),
        "events_left_open": sum(row.end is None for row in rows),
        "alerts": len(alerts),
        "alerts_pending": sum(row.next_try is not None for row in alerts),
        "alerts_given_up": sum(row.failed_at is not None for row in alerts),
        "webhook_missed": len(_missed(stored, receiver.notified)),
        "broker_missed": len(_missed(stored, listener.notified)),
        "duplicates": sum(number > 1 for number in receiver.received.values()),
        "media": len(seen.media),
        "media_deleted": len(seen.media - present),
        "clips_interrupted": len(seen.clips),
        "clips_deleted": len(seen.clips - clips - aside),
        "clips_set_aside": len((seen.clips & stored & aside) - clips),
        "unstored": len(left),
    }


def _missed(stored: set[str], notified: set[tuple[str, str]]) -> set[str]:
    return {id for id in stored if not {(id, "new"), (id, "end")} <= notified}


def _waiting(write_ahead: Path) -> list[bytes]:
    return [line for line in write_ahead.read_bytes().partition(b"\0")[0].split(b"\n") if line]


def main() -> int:
    """Read the command line, run, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "synthetic-nano")
    parser.add_argument("--verbose", action="store_true", help="a line for each kill, on standard error")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    before = live_environment()
    folder = Path(tempfile.mkdtemp(prefix="comemory-chaos-"))
    try:
        found = chaos(args, folder)
    except ComemoryError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps({"database": args.database, "seed": args.seed, **found, "environment": before}, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
