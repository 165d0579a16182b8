"""Let `comemory serve` run for long with everything switched on, and see whether it grows.

    python benchmarks/soak.py --minutes 30 --cameras 3 --json soak.json --plot soak.svg

A real `comemory serve` in a process of its own watches rendered films: all cameras but the last come from a real RTSP
server, whose films end every five minutes so that cameras are lost and found again; the last is a file as if live, in a
loop. Events are stored with pictures and clips, and alerts go to a receiver on this machine. One page is open: it follows
the live messages, asks for every camera's picture with its heat map once a second, and for events and metrics now
and then.

Every ten seconds the process is measured from outside. After a warm-up a straight line is fitted by least squares; its
standard error allows for samples that follow each other being alike (autocorrelation of the residuals at lag one).

Figures:
    slope_mib_per_hour, standard_error   of the resident memory, and of its anonymous part, which a leak would be in
    rss_mib, threads, files, ...         at the end of the warm-up, at the end, and the extremes in between
    scored, events, alerts, pictures     what was done meanwhile
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from bench_1080p import render
from live_system import REPOSITORY, Served, rtsp_server, served, surroundings
from numpy.typing import NDArray

from comemory.errors import ComemoryError, SourceError

SIZE, RATE_HZ, FILM_S = (240, 360), 10.0, 300.0
EVERY_S = 10.0
MIB = 2**20

CONFIG = """
model = "{model}"
workers = 1
{cameras}
[alerts.desk]
kind = "webhook"
url = "{receiver}"
allow_private = true
kinds = ["new", "update", "end", "state"]
state_delay_s = 0

[events]
pre_capture_s = 2
post_capture_s = 2
max_duration_s = 20
"""
CAMERA = """
[cameras.{name}]
url = "{url}"
fps = {fps}
loop = true
false_alarms = "1/min"
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment, from outside.

    Attributes:
        seconds: since the first.
        rss_mib, anonymous_mib: resident memory, and the part of it that belongs to no file.
        files: open ones, sockets included.
        database_mib, media_mib: on the disk; the database with its log.
    """

    seconds: float
    rss_mib: float
    anonymous_mib: float
    threads: int
    files: int
    database_mib: float
    media_mib: float


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through samples: its slope an hour, and the standard error of that."""

    slope_per_hour: float
    standard_error: float


def sample(pid: int, out: Path, began: float) -> Sample:
    """Look at a process of Linux and what it has written."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    kib = {name: int(told[name].split()[0]) for name in ("VmRSS", "RssAnon")}
    return Sample(
        round(time.monotonic() - began, 1),
        round(kib["VmRSS"] / 1024, 2),
        round(kib["RssAnon"] / 1024, 2),
        int(told["Threads"]),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        round(_bytes(out.glob("events.db*")) / MIB, 3),
        round(_bytes(out.glob("media/**/*")) / MIB, 3),
    )


def _bytes(paths: Iterator[Path]) -> int:
    n_bytes = 0
    for path in paths:
        with suppress(FileNotFoundError):
            n_bytes += path.stat().st_size
    return n_bytes


def fit(seconds: NDArray[np.float64], values: NDArray[np.float64]) -> Line:
    """Least squares; the error of the slope is widened by what neighbouring residuals have in common.

    >>> hours = np.arange(5) / 2
    >>> fit(hours * 3600, 3 + 2 * hours).slope_per_hour
    2.0
    """
    hours = seconds / 3600
    centred = hours - hours.mean()
    slope = float(centred @ values / (centred @ centred))
    residuals = values - values.mean() - slope * centred
    n, power = len(values), float(residuals @ residuals)
    if n < 3 or power == 0:
        return Line(round(slope, 4), 0.0 if n >= 3 else math.nan)
    alike = min(0.99, max(0.0, float(residuals[1:] @ residuals[:-1]) / power))
    error = math.sqrt(power / (n - 2) / float(centred @ centred) * (1 + alike) / (1 - alike))
    return Line(round(slope, 4), round(error, 4))


@contextmanager
def receiver() -> Iterator[tuple[str, list[int]]]:
    """A place that takes alerts; gives its URL, and a list whose only number counts them."""
    taken = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            taken[0] += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/alerts", taken
        server.shutdown()
        thread.join()


class PageClient:
    """What an open page asks of the server, without a browser.

    Attributes:
        messages, pictures: that have come.
        failures: requests that were not answered as they should be.
    """

    def __init__(self, running: Served, cameras: Sequence[str]) -> None:
        self.messages = self.pictures = self.failures = 0
        self._running, self._cameras = running, cameras
        self._leaving = threading.Event()
        self._threads = [threading.Thread(target=act, daemon=True) for act in (self._follow, self._look)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Leave."""
        self._leaving.set()
        for thread in self._threads:
            thread.join(20)

    def _follow(self) -> None:
        while not self._leaving.is_set():
            connection = self._running.connect()
            try:
                connection.request("GET", "/api/v1/stream")
                answer = connection.getresponse()
                while not self._leaving.is_set() and (line := answer.readline()):
                    self.messages += line.startswith(b"event:")
            except (OSError, HTTPException):
                self.failures += not self._leaving.wait(1.0)
            finally:
                connection.close()

    def _look(self) -> None:
        turn = 0
        while not self._leaving.wait(1.0):
            asked = [f"/api/v1/cameras/{name}/picture?heat=true" for name in self._cameras]
            asked += ["/api/v1/events?limit=20"] * (turn % 10 == 0) + ["/metrics", "/readyz"] * (turn % 15 == 0)
            for path in asked:
                try:
                    self.pictures += self._running.get(path).startswith(b"\xff\xd8")
                except (OSError, HTTPException):
                    self.failures += not self._leaving.is_set()
            turn += 1


def soak(minutes: float, n_cameras: int, fps: float, model: Path, folder: Path) -> tuple[list[Sample], dict[str, Any]]:
    """Let it run; gives the samples, and what was done meanwhile."""
    film = render(folder / "film.mp4", round(FILM_S * RATE_HZ), SIZE, RATE_HZ)
    names = [f"camera-{k}" for k in range(1, n_cameras + 1)]
    with rtsp_server(dict.fromkeys(names, film)) as url, receiver() as (address, taken):
        urls = [url(name) for name in names[:-1]] + [str(film)] if n_cameras > 1 else [url(names[0])]
        cameras = "".join(CAMERA.format(name=name, url=url, fps=fps) for name, url in zip(names, urls, strict=True))
        config = CONFIG.format(model=model.absolute(), cameras=cameras, receiver=address)
        with served(config, folder) as running:
            page = PageClient(running, names)
            began, samples = time.monotonic(), []
            while (left := began + 60 * minutes - time.monotonic()) > 0 or not samples:
                running.require_alive()
                samples.append(sample(running.pid, folder / "live", began))
                time.sleep(max(0.0, min(EVERY_S * len(samples) - samples[-1].seconds, left, EVERY_S)))
            samples.append(sample(running.pid, folder / "live", began))
            done = {**_done(running), "alerts": taken[0]}
            page.close()
        done |= {"messages": page.messages, "pictures": page.pictures, "unanswered": page.failures}
    return samples, done


def _done(running: Served) -> dict[str, Any]:
    cameras = running.api("/cameras")
    counts = running.api("/system")["events"]
    sums = {key: sum(camera[key] for camera in cameras) for key in ("frames", "scored", "reconnects")}
    return {
        **sums,
        "states": [camera["state"] for camera in cameras],
        "events": counts["events"],
        "files_kept": counts["files"],
    }


def figures(samples: Sequence[Sample], warm_up_s: float) -> dict[str, Any]:
    """The lines and extremes after the warm-up.

    Raises:
        SourceError: fewer than three samples follow it.
    """
    later = [one for one in samples if one.seconds >= warm_up_s]
    if len(later) < 3:
        raise SourceError(f"only {len(later)} samples follow a warm-up of {warm_up_s:g} s: let it run for longer")
    seconds = np.array([one.seconds for one in later])
    found: dict[str, Any] = {"samples": len(later)}
    for field in fields(Sample)[1:]:
        values = np.array([getattr(one, field.name) for one in later], np.float64)
        ends = {"first": values[0], "last": values[-1], "lowest": values.min(), "highest": values.max()}
        found[field.name] = {**ends, **asdict(fit(seconds, values))}
    return found


def plot(samples: Sequence[Sample], warm_up_s: float, path: Path) -> None:
    """Memory over the time, with the line."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    mpl.rcParams |= {"svg.hashsalt": "comemory", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    minutes = np.array([one.seconds for one in samples]) / 60
    for name, label, colour in (("rss_mib", "resident", "#0b5394"), ("anonymous_mib", "anonymous part", "#38761d")):
        values = np.array([getattr(one, name) for one in samples])
        later = minutes * 60 >= warm_up_s
        line = fit(minutes[later] * 60, values[later])
        told = f"{label}: {line.slope_per_hour:+.2f} ± {line.standard_error:.2f} MiB/h"
        axis.plot(minutes, values, ".", markersize=3, color=colour, label=told)
        middle = values[later].mean() + line.slope_per_hour * (minutes[later] - minutes[later].mean()) / 60
        axis.plot(minutes[later], middle, color=colour, linewidth=1)
    axis.axvspan(0, warm_up_s / 60, color="#eeeeee", zorder=0)
    axis.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), xlim=(0, minutes[-1]))
    axis.legend(frameon=False, fontsize="small", loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> int:
    """Read the command line, soak, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument(
        "--fps", type=float, default=2.0, help="frames a second that each camera has scored (default 2)"
    )
    parser.add_argument(
        "--warm-up", type=float, default=5.0, metavar="MINUTES", help="left out of the line (default 5)"
    )
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "synthetic-nano")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results and samples there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where the plot goes, .svg or .png")
    asked = parser.parse_args()
    if (
        asked.cameras < 1
        or asked.fps <= 0
        or asked.warm_up < 0
        or asked.minutes * 60 < asked.warm_up * 60 + 3 * EVERY_S
    ):
        parser.error("--cameras is 1 or more, --fps over 0, and --minutes half a minute more than --warm-up")
    before = surroundings()
    try:
        with tempfile.TemporaryDirectory(prefix="comemory-soak-") as folder:
            samples, done = soak(asked.minutes, asked.cameras, asked.fps, asked.model, Path(folder))
        found = figures(samples, 60 * asked.warm_up)
    except ComemoryError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    asked_for = {
        "minutes": asked.minutes,
        "cameras": asked.cameras,
        "asked_fps": asked.fps,
        "warm_up_min": asked.warm_up,
    }
    after = {"load_average_at_the_end": surroundings()["load_average"]}
    report = {**asked_for, "model": asked.model.name, "done": done, **found, "circumstances": {**before, **after}}
    text = json.dumps(report, indent=1)
    print(text)
    if asked.json is not None:
        series = {field.name: [getattr(one, field.name) for one in samples] for field in fields(Sample)}
        asked.json.write_text(f'{text[:-2]},\n "series": {json.dumps(series)}\n}}\n', encoding="utf-8")
    if asked.plot is not None:
        plot(samples, 60 * asked.warm_up, asked.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
