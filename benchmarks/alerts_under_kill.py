"""Kill a process that stores events and sends alerts, again and again, and count what was lost.

    python benchmarks/alerts_under_kill.py --kills 50 --json alerts_under_kill.json
    python benchmarks/alerts_under_kill.py --kills 50 --url postgresql+psycopg://me@/events?host=/run/postgresql

A child process writes events with one image each (begin, update, attach, end), one after the other, and delivers their
alerts to a receiver that fails half of the time: it answers 500, or hangs up before or after it has taken the alert. The
child notes each event in a file once the store has committed it. It is killed with SIGKILL at a random moment and started
again; the last child delivers what is left in the outbox. Then the store, its folder and the receiver are compared with the
notes.

Results:
    kills, seconds              number of kills, and duration
    events                      noted as committed
    events_lost, images_lost    noted, but not in the store
    events_left_open            in the store without an end after the last start
    orphans, rows_without_file  files without a row and rows without a file after the last start
    alerts                      in the outbox, delivered or not
    alerts_lost                 of those, never received
    events_without_alert        in the store, but the receiver got no alert of its beginning or its end
    tries, refused              requests that the receiver got, and those that it failed
    duplicates                  alerts received more than once, which is allowed
    forged                      requests whose signature was wrong
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from comemory.errors import ComemoryError, StoreError

PAUSE_S = 0.02
SECRET = "not a secret: it is in the repository"


class Receiver:
    """An HTTP server that takes alerts and fails half of the time."""

    def __init__(self, seed: int, failing: float = 0.5) -> None:
        self.received: Counter[str] = Counter()
        self.notified: set[tuple[str, str]] = set()
        self.tries = self.refused = self.forged = 0
        self._random, self._lock, self._failing = random.Random(seed), threading.Lock(), failing
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        from comemory.alerts.webhook import is_signed_by

        length = int(request.headers["Content-Length"])
        body = request.rfile.read(length)
        if len(body) < length:
            return  # the sender was killed in the middle of the request
        genuine = is_signed_by(SECRET.encode(), dict(request.headers.items()), body)
        with self._lock:
            self.tries += 1
            self.forged += not genuine
            fails = self._random.random() < self._failing
            self.refused += fails
            way = self._random.choice(("500", "before", "after"))
            if not fails or way == "after":
                self._take(json.loads(body))
        if fails and way != "500":
            request.close_connection = True
            return
        request.send_response(500 if fails else 204)
        request.end_headers()

    def _take(self, payload: dict[str, Any]) -> None:
        self.received[payload["id"]] += 1
        self.notified.add((payload["after"]["id"], payload["kind"]))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def watch(url: str, folder: Path, receiver: str, finish: bool) -> None:
    """The child process: store events and deliver alerts until it is killed, or only deliver what is left."""
    from comemory.alerts.config import SinkSettings
    from comemory.alerts.dispatcher import Dispatcher
    from comemory.alerts.sink import open_sink
    from comemory.store.store import EventStore

    settings = {
        "kind": "webhook",
        "url": receiver,
        "secret": SECRET,
        "allow_private": True,
        "kinds": ["new", "update", "end"],
    }
    SinkSettings.retry_s, SinkSettings.retry_max_s = 0.02, 0.1
    quick = {"timeout_s": 0.5}
    with EventStore.open(url, folder / "media") as store:
        dispatcher = Dispatcher(store, [open_sink("receiver", settings | quick)], ["gate"])
        dispatcher.start()
        with (folder / "noted").open("a", encoding="ascii", buffering=1) as noted:
            while not finish:
                write_event(store, noted)
                time.sleep(PAUSE_S)
        while finish and dispatcher.health()["receiver"].pending:
            time.sleep(0.05)
        dispatcher.stop()


def write_event(store: Any, noted: Any) -> None:
    """Store one event from its beginning to its end."""
    from dataclasses import replace

    from comemory.store.store import StoredEvent, new_id

    now = datetime.now(UTC)
    event = StoredEvent(new_id(now), "gate", now, now, None, 2.0, 1.0, 1.0, (1, 2, 30, 40), (240, 360), "0" * 16, 1.5)
    store.begin(event)
    print(f"begun {event.id}", file=noted)
    image = store.scratch / f"{event.id}.jpg"
    image.write_bytes(random.randbytes(20_000))
    store.attach(event.id, "thumbnail", image)
    print(f"attached {event.id}", file=noted)
    store.update(replace(event, peak_score=3.0))
    store.end(replace(event, peak_score=3.0, end=datetime.now(UTC)))


def measure(n_kills: int, folder: Path, url: str, seed: int = 0) -> dict[str, Any]:
    """Kill the child and start it again, `n_kills` times, then compare."""
    chance, start = random.Random(seed), time.monotonic()
    receiver = Receiver(seed)
    child = [sys.executable, __file__, "--child", str(folder), "--url", url, "--receiver", receiver.url]
    try:
        for _ in range(n_kills):
            process = subprocess.Popen(child, stdin=subprocess.DEVNULL)
            if chance.random() < 0.9:
                _wait_for_more(folder / "noted", process)
            time.sleep(chance.random() * 0.5)
            if process.poll() is not None:
                raise StoreError(f"the child ended by itself with status {process.returncode}")
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run([*child, "--finish"], check=True, timeout=600)
        results = compare(url, folder, receiver)
    finally:
        receiver.close()
    return {"kills": n_kills, "seconds": round(time.monotonic() - start, 1), **results}


def _wait_for_more(noted: Path, process: subprocess.Popen[bytes]) -> None:
    before = noted.stat().st_size if noted.exists() else 0
    while process.poll() is None and (noted.stat().st_size if noted.exists() else 0) <= before:
        time.sleep(0.005)


def compare(url: str, folder: Path, receiver: Receiver) -> dict[str, Any]:
    """Compare the store, its folder and the receiver with the notes."""
    from sqlalchemy import select

    from comemory.store.database import Database
    from comemory.store.schema import events, files, outbox

    lines = (folder / "noted").read_text(encoding="ascii").split("\n")[:-1]
    noted = {act: {line.split()[1] for line in lines if line.startswith(act)} for act in ("begun", "attached")}
    media = folder / "media"
    present = {str(path.relative_to(media)) for path in media.glob("[!.]*/*/*") if path.suffix != ".json"}
    half_written = [path for path in (media / ".incoming").iterdir() if path.is_file()]
    database = Database(url)
    with database.read() as connection:
        stored = set(connection.execute(select(events.c.id)).scalars())
        left_open = connection.execute(select(events.c.id).where(events.c.end.is_(None))).all()
        rows = {row.path: row.event_id for row in connection.execute(select(files))}
        alerts = set(connection.execute(select(outbox.c.id)).scalars())
    database.close()
    return {
        "events": len(noted["begun"]),
        "events_lost": len(noted["begun"] - stored),
        "images_lost": len(noted["attached"] - set(rows.values())),
        "events_left_open": len(left_open),
        "orphans": len(present - rows.keys()) + len(half_written),
        "rows_without_file": len(rows.keys() - present),
        "alerts": len(alerts),
        "alerts_lost": len(alerts - receiver.received.keys()),
        "events_without_alert": len({id for id in stored if not {(id, "new"), (id, "end")} <= receiver.notified}),
        "tries": receiver.tries,
        "refused": receiver.refused,
        "duplicates": sum(number > 1 for number in receiver.received.values()),
        "forged": receiver.forged,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="of an empty database; a SQLite file in a temporary folder when not args")
    parser.add_argument("--json", type=Path, help="also write the results there")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--receiver", help=argparse.SUPPRESS)
    parser.add_argument("--finish", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        if args.child is not None:
            logging.disable(logging.WARNING)
            watch(args.url, args.child, args.receiver, args.finish)
            return 0
        from live_system import live_environment

        found = live_environment()
        with tempfile.TemporaryDirectory() as folder:
            results = measure(args.kills, Path(folder), args.url or f"{folder}/events.db", args.seed)
    except ComemoryError as error:
        print(f"alerts_under_kill: {error}", file=sys.stderr)
        return 1
    chosen = {"database": "postgresql" if args.url else "sqlite", "seed": args.seed}
    text = json.dumps({**chosen, **results, "environment": found}, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
