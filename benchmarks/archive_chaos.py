"""Kill the driver of an archive at random moments, with an object store that fails one request in ten; then count every frame.

    python benchmarks/archive_chaos.py --kills 20 --json chaos.json

A real S3 server on the loopback holds the videos and the results; a proxy in front of it answers a share of the requests with
503, or hangs up. `comemory score --cluster local:N` is killed with SIGKILL after a random part of `--longest` seconds, and
started again, until it was killed so often; then it runs to the end. If it ends before, the next kills meet a new run into
another folder. In the end each folder must have each frame of each video once, with the scores of one calm process that reads
the same videos from the disk, and each video once in the manifest.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
from archive_memory import BUCKET, REPOSITORY, make_videos, store

from comemory.bench import measurement_environment
from comemory.cluster.archive import parse_cluster, score_archive

Scores = dict[str, list[tuple[int, float | None]]]


def scores_of(tables: list[bytes]) -> Scores:
    """Frames and scores by the name of the video, in the order of the files: a frame that is there twice stays twice."""
    found: Scores = {}
    for content in tables:
        table = pq.read_table(io.BytesIO(content))
        rows = zip(table["frame"].to_pylist(), table["score"].to_pylist(), strict=True)
        found.setdefault(Path(table["source"][0].as_py()).name, []).extend(rows)
    return found


def compare(found: Scores, expected: Scores) -> dict[str, int]:
    """Frames that are missing, that are there twice, and that have another score."""
    counts: Counter[str] = Counter(frames=0, missing=0, doubled=0, other_score=0)
    for name, rows in expected.items():
        seen = Counter(frame for frame, _ in found.get(name, []))
        scores = dict(found.get(name, []))
        counts["frames"] += sum(seen.values())
        counts["missing"] += sum(frame not in seen for frame, _ in rows)
        counts["doubled"] += sum(number - 1 for number in seen.values())
        counts["other_score"] += sum(frame in scores and scores[frame] != score for frame, score in rows)
    counts["doubled"] += sum(len(rows) for name, rows in found.items() if name not in expected)
    return dict(counts)


class Chaos:
    """Runs of the command on the unreliable store, and what they left there."""

    def __init__(self, bundle: str, workers: int, settings: dict[str, str], fs: Any, errors: IO[bytes]) -> None:
        self._bundle, self._workers, self._settings, self._fs = bundle, workers, settings, fs
        self.errors = errors

    def start(self, out: str) -> subprocess.Popen[bytes]:
        """Start the command into a folder of the store."""
        command = [sys.executable, "-m", "comemory", "score", self._bundle, f"s3://{BUCKET}/in"]
        command += ["--cluster", f"local:{self._workers}", "--out", f"s3://{BUCKET}/{out}"]
        return subprocess.Popen(
            command, env={**os.environ, **self._settings}, stdout=subprocess.DEVNULL, stderr=self.errors
        )

    def files(self, out: str, folder: str) -> list[bytes]:
        """The files of a folder of the results, read past the proxy."""
        self._fs.invalidate_cache()
        root = f"{BUCKET}/{out}/{folder}"
        return [self._fs.cat_file(path) for path in sorted(self._fs.find(root))] if self._fs.exists(root) else []

    def verify(self, out: str, expected: Scores) -> dict[str, Any]:
        """What a finished folder holds."""
        lines = b"".join(self.files(out, "manifest")).splitlines()
        sources = Counter(json.loads(line)["source"] for line in lines)
        found = compare(scores_of(self.files(out, "scores")), expected)
        return {**found, "manifest": len(sources), "manifest_doubled": sum(n - 1 for n in sources.values())}


def run(chaos: Chaos, expected: Scores, kills: int, longest_s: float, dice: random.Random) -> dict[str, Any]:
    """Kill so often, run to the end, and verify."""
    moments: list[dict[str, Any]] = []
    folders, results = 0, []
    while True:
        out, is_last = f"out-{folders}", len(moments) >= kills
        wait_s = None if is_last else dice.uniform(0, longest_s)
        with chaos.start(out) as driver:
            try:
                code = driver.wait(wait_s)
            except subprocess.TimeoutExpired:
                driver.kill()
                driver.wait()
                moments.append(
                    {"after_s": round(wait_s or 0, 1), "folder": out, "done": len(chaos.files(out, "scores"))}
                )
                print(f"kill {len(moments)}: {moments[-1]}", file=sys.stderr, flush=True)
                continue
        results.append({"folder": out, "exit_code": code, **chaos.verify(out, expected)})
        print(results[-1], file=sys.stderr, flush=True)
        if is_last:
            return {"kills": moments, "runs": results}
        folders += 1


def main() -> None:
    """Read the command line, measure, write the file; exit 1 if a frame is missing, doubled or different."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--frames", type=int, default=30, help="of each video (default 30)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.1, help="of the requests that fail (default 0.1)")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds until the latest kill (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", default=str(REPOSITORY / "models" / "synthetic-nano"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if min(args.kills, args.videos, args.workers) < 1 or args.longest <= 0 or not 0 <= args.share < 0.5:
        parser.error("--kills, --videos and --workers are 1 or more, --longest over 0, --share 0 up to 0.5")
    started = measurement_environment()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="comemory-chaos-") as place:
        folder = Path(place)
        make_videos(folder, args.videos, args.frames)
        calm = score_archive(
            [str(folder / "in")], parse_cluster("local:1"), bundle=args.bundle, out=str(folder / "calm")
        )
        assert calm.n_done == args.videos, calm.failures
        expected = scores_of([path.read_bytes() for path in sorted((folder / "calm" / "scores").rglob("*.parquet"))])
        with store(folder / "in", args.share, 0.0) as (proxy, settings), (folder / "errors").open("wb") as errors:
            import s3fs

            fs = s3fs.S3FileSystem(endpoint_url=f"http://{proxy.target}", skip_instance_cache=True)
            chaos = Chaos(args.bundle, args.workers, settings, fs, errors)
            found = run(chaos, expected, args.kills, args.longest, random.Random(args.seed))
            requests = {"requests": proxy.n_requests, "requests_failed": proxy.n_failed}
        last = (folder / "errors").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    bad = sum(one[key] for one in found["runs"] for key in ("missing", "doubled", "other_score", "manifest_doubled"))
    text = json.dumps(
        {
            "model": Path(args.bundle).name,
            "videos": args.videos,
            "frames_expected": sum(map(len, expected.values())),
            "workers": args.workers,
            "seed": args.seed,
            "frames_wrong": bad,
            **requests,
            **found,
            "seconds": round(time.monotonic() - began, 1),
            **started,
            "load_average_at_the_end": round(os.getloadavg()[0], 2),
        },
        indent=1,
    )
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    if bad or any(one["exit_code"] for one in found["runs"]):
        raise SystemExit("\n".join(last) or 1)


if __name__ == "__main__":
    main()
