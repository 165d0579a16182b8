"""Footage for tests: a rendered walkway, and images whose brightness is their label."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from moving_disc import Image

from comemory.datasets import open_dataset
from comemory.detector import Detector, ScoredFrame
from comemory.metrics import intervals
from comemory.types import LabelledSource
from comemory.video.writer import save_image

SCENE = "synthetic:seed=1,frames=60,training=3,testing=2,size=96x144"


def clip(number: int) -> tuple[list[Image], list[bool]]:
    """The images of a rendered test clip, and which of them are abnormal."""
    video: LabelledSource = open_dataset(SCENE).testing()[number]
    assert not isinstance(video.source, str)
    assert video.labels is not None
    return [frame.image for frame in video.source], video.labels.tolist()


def save_video(
    path: Path, images: Sequence[Image], rate: int = 10, times_ms: Sequence[int] | None = None, **options: str
) -> Path:
    """Encode images as H.264 at a fixed rate, or at times of their own, with options of x264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "bf": "0", **options})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            if times_ms:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def save_frames(folder: Path, images: Sequence[Image]) -> Path:
    """Write images as `000.png`, `001.png`, ..."""
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        save_image(image, folder / f"{i:03d}.png")
    return folder


def save_labels(path: Path, labels: Sequence[bool]) -> Path:
    """Write labels as the intervals of a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{first},{last}" for first, last in intervals(labels)]
    path.write_text("\n".join(["start_frame,end_frame", *rows]) + "\n", encoding="utf-8")
    return path


def bright_images(labels: Sequence[bool]) -> list[Image]:
    """A static texture, brighter where abnormal."""
    texture = np.random.default_rng(0).integers(40, 90, (48, 72, 3), np.uint8)
    return [texture + np.uint8(60) if label else texture.copy() for label in labels]


class FixedScores(Detector):
    """A real detector with given score values: `values[i]` for frame i, else the brightness of the frame.

    Attributes:
        values: of the frames, by index.
        late: use the brightness of that many frames before.
    """

    values: Sequence[float] | None = None
    late = 0

    def step(self, frame: Any, *arguments: Any, **options: Any) -> ScoredFrame | None:
        scored = super().step(frame, *arguments, **options)
        if frame.index == 0 or not hasattr(self, "_brightness"):
            self._brightness: list[float] = []
        self._brightness.append(float(frame.image.mean()))
        if scored is None:
            return None
        value = self._brightness[-1 - self.late] if self.values is None else self.values[frame.index]
        return replace(scored, score=replace(scored.score, value=value))


def comemory(*arguments: object, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user would."""
    command = [sys.executable, "-m", "comemory", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload,no-any-return]


def at_once(code: str, *arguments: object) -> None:
    """Run a program in two processes at once, each with a letter as its last argument."""
    processes = [subprocess.Popen([sys.executable, "-c", code, *map(str, arguments), letter]) for letter in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
