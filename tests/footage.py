"""Footage for tests: a rendered walkway in files, and pictures whose brightness tells their label."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from moving_disc import Picture

from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.metrics import intervals
from comemory.types import Frame, LabelledSource, Score
from comemory.video.writer import save_picture

SCENE = "synthetic:seed=1,frames=60,training=3,testing=2,size=96x144"


def clip(number: int) -> tuple[list[Picture], list[bool]]:
    """The pictures of a rendered test clip, and which of them are abnormal."""
    video: LabelledSource = open_dataset(SCENE).testing()[number]
    assert not isinstance(video.source, str)
    assert video.labels is not None
    return [frame.image for frame in video.source], video.labels.tolist()


def save_video(path: Path, pictures: Sequence[Picture], rate: int = 10, times_ms: Sequence[int] | None = None) -> Path:
    """Encode pictures as H.264 at a fixed rate, or at times of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "bf": "0"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            if times_ms:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def save_frames(folder: Path, pictures: Sequence[Picture]) -> Path:
    """Write pictures as `000.png`, `001.png`, …"""
    folder.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        save_picture(picture, folder / f"{i:03d}.png")
    return folder


def save_labels(path: Path, labels: Sequence[bool]) -> Path:
    """Write labels as the intervals of a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{first},{last}" for first, last in intervals(labels)]
    path.write_text("\n".join(["start_frame,end_frame", *rows]) + "\n", encoding="utf-8")
    return path


def bright_pictures(labels: Sequence[bool]) -> list[Picture]:
    """A still texture, brighter where abnormal."""
    ground = np.random.default_rng(0).integers(40, 90, (48, 72, 3), np.uint8)
    return [ground + np.uint8(60) if label else ground.copy() for label in labels]


class Told(Detector):
    """A real detector whose score values are told: `values[i]` for frame i, else the brightness of the frame.

    Attributes:
        late: give the brightness of that many frames before.
    """

    values: Sequence[float] | None = None
    late = 0

    def reset(self) -> None:
        super().reset()
        self._seen: list[float] = []

    def push(self, frame: Frame) -> Score | None:
        score = super().push(frame)
        self._seen.append(float(frame.image.mean()))
        if score is None:
            return None
        return replace(score, value=self._seen[-1 - self.late] if self.values is None else self.values[frame.index])


def comemory(*arguments: object, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user would."""
    command = [sys.executable, "-m", "comemory", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload,no-any-return]


def at_once(code: str, *arguments: object) -> None:
    """Run a program in two processes at once, each with a letter as its last argument."""
    processes = [subprocess.Popen([sys.executable, "-c", code, *map(str, arguments), letter]) for letter in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
