"""Measure what one frame, one event and one file cost: the inputs of the capacity plan.

    python benchmarks/unit_costs.py --bundle models/ped2-small --json unit-costs.json [--postgres URL]

Costs are processor time of one thread, so other work on the machine disturbs them less than it disturbs a clock: a core that is
shared still runs slower for want of cache and of the other half of its core. The lowest and highest of the rounds are
recorded beside the median.

    decode      a frame of a file of this codec and size, decoded and resized to the detector's size
    stages      flow, clip with moving objects, network, score, for a frame of a busy scene; and a static frame, all together
    file        what a file of an archive takes beyond its frames, and the bytes of its results
    worker      seconds until a worker is ready, its memory
    event       bytes of its files; bytes, transactions and time in the database

The scene is rendered, with noise as of a sensor, and encoded at a usual bit rate of cameras. Bytes of clips follow from the bit
rate of a camera, so they are no measurement. `--postgres` names an empty database.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.bench import measurement_environment
from comemory.bundle import open_bundle
from comemory.cluster.archive_scorer import ArchiveScorer
from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask, result_name
from comemory.cluster.archive_worker import settings_line
from comemory.cluster.paths import InputFile, list_input_videos
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import ComemoryError
from comemory.live.recording.snapshots import save_crop, save_heat_map, save_thumbnail
from comemory.store.event import FILE_KINDS, StoredEvent, new_id
from comemory.store.store import EventStore
from comemory.types import Frame
from comemory.video.resize import resize

RATE_HZ = 25.0
NOISE = 3.0
"""Standard deviation of the noise, grey levels."""

VIDEOS = {
    "h264 144x96": ("libx264", (96, 144), 0.1),
    "h264 640x360": ("libx264", (360, 640), 0.7),
    "h264 1280x720": ("libx264", (720, 1280), 2.0),
    "h264 1920x1080": ("libx264", (1080, 1920), 4.0),
    "hevc 1920x1080": ("libx265", (1080, 1920), 2.5),
}
"""By name: encoder, (height, width), Mbit/s."""

STAGES = ("pair", "flow", "append", "network", "score")


def scene(size: tuple[int, int], n_frames: int) -> Iterator[NDArray[np.uint8]]:
    """A rendered scene, scaled up, with noise."""
    data = f"synthetic:seed=5,frames={n_frames},training=1,testing=1"
    noise = np.random.default_rng(0).normal(0, NOISE, (*size, 3)).astype(np.int16)
    for number, frame in enumerate(open_dataset(data).testing()[0].source):  # type: ignore[arg-type]
        # One field of noise, moved: it costs a hundredth of a new one, and no codec can predict it.
        moved = np.roll(noise, (number * 37 % size[0], number * 61 % size[1]), (0, 1))
        yield np.clip(resize(frame.image, size).astype(np.int16) + moved, 0, 255).astype(np.uint8)


def encode(path: Path, name: str, n_frames: int) -> Path:
    """Write one of `VIDEOS`, as a camera would: one key frame in two seconds, no frames that refer to later ones."""
    encoder, size, mbit_s = VIDEOS[name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, Fraction(int(RATE_HZ)))
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = int(1e6 * mbit_s)
        quiet = {"x265-params": "log-level=none:bframes=0:keyint=50"} if encoder == "libx265" else {}
        stream.options = {"preset": "veryfast", "bf": "0", "g": "50", **quiet}
        for image in scene(size, n_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def summary(samples_s: list[float], n: int) -> dict[str, float]:
    """Milliseconds of one of `n` in each round: median, lowest, highest."""
    each = [1000 * sample / n for sample in samples_s]
    return {
        "median_ms": round(statistics.median(each), 3),
        "lowest_ms": round(min(each), 3),
        "highest_ms": round(max(each), 3),
    }


def timed(call: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def decode_costs(detector: Detector, folder: Path, n_frames: int, rounds: int) -> dict[str, Any]:
    """Decoding and resizing, by codec and size."""
    paths = {name: encode(folder / f"{number}.mp4", name, n_frames) for number, name in enumerate(VIDEOS)}
    samples: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            samples[name].append(timed(lambda path=path: sum(1 for _ in detector.open_source(path))))  # type: ignore[misc]
    return {
        name: {
            **summary(samples[name], n_frames),
            "mbit_s": round(path.stat().st_size * 8 * RATE_HZ / n_frames / 1e6, 2),
        }
        for name, path in paths.items()
    }


def stage_costs(detector: Detector, folder: Path, n_frames: int, rounds: int) -> dict[str, Any]:
    """Each stage of a scored frame in a busy scene, and a static frame."""
    frames = list(detector.open_source(encode(folder / "stages.mp4", "h264 640x360", n_frames)))
    step_s = 1.0 / detector.bundle.calibration.rate_hz
    busy = [Frame(frame.image, number * step_s, number) for number, frame in enumerate(frames)]
    samples: dict[str, list[float]] = {name: [] for name in (*STAGES, "scored", "static")}
    for _ in range(rounds):
        stages = detector.stages
        stages.start_source()
        spent, scored = dict.fromkeys(STAGES, 0.0), 0
        began_all = time.process_time()
        for frame in busy:
            marks = [time.process_time()]
            work = stages.pair(frame)
            marks.append(time.process_time())
            stages.compute_features(work)
            marks.append(time.process_time())
            stages.append(work)
            marks.append(time.process_time())
            stages.infer(work)
            marks.append(time.process_time())
            scored += stages.score(work) is not None
            marks.append(time.process_time())
            for name, first, last in zip(STAGES, marks[:-1], marks[1:], strict=True):
                spent[name] += last - first
        samples["scored"].append(time.process_time() - began_all)
        for name in STAGES:
            samples[name].append(spent[name])
        still = [Frame(busy[-1].image, (len(busy) + number) * step_s, len(busy) + number) for number in range(n_frames)]
        for frame in still[:20]:
            detector.step(frame)
        samples["static"].append(timed(lambda still=still: [detector.step(one) for one in still[20:]]))  # type: ignore[misc]
    counts = dict.fromkeys(samples, n_frames) | {"static": n_frames - 20}
    return {
        "runs_network": detector.stages.runs_network,
        **{name: summary(samples[name], counts[name]) for name in samples},
    }


def network_cost(bundle: str, precision: str, rounds: int) -> dict[str, Any]:
    """The network alone on one thread, for models whose score needs it."""
    detector = Detector.open(bundle, threads=1, precision=precision)
    inputs = detector.stages.example_inputs()
    detector.stages.runtime.run(inputs)
    samples = [timed(lambda: [detector.stages.runtime.run(inputs) for _ in range(20)]) for _ in range(rounds)]
    return {"precision": detector.bundle.precision, **summary(samples, 20)}


def settings_of(bundle: str, out: str) -> ArchiveSettings:
    """How `score --cluster` scores every file of an archive by default."""
    opened = open_bundle(bundle).in_precision("openvino", "auto")
    return ArchiveSettings(
        bundle=bundle,
        digest=opened.digest,
        out=out,
        runtime="openvino",
        precision=opened.precision,
        update="off",
        gate=True,
        flow_weights=None,
        false_alarms=opened.default_budget,
        layout=None,
        split_s=0.0,
        warm_up_s=0.0,
        time_limit_s=3600.0,
    )


def file_costs(bundle: str, folder: Path, rounds: int) -> dict[str, Any]:
    """What a file of an archive costs beyond its frames, and the bytes of its results."""
    detector, settings = Detector.open(bundle, threads=1), settings_of(bundle, str(folder / "out"))
    scorer = ArchiveScorer(settings)
    path = encode(folder / "file.mp4", "h264 144x96", 100)
    [video] = list_input_videos([str(path)])
    extra, open_s, whole = [], [], []
    for _ in range(2 * rounds):
        alone = timed(lambda: list(detector.run(path)))
        whole.append(timed(lambda: scorer.run(ArchiveTask("file", video, settings.key(video)))))
        extra.append(whole[-1] - alone)
        open_s.append(timed(lambda: list(islice(detector.open_source(path), 1))))
    long = encode(folder / "long.mp4", "h264 144x96", 1500)
    [long_video] = list_input_videos([str(long)])
    scorer.run(ArchiveTask("file", long_video, settings.key(long_video)))

    def size(of: str, what: str) -> int:
        return (folder / "out" / what / f"{result_name(of)}.parquet").stat().st_size

    n_bytes = {n: size(str(one), "scores") for n, one in ((100, path), (1500, long))}
    a_row = (n_bytes[1500] - n_bytes[100]) / 1400
    return {
        "beyond_frames": summary(extra, 1),
        "open_and_first_frame": summary(open_s, 1),
        "score_bytes_a_frame": round(a_row, 2),
        "score_bytes_a_file": round(n_bytes[100] - 100 * a_row),
        "event_bytes_a_file": size(str(long), "events"),
    }


def worker_costs(bundle: str, rounds: int) -> dict[str, Any]:
    """Seconds and processor time until a worker of the local pool has loaded the model, and its memory then."""
    settings = settings_of(bundle, tempfile.gettempdir())
    ready_s, cpu_s, rss = [], [], []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "comemory.cluster.archive_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(settings_line(settings) + "\n")
            worker.stdin.flush()
            assert "ready" in worker.stdout.readline()
            ready_s.append(time.monotonic() - began)
            rss.append(rss_mib(worker.pid))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "ready_s": round(statistics.median(ready_s), 2),
        "cpu_s": round(statistics.median(cpu_s), 2),
        "rss_mib": round(statistics.median(rss), 1),
    }


def driver_costs(bundle: str, n_files: int) -> dict[str, Any]:
    """What the driver remembers of each file, and takes before it can give out the first one; in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return dict(pool.apply(remember, (settings_of(bundle, "s3://bucket/scores"), n_files)))


def remember(settings: ArchiveSettings, n_files: int) -> dict[str, Any]:
    """Make the tasks of so many files."""
    before, began = rss_mib(), time.process_time()
    paths = (f"s3://bucket/camera-{k % 1000:04d}/2026-03-{k % 28 + 1:02d}/{k:09d}.mp4" for k in range(n_files))
    videos = [InputFile(path, f"{k:032x}", 900_000_000) for k, path in enumerate(paths)]
    tasks = [ArchiveTask("file", video, settings.key(video)) for video in videos]
    taken_s, grown_mib = time.process_time() - began, rss_mib() - before
    return {
        "files": len(tasks),
        "bytes_a_file": round(grown_mib * 2**20 / n_files),
        "start_ms_a_file": round(1000 * taken_s / n_files, 4),
    }


def rss_mib(pid: int | str = "self") -> float:
    """Memory of a process now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def image_bytes(detector: Detector, folder: Path) -> dict[str, Any]:
    """Bytes of the three images of an event, by the size of the camera's image, and the processor time of writing them."""
    found = {}
    for name in ("h264 640x360", "h264 1920x1080"):
        size = VIDEOS[name][1]
        image = next(iter(scene(size, 40)))
        scored = None
        for number, frame in enumerate(scene((360, 640), 40)):
            scored = detector.step(Frame(frame, number / detector.bundle.calibration.rate_hz, number)) or scored
        assert scored is not None
        score, heat = scored.score, detector.heat_map(scored)
        box = (size[1] // 3, size[0] // 3, size[1] // 2, size[0] // 2)
        at = datetime.now(UTC)
        paths = {kind: folder / f"{kind}-{size[0]}.jpg" for kind in ("thumbnail", "crop", "heat")}
        began = time.process_time()
        save_thumbnail(image, paths["thumbnail"])
        save_crop(image, box, paths["crop"])
        save_heat_map(image, score, heat, paths["heat"], None, at)
        taken = time.process_time() - began
        found[name.split()[1]] = {
            **{f"{kind}_bytes": path.stat().st_size for kind, path in paths.items()},
            "cpu_ms": round(1000 * taken, 1),
        }
    return found


def store_costs(url: str, folder: Path, n_events: int) -> dict[str, Any]:
    """What an event and a camera-day of scores take in a database."""
    transactions, size = counters(url)
    with EventStore.open(url, folder / "media") as store:
        before, began = (transactions(), size()), time.monotonic()
        cpu = time.process_time()
        for number in range(n_events):
            event = an_event(number)
            store.begin(event)
            for kind in FILE_KINDS:
                path = store.scratch / f"{number}-{kind}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(100))
                store.attach(event.id, kind, path)
            store.end(an_event(number, id=event.id, ended=True))
        taken, cpu = time.monotonic() - began, time.process_time() - cpu
        after = transactions(), size()
        minute = datetime(2026, 3, 1, tzinfo=UTC)
        for number in range(1440):
            store.record_scores("gate", minute + timedelta(minutes=number), [1.0] * 12, "0123456789abcdef")
        last = transactions(), size()
    return {
        "events": n_events,
        "bytes_an_event": round((after[1] - before[1]) / n_events),
        "transactions_an_event": None if before[0] is None else round((after[0] - before[0]) / n_events, 1),
        "ms_an_event": round(1000 * taken / n_events, 2),
        "cpu_ms_an_event": round(1000 * cpu / n_events, 2),
        "bytes_a_camera_day_of_scores": last[1] - after[1],
        "transactions_a_camera_day_of_scores": None if after[0] is None else last[0] - after[0],
    }


def an_event(number: int, id: str | None = None, *, ended: bool = False) -> StoredEvent:
    """An event as `serve` makes them, with the evidence of its cells."""
    start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=60 * number)
    return StoredEvent(
        id=id or new_id(),
        camera="gate",
        start=start,
        peak=start + timedelta(seconds=1),
        end=start + timedelta(seconds=4) if ended else None,
        peak_score=7.123456,
        appearance=1.2,
        motion=7.1,
        box=(100, 100, 200, 200),
        size=(360, 640),
        model="0123456789abcdef",
        threshold=6.1,
        cells=tuple(0.001 * k for k in range(96)),
        region=((100, 100), (200, 100), (200, 200), (100, 200)),
    )


def counters(url: str) -> tuple[Callable[[], int | None], Callable[[], int]]:
    """Functions that give the transactions and the bytes of a database so far."""
    if not url.startswith("postgresql"):
        file = Path(url)

        def file_size() -> int:
            return sum(one.stat().st_size for one in file.parent.glob(f"{file.name}*"))

        return lambda: None, file_size
    import psycopg

    connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def ask(question: str) -> int:
        row = connection.execute(question).fetchone()
        assert row is not None
        return int(row[0])

    def committed() -> int:
        time.sleep(1.5)  # the statistics of a session appear after a second at most
        connection.execute("SELECT pg_stat_clear_snapshot()")
        return ask("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")

    return committed, lambda: ask("SELECT pg_database_size(current_database())")


def measure(bundle: str, rounds: int, n_frames: int, postgres: str | None, folder: Path) -> dict[str, Any]:
    """All results as JSON."""
    cv2.setNumThreads(1)
    started = measurement_environment()
    detector = Detector.open(bundle, threads=1)
    databases = {"sqlite": str(folder / "events.db"), **({} if postgres is None else {"postgresql": postgres})}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "stages": lambda: stage_costs(detector, folder, n_frames, rounds),
        "network": lambda: {precision: network_cost(bundle, precision, rounds) for precision in ("fp32", "auto")},
        "file": lambda: file_costs(bundle, folder, rounds),
        "worker": lambda: worker_costs(bundle, rounds),
        "driver": lambda: driver_costs(bundle, 100_000),
        "decode": lambda: decode_costs(detector, folder, n_frames, rounds),
        "images": lambda: image_bytes(Detector.open(bundle, threads=1), folder),
        "database": lambda: {name: store_costs(at, folder / name, 100) for name, at in databases.items()},
    }
    found: dict[str, Any] = {"model": Path(bundle).name, "rounds": rounds}
    for name, part in parts.items():
        found[name] = part()
        print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    return {**found, **started, "load_average_at_the_end": round(os.getloadavg()[0], 2)}


def main() -> None:
    """Read the command line, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default=str(Path(__file__).resolve().parents[1] / "models" / "ped2-small"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=150, help="of each video (default 150)")
    parser.add_argument("--postgres", metavar="URL", help="an empty database, postgresql+psycopg://...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if args.rounds < 1 or args.frames < 50:
        parser.error("--rounds is 1 or more, --frames 50 or more")
    try:
        with tempfile.TemporaryDirectory(prefix="comemory-costs-") as place:
            results = measure(args.bundle, args.rounds, args.frames, args.postgres, Path(place))
    except ComemoryError as error:
        raise SystemExit(f"unit_costs: {error}") from None
    text = json.dumps(results, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
