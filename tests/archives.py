"""Archives for the tests: short videos of a rendered scene, and what one process scores in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from comemory.datasets import open_dataset
from comemory.video.writer import VideoWriter

BUNDLE = Path(__file__).resolve().parents[1] / "models" / "synthetic-nano"

SIZE = (96, 144)
N_FRAMES = 30


def make_archive(folder: Path, n_videos: int, n_frames: int = N_FRAMES) -> list[Path]:
    """Videos of two cameras, `gate` and `yard`, one a day in March 2026."""
    dataset = open_dataset(f"synthetic:seed=5,frames={n_frames},training=1,testing=1,size={SIZE[0]}x{SIZE[1]}")
    frames = list(dataset.testing()[0].source)
    paths = []
    for number in range(n_videos):
        path = folder / ("gate", "yard")[number % 2] / f"2026-03-{number + 1:02d}_10-00-00.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path, SIZE, 25) as writer:
            # Each video begins elsewhere in the scene, so that no two are the same.
            for frame in frames[number % 5 :]:
                writer.write(frame.image, frame.time_s - frames[number % 5].time_s)
        paths.append(path)
    return paths


def rows(out: Path, column: str = "frame") -> dict[str, list[Any]]:
    """The values of a column, by the name of the video."""
    found: dict[str, list[Any]] = {}
    for path in sorted((out / "scores").rglob("*.parquet")):
        table = pq.read_table(path)
        source = json.loads(pq.read_metadata(path).metadata[b"comemory"])["source"]
        found.setdefault(Path(source).name, []).extend(table[column].to_pylist())
    return found


def contents(out: Path) -> dict[str, bytes]:
    """Every file of the results, by its name."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
