"""Run `comemory serve` for long with everything switched on, and measure whether its memory grows.

    python benchmarks/soak.py --minutes 30 --cameras 3 --json soak.json --plot soak.svg
    python benchmarks/soak.py --minutes 30 --cameras 4 --loss 0.02 --mqtt --json soak.json

A real `comemory serve` in its own process watches rendered videos. All cameras but the last come from a real RTSP server,
whose videos end every five minutes, so that cameras are lost and connected again; the last camera is a file that is played
in a loop. Events are stored with images and clips, and alerts go to a receiver on this machine. One page is open: it follows
the live messages, gets the image of every camera with its heat map once a second, and events and metrics now and then.
With `--loss`, a relay drops that share of the RTP packets of every RTSP camera; with `--mqtt`, alerts go to a mosquitto.

Every ten seconds the process is measured from outside. After a warm-up a straight line is fitted by least squares. Its
standard error takes into account that successive samples are correlated (autocorrelation of the residuals at lag one).

Results:
    slope_per_hour, standard_error       of the resident memory, and of its anonymous part, where a leak would show
    rss_mib, threads, files, ...         at the end of the warm-up, at the end, and the extremes in between
    scored, events, alerts, images       what was done meanwhile
    packets, packets_lost                of the relay; damaged pictures are those the cameras did not score
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from bench_1080p import render
from live_system import REPOSITORY, RTSP_SERVER, Served, live_environment, mosquitto, rtsp_server, served
from numpy.typing import NDArray

from comemory.errors import ComemoryError, SourceError

SIZE, RATE_HZ, VIDEO_S = (240, 360), 10.0, 300.0
EVERY_S = 10.0
MIB = 2**20

CONFIG = """
model = "{model}"
workers = 1
{cameras}
[alerts.desk]
{sink}
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
        rss_mib: resident memory.
        anonymous_mib: the part of it that belongs to no file.
        files: open files and sockets.
        database_mib: of the database and its log on the disk.
        media_mib: of the media folder on the disk.
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
    """A straight line through samples: its slope per hour, and the standard error of the slope."""

    slope_per_hour: float
    standard_error: float


def sample(pid: int, out: Path, began: float) -> Sample:
    """Measure a Linux process and what it has written."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    kib = {name: int(status[name].split()[0]) for name in ("VmRSS", "RssAnon")}
    return Sample(
        round(time.monotonic() - began, 1),
        round(kib["VmRSS"] / 1024, 2),
        round(kib["RssAnon"] / 1024, 2),
        int(status["Threads"]),
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
    """Fit a line by least squares; the error of the slope grows with the correlation of neighbouring residuals.

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
    correlation = min(0.99, max(0.0, float(residuals[1:] @ residuals[:-1]) / power))
    error = math.sqrt(power / (n - 2) / float(centred @ centred) * (1 + correlation) / (1 - correlation))
    return Line(round(slope, 4), round(error, 4))


@contextmanager
def receiver() -> Iterator[tuple[str, list[int]]]:
    """A server that takes alerts; gives the settings of its sink, and a list whose only number counts them."""
    taken = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            taken[0] += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/alerts"
        yield f'kind = "webhook"\nurl = "{url}"\nallow_private = true', taken
        server.shutdown()
        thread.join()


@contextmanager
def broker() -> Iterator[tuple[str, list[int]]]:
    """As `receiver`, with a mosquitto: counts the messages on its topics of events."""
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    taken = [0]

    def count(*_: object) -> None:
        taken[0] += 1

    with mosquitto() as port:
        listener = mqtt.Client(CallbackAPIVersion.VERSION2)
        listener.on_message = count
        listener.on_connect = lambda client, *_: client.subscribe("comemory/#", 1)
        listener.connect("127.0.0.1", port)
        listener.loop_start()
        yield f'kind = "mqtt"\nhost = "127.0.0.1"\nport = {port}', taken
        listener.disconnect()
        listener.loop_stop()


def with_keyframes(video: Path) -> Path:
    """The video with a keyframe a second, as cameras send them: what a lost packet damages lasts until the next one."""
    import av

    path = video.with_name("keyframes.mp4")
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=round(RATE_HZ), options={"tune": "zerolatency"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size = round(RATE_HZ)
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


@contextmanager
def lossy(url: Callable[[str], str], share: float) -> Iterator[tuple[Callable[[str], str], Any]]:
    """URLs of an RTSP server through a relay that drops a share of the packets of the video; None for no relay."""
    if not share:
        yield url, None
        return
    sys.path.insert(0, str(RTSP_SERVER.parent))
    from lossy_relay import LossyRelay

    relay = LossyRelay(urlsplit(url("any")).port or 0)
    relay.set_loss(drop_share=share)
    try:
        yield lambda name: relay.url(url(name)), relay
    finally:
        relay.close()


class PageClient:
    """What an open page asks of the server, without a browser.

    Attributes:
        messages: number of live messages received.
        images: number of images received.
        failures: number of requests without the expected answer.
    """

    def __init__(self, running: Served, cameras: Sequence[str]) -> None:
        self.messages = self.images = self.failures = 0
        self._running, self._cameras = running, cameras
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=act, daemon=True) for act in (self._follow, self._poll)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(20)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            connection = self._running.connect()
            try:
                connection.request("GET", "/api/v1/stream")
                answer = connection.getresponse()
                while not self._stopping.is_set() and (line := answer.readline()):
                    self.messages += line.startswith(b"event:")
            except (OSError, HTTPException):
                self.failures += not self._stopping.wait(1.0)
            finally:
                connection.close()

    def _poll(self) -> None:
        turn = 0
        while not self._stopping.wait(1.0):
            paths = [f"/api/v1/cameras/{name}/picture?heat=true" for name in self._cameras]
            paths += ["/api/v1/events?limit=20"] * (turn % 10 == 0) + ["/metrics", "/readyz"] * (turn % 15 == 0)
            for path in paths:
                try:
                    self.images += self._running.get(path).startswith(b"\xff\xd8")
                except (OSError, HTTPException):
                    self.failures += not self._stopping.is_set()
            turn += 1


def soak(args: argparse.Namespace, folder: Path) -> tuple[list[Sample], dict[str, Any]]:
    """Run it; gives the samples, and what was done meanwhile."""
    video = render(folder / "video.mp4", round(VIDEO_S * RATE_HZ), SIZE, RATE_HZ)
    video = with_keyframes(video) if args.loss else video
    names = [f"camera-{k}" for k in range(1, args.cameras + 1)]
    sink_at = broker if args.mqtt else receiver
    with ExitStack() as stack:
        direct = stack.enter_context(rtsp_server(dict.fromkeys(names, video)))
        url, relay = stack.enter_context(lossy(direct, args.loss))
        sink, taken = stack.enter_context(sink_at())
        urls = [url(name) for name in names[:-1]] + [str(video) if args.cameras > 1 else url(names[0])]
        cameras = "".join(
            CAMERA.format(name=name, url=url, fps=args.fps) for name, url in zip(names, urls, strict=True)
        )
        running = stack.enter_context(
            served(CONFIG.format(model=args.model.absolute(), cameras=cameras, sink=sink), folder)
        )
        page = PageClient(running, names)
        began, samples = time.monotonic(), []
        while (left := began + 60 * args.minutes - time.monotonic()) > 0 or not samples:
            running.require_alive()
            samples.append(sample(running.pid, folder / "live", began))
            time.sleep(max(0.0, min(EVERY_S * len(samples) - samples[-1].seconds, left, EVERY_S)))
        samples.append(sample(running.pid, folder / "live", began))
        done = {**_done(running), "alerts": taken[0]}
        page.close()
        done |= {"messages": page.messages, "images": page.images, "unanswered": page.failures}
        if relay is not None:
            done |= {"packets": relay.n_packets, "packets_lost": relay.n_lost}
    return samples, done


def _done(running: Served) -> dict[str, Any]:
    cameras = running.api("/cameras")
    counts = running.api("/system")["events"]
    sums = {
        key: sum(camera[key] for camera in cameras) for key in ("frames", "scored", "lost", "damaged", "reconnects")
    }
    return {
        **sums,
        "states": [camera["state"] for camera in cameras],
        "events": counts["events"],
        "files_stored": counts["files"],
    }


def summarise(samples: Sequence[Sample], warm_up_s: float) -> dict[str, Any]:
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
    """Plot the memory over time, with the fitted line."""
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
        legend = f"{label}: {line.slope_per_hour:+.2f} ± {line.standard_error:.2f} MiB/h"
        axis.plot(minutes, values, ".", markersize=3, color=colour, label=legend)
        middle = values[later].mean() + line.slope_per_hour * (minutes[later] - minutes[later].mean()) / 60
        axis.plot(minutes[later], middle, color=colour, linewidth=1)
    axis.axvspan(0, warm_up_s / 60, color="#eeeeee", zorder=0)
    axis.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), xlim=(0, minutes[-1]))
    axis.legend(frameon=False, fontsize="small", loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> int:
    """Read the command line, measure, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--fps", type=float, default=2.0, help="frames per second to score of each camera (default 2)")
    parser.add_argument(
        "--warm-up", type=float, default=5.0, metavar="MINUTES", help="time before the fitted line begins (default 5)"
    )
    parser.add_argument("--loss", type=float, default=0.0, metavar="SHARE", help="of RTP packets to drop (default 0)")
    parser.add_argument("--mqtt", action="store_true", help="send alerts to a mosquitto instead of a webhook")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "synthetic-nano")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results and samples there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where the plot goes, .svg or .png")
    args = parser.parse_args()
    if args.cameras < 1 or args.fps <= 0 or args.warm_up < 0 or args.minutes * 60 < args.warm_up * 60 + 3 * EVERY_S:
        parser.error("--cameras is 1 or more, --fps over 0, and --minutes half a minute more than --warm-up")
    before = live_environment()
    try:
        with tempfile.TemporaryDirectory(prefix="comemory-soak-") as folder:
            samples, done = soak(args, Path(folder))
        found = summarise(samples, 60 * args.warm_up)
    except ComemoryError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    asked_for = {
        "minutes": args.minutes,
        "cameras": args.cameras,
        "asked_fps": args.fps,
        "packet_loss": args.loss,
        "sink": "mqtt" if args.mqtt else "webhook",
        "warm_up_min": args.warm_up,
    }
    after = {"load_average_at_the_end": live_environment()["load_average"]}
    report = {**asked_for, "model": args.model.name, "done": done, **found, "environment": {**before, **after}}
    text = json.dumps(report, indent=1)
    print(text)
    if args.json is not None:
        series = {field.name: [getattr(one, field.name) for one in samples] for field in fields(Sample)}
        args.json.write_text(f'{text[:-2]},\n "series": {json.dumps(series)}\n}}\n', encoding="utf-8")
    if args.plot is not None:
        plot(samples, 60 * args.warm_up, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
