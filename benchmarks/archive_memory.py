"""Memory of the workers and of the driver of an archive, over thousands of files, and with a store that is slow to write to.

    python benchmarks/archive_memory.py --videos 2000 --json memory.json
    python benchmarks/archive_memory.py --videos 200 --write-s 1 --json slow.json

The videos are a few rendered ones under many names. `comemory score --cluster local:N` scores them; its processes are read twice
a second. Given are the anonymous memory of each worker after a tenth of the files and at the end, and its slope by a straight
line through all readings after that tenth. With `--write-s`, videos and results lie in a real S3 server on the loopback, and each
write takes that long: a sink slower than the workers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from comemory.bench import measurement_environment
from comemory.datasets import open_dataset
from comemory.video.writer import VideoWriter

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))
from unreliable_store import Unreliable  # noqa: E402

SIZE, N_FRAMES, N_RENDERED = (96, 144), 12, 8
BUCKET = "archive"


def make_videos(folder: Path, n_videos: int, n_frames: int) -> None:
    """Write a few videos, and link the others to them."""
    data = f"synthetic:seed=7,frames={max(16, n_frames)},training=1,testing={N_RENDERED},size={SIZE[0]}x{SIZE[1]}"
    rendered = folder / "rendered"
    rendered.mkdir(parents=True)
    for number, video in enumerate(open_dataset(data).testing()):
        with VideoWriter(rendered / f"{number}.mp4", SIZE, 10) as writer:
            for frame in islice(video.source, n_frames):  # type: ignore[arg-type]
                writer.write(frame.image, frame.time_s)
    for number in range(n_videos):
        path = folder / "in" / f"camera{number % 8}" / f"2026-03-01_{number:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(rendered / f"{number % N_RENDERED}.mp4", path)


@contextmanager
def store(folder: Path, share: float, write_s: float) -> Iterator[tuple[Unreliable, dict[str, str]]]:
    """A real S3 server with the videos of a folder, the proxy in front of it, and the environment that leads to the proxy."""
    import moto.server
    import s3fs

    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    fs = s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}", skip_instance_cache=True)
    fs.mkdir(BUCKET)
    fs.put(str(folder), f"{BUCKET}/in", recursive=True)
    with Unreliable(f"http://{host}:{port}", share, write_s) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        # The store's own retries are off: those of comemory are measured.
        yield proxy, {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}", "AWS_MAX_ATTEMPTS": "1"}
        proxy.shutdown()
        thread.join()
    server.stop()


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def anonymous_mib(pid: int) -> float | None:
    """Anonymous memory of a process; None where it is gone."""
    try:
        found = re.search(
            r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE
        )
    except OSError:
        return None
    return None if found is None else int(found[1]) / 1024


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far; 0 where it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def line_of(readings: list[tuple[int, float]], n_videos: int) -> dict[str, Any]:
    """What the readings of one process, (files done, MiB), say after a tenth of the files."""
    late = np.array([one for one in readings if one[0] >= n_videos / 10])
    if len(late) < 10:
        return {"readings": len(late)}
    (slope, _), covariance = np.polyfit(late[:, 0], late[:, 1], 1, cov=True)
    return {
        "readings": len(late),
        "first_mib": round(float(late[0, 1]), 2),
        "last_mib": round(float(late[-1, 1]), 2),
        "highest_mib": round(float(late[:, 1].max()), 2),
        "mib_per_1000_files": round(1000 * float(slope), 3),
        "standard_error": round(1000 * float(covariance[0, 0]) ** 0.5, 3),
    }


def watch(command: list[str], settings: dict[str, str], n_videos: int, count: Callable[[], int]) -> dict[str, Any]:
    """Run the command and read its processes until it ends."""
    readings: dict[int, list[tuple[int, float]]] = {}
    done, used_s = 0, 0.0
    with subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True) as driver:
        began = time.monotonic()
        assert driver.stdout is not None
        thread = threading.Thread(target=lambda: results.append(driver.stdout.read()))  # type: ignore[union-attr]
        results: list[str] = []
        thread.start()
        while driver.poll() is None:
            done = count()
            used_s = cpu_s(driver.pid) or used_s
            for pid in (driver.pid, *children(driver.pid)):
                if (mib := anonymous_mib(pid)) is not None:
                    readings.setdefault(pid, []).append((done, mib))
            time.sleep(0.5)
        thread.join()
    names = ["driver", *(f"worker {k + 1}" for k in range(len(readings) - 1))]
    return {
        "exit_code": driver.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "driver_cpu_s": round(used_s, 2),
        "memory": {name: line_of(readings[pid], n_videos) for name, pid in zip(names, readings, strict=True)},
        "said": results[0].strip().splitlines()[-3:],
    }


def main() -> None:
    """Read the command line, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=N_FRAMES, help=f"of each video (default {N_FRAMES})")
    parser.add_argument("--write-s", type=float, default=0.0, help="seconds of each write, in an object store")
    parser.add_argument("--bundle", default=str(REPOSITORY / "models" / "synthetic-nano"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if min(args.videos, args.workers) < 1 or args.frames < 6 or args.write_s < 0:
        parser.error("--videos and --workers are 1 or more, --frames 6 or more, --write-s 0 or more")
    started = measurement_environment()
    with tempfile.TemporaryDirectory(prefix="comemory-memory-") as place:
        folder = Path(place)
        make_videos(folder, args.videos, args.frames)
        command = [sys.executable, "-m", "comemory", "score", args.bundle]
        where = ["--cluster", f"local:{args.workers}", "--out"]
        if not args.write_s:
            out = folder / "out"

            def n_files() -> int:
                return sum(len(files) for _, _, files in os.walk(out / "scores"))

            found = watch([*command, str(folder / "in"), *where, str(out)], {}, args.videos, n_files)
        else:
            with store(folder / "in", 0.0, args.write_s) as (proxy, settings):
                urls = [f"s3://{BUCKET}/in", *where, f"s3://{BUCKET}/out"]
                # Each video has two results.
                found = watch([*command, *urls], settings, args.videos, lambda: proxy.n_writes // 2)
    text = json.dumps(
        {
            "model": Path(args.bundle).name,
            "videos": args.videos,
            "frames_a_video": args.frames,
            "workers": args.workers,
            "write_s": args.write_s,
            **found,
            **started,
            "load_average_at_the_end": round(os.getloadavg()[0], 2),
        },
        indent=1,
    )
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
