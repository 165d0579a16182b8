"""How many 640x360 cameras at 25 frames per second `comemory serve` sustains, from RTSP to the event on the page.

    python benchmarks/live_load.py --model models/ped2-small --fps 5 --json load.json

The number of cameras rises, and each number gets a new `comemory serve` in its own process. A real RTSP server on the same
machine sends one rendered video to all of them; it copies packets and takes a few percent of a core. A number of cameras is
sustained if, over `--seconds` after a warm-up,
    at least `--share` of the frames that are due are scored, for every camera,
    99 of 100 frames are scored within a second, by the server's own histogram, and
    every event reaches a listener of the live messages within a second after the frame that began it.
A number that is not sustained is tried once more. The false-alarm budget is high, so that there are events.

Results of each step come from the status of the cameras and from `/metrics`, as differences between two readings.
`seconds_p50` and `seconds_p99` are bounds of the histogram's buckets; `latency_ms_p99` is that of the worst camera since its
start.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bench_1080p import RATE_HZ, render
from live_system import REPOSITORY, Served, live_environment, rtsp_server, served

from comemory.errors import ComemoryError, SourceError

SIZE = (360, 640)
LIMIT_S = 1.0
SETTLE_S, READY_S = 8.0, 90.0

CONFIG = """
model = "{model}"
{workers}
{cameras}
[events]
max_duration_s = 10
"""
CAMERA = """
[cameras.{name}]
url = "{url}"
fps = {fps}
false_alarms = "{budget}"
"""


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of a server at one moment.

    Attributes:
        cameras: the status of each, by name.
        buckets: frames scored within a time, by its bound in seconds.
        cpu_s: of the process.
    """

    at: float
    cameras: Mapping[str, Mapping[str, Any]]
    buckets: Mapping[float, float]
    cpu_s: float


def read_counters(running: Served) -> Counters:
    """Read the counters of a server."""
    from prometheus_client.parser import text_string_to_metric_families

    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(running.get("/metrics").decode()):
        for one in family.samples:
            if one.name == "comemory_latency_seconds_bucket":
                bound = float(one.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + one.value
    words = Path(f"/proc/{running.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    cpu_s = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    cameras = {camera["name"]: camera for camera in running.api("/cameras")}
    return Counters(time.monotonic(), cameras, buckets, cpu_s)


class Listener(threading.Thread):
    """Follows the live messages, and measures how long after its frame the beginning of each event arrives.

    Attributes:
        delays_s: from the time of the frame at the peak to the arrival of the message.
    """

    def __init__(self, running: Served) -> None:
        super().__init__(daemon=True)
        self.delays_s: list[float] = []
        self._running, self._stopping = running, threading.Event()
        self.start()

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        self.join(10)

    def run(self) -> None:
        connection = self._running.connect()
        try:
            connection.request("GET", "/api/v1/stream")
            answer = connection.getresponse()
            while not self._stopping.is_set() and (line := answer.readline()):
                if line.startswith(b"data:"):
                    self._record(json.loads(line.removeprefix(b"data:")))
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()

    def _record(self, message: Mapping[str, Any]) -> None:
        if message["kind"] == "event" and message["change"] == "new":
            peak = datetime.fromisoformat(message["event"]["peak"])
            self.delays_s.append(time.time() - peak.timestamp())


def settle(running: Served, n_cameras: int) -> None:
    """Wait until frames of every camera are scored, and `SETTLE_S` longer.

    Raises:
        SourceError: that takes too long.
    """
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        running.require_alive()
        with suppress(SourceError, OSError, HTTPException):
            if sum(camera["scored"] > 0 for camera in running.api("/cameras")) == n_cameras:
                time.sleep(SETTLE_S)
                return
        time.sleep(0.5)
    raise SourceError(f"not all of {n_cameras} cameras are scored after {READY_S:g} s")


def between(first: Counters, last: Counters, asked_fps: float) -> dict[str, Any]:
    """Rates and latencies between two readings of the counters."""
    seconds = last.at - first.at

    def rates(key: str) -> list[float]:
        return [(camera[key] - first.cameras[name][key]) / seconds for name, camera in last.cameras.items()]

    counts = {bound: last.buckets[bound] - first.buckets.get(bound, 0.0) for bound in last.buckets}
    scored, total = rates("scored"), max(counts.values(), default=0.0)

    def bound_of(share: float) -> float | None:
        within = [bound for bound, count in sorted(counts.items()) if total and count >= share * total]
        return within[0] if within and within[0] < float("inf") else None

    worst = [camera["latency_ms_p99"] for camera in last.cameras.values() if camera["latency_ms_p99"] is not None]
    return {
        "seconds": round(seconds, 1),
        "fps_in_lowest": round(min(rates("frames")), 2),
        "fps_scored_lowest": round(min(scored), 3),
        "fps_scored_mean": round(sum(scored) / len(scored), 3),
        "share_of_asked_lowest": round(min(scored) / asked_fps, 3),
        "dropped_per_s": round(sum(rates("dropped")), 2),
        "seconds_p50": bound_of(0.5),
        "seconds_p99": bound_of(0.99),
        "latency_ms_p99": round(max(worst), 1) if worst else None,
        "states": sorted({camera["state"] for camera in last.cameras.values()}),
        "cpu_cores": round((last.cpu_s - first.cpu_s) / seconds, 2),
    }


def try_cameras(n_cameras: int, args: argparse.Namespace, video: Path, folder: Path) -> dict[str, Any]:
    """Watch `n_cameras`; gives the results, and whether that number is sustained."""
    folder.mkdir()
    names = [f"camera-{k:03d}" for k in range(n_cameras)]
    with rtsp_server({"video": video}) as url:
        values = {"url": url("video"), "fps": args.fps, "budget": args.budget}
        workers = f"workers = {args.workers}" if args.workers else ""
        cameras = "".join(CAMERA.format(name=name, **values) for name in names)
        config = CONFIG.format(model=args.model.absolute(), workers=workers, cameras=cameras)
        with served(config, folder) as running:
            settle(running, n_cameras)
            listener = Listener(running)
            first = read_counters(running)
            time.sleep(args.seconds)
            step = {
                "cameras": n_cameras,
                **between(first, read_counters(running), args.fps),
                "events": len(listener.delays_s),
            }
            listener.close()
    slowest = max(listener.delays_s, default=None)
    step["event_s_median"] = _middle(listener.delays_s)
    step["event_s_slowest"] = None if slowest is None else round(slowest, 3)
    step["load_average"] = round(os.getloadavg()[0], 2)
    step["is_sustained"] = (
        step["share_of_asked_lowest"] >= args.share
        and step["seconds_p99"] is not None
        and step["seconds_p99"] <= LIMIT_S
        and (slowest is None or slowest <= LIMIT_S)
    )
    return step


def _middle(values: Sequence[float]) -> float | None:
    return round(sorted(values)[len(values) // 2], 3) if values else None


def climb(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All steps, up to the first number that fails twice."""
    longest_s = READY_S + SETTLE_S + args.seconds + 15
    video = render(folder / "video.mp4", round(longest_s * RATE_HZ), SIZE)
    steps: list[dict[str, Any]] = []
    for n_cameras in range(args.first, args.last + 1, args.step):
        for attempt in (1, 2):
            try:
                step = try_cameras(n_cameras, args, video, folder / f"{n_cameras}-{attempt}")
            except SourceError as error:
                step = {"cameras": n_cameras, "is_sustained": False, "failed": str(error)}
            steps.append({**step, "attempt": attempt})
            print(json.dumps(steps[-1]), flush=True)
            if steps[-1]["is_sustained"]:
                break
        else:
            break
    return steps


def main() -> int:
    """Read the command line, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "ped2-small")
    parser.add_argument("--fps", type=float, default=5.0, help="frames per second to score of each camera (default 5)")
    parser.add_argument("--first", type=int, default=2, help="number of cameras to begin with (default 2)")
    parser.add_argument("--step", type=int, default=1, help="cameras added at each step (default 1)")
    parser.add_argument("--last", type=int, default=64, help="largest number to try (default 64)")
    parser.add_argument("--seconds", type=float, default=30.0, help="duration of each step (default 30)")
    parser.add_argument(
        "--share", type=float, default=0.95, help="share of the due frames that must be scored (default 0.95)"
    )
    parser.add_argument("--workers", type=int, help="threads of the network (default one for each core)")
    parser.add_argument("--budget", default="30/h", help="false-alarm budget of each camera (default 30/h)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if min(args.first, args.step) < 1 or args.last < args.first or min(args.fps, args.seconds) <= 0:
        parser.error("--first and --step are 1 or more, --last not under --first, --fps and --seconds over 0")
    found = live_environment()
    try:
        with tempfile.TemporaryDirectory(prefix="comemory-load-") as folder:
            steps = climb(args, Path(folder))
    except ComemoryError as error:
        print(f"live_load: {error}", file=sys.stderr)
        return 1
    sustained = [step["cameras"] for step in steps if step["is_sustained"]]
    report = {
        "cameras_sustained": max(sustained, default=0),
        "model": args.model.name,
        "asked_fps": args.fps,
        "size": list(SIZE),
        "camera_fps": RATE_HZ,
        "limit_s": LIMIT_S,
        "share": args.share,
        "budget": args.budget,
        "workers": args.workers,
        "steps": steps,
        "environment": found,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
