"""Timings of a training step, and the share of it that waits for data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comemory.bench.timing import Timing, measurement_environment, peak_rss_mib, threads
from comemory.errors import ConfigError
from comemory.types import JSON

if TYPE_CHECKING:
    from comemory.training.config import TrainingConfig


class _Enough(Exception):  # noqa: N818
    """Enough steps were timed."""


class _Clocked:
    """Prepared video that times the reading of its clips."""

    def __init__(self, video: Any) -> None:
        self._video = video
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._video, name)

    def clip(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        clip = self._video.clip(*arguments)
        self.seconds += time.perf_counter() - begun
        return clip


def bench_training(
    data: str, preset: str = "small", settings: Sequence[str] = (), rounds: int = 20, cache: Path | None = None
) -> JSON:
    """Time a few training steps; the trained model is discarded.

    Args:
        data: `KIND:PATH`; its normal video is prepared first, which is timed separately.
        preset: of the training.
        settings: `key=value`, changing the preset.
        rounds: steps after the first one, which warms up.
        cache: folder for prepared frames; a temporary one by default.

    Returns:
        JSON: `timings` of a step, and of reading its clips from the cache; `waiting_share`, reading over all;
        `prepare_s`; the environment.

    Raises:
        ConfigError: fewer than one step.
        DatasetError: the data set cannot be opened.
        TrainingError: the training failed.
        RuntimeMissing: torch is not installed.
    """
    if rounds < 1:
        raise ConfigError(f"cannot measure in {rounds} rounds: expected 1 or more")
    from comemory.datasets import open_dataset
    from comemory.training.cache import prepare_videos
    from comemory.training.config import read_training_config

    recipe = read_training_config(preset, settings=list(settings))
    with tempfile.TemporaryDirectory(prefix="comemory-bench-") as passing:
        begun = time.perf_counter()
        dataset = open_dataset(data)
        folder = cache or Path(passing) / "cache"
        prepared, _ = prepare_videos(dataset.training(), folder, recipe.clips, recipe.flow, dataset=data)
        prepare_s = time.perf_counter() - begun
        marks = _marks(recipe, [_Clocked(video) for video in prepared], rounds, Path(passing))
    if len(marks) < 2:
        raise ConfigError(f"{data} has too little video for two steps of train.batch={recipe.train.batch}")
    steps = [after[0] - before[0] for before, after in pairwise(marks)]
    reading = [after[1] - before[1] for before, after in pairwise(marks)]
    timings = {"step": Timing(tuple(steps)), "reading clips": Timing(tuple(reading))}
    return {
        "what": f"training {preset} on {data}: per step of {recipe.train.batch} clips",
        "timings": {name: timing.summary() for name, timing in timings.items()},
        "waiting_share": round(sum(reading) / sum(steps), 4),
        "clips_per_second": round(recipe.train.batch * len(steps) / sum(steps), 2),
        "prepare_s": round(prepare_s, 2),
        "peak_rss_mib": round(peak_rss_mib(), 1),
        "threads": threads(),
        **measurement_environment(),
    }


def _marks(recipe: TrainingConfig, videos: Sequence[_Clocked], rounds: int, folder: Path) -> list[tuple[float, float]]:
    """After each training step: the time, and the seconds spent reading clips so far."""
    from comemory.training.loop import fit, make_fabric

    marks: list[tuple[float, float]] = []

    def on_step(progress: object, loss: float) -> None:
        marks.append((time.perf_counter(), sum(video.seconds for video in videos)))
        if len(marks) > rounds:
            raise _Enough

    with suppress(_Enough):
        fit(make_fabric(recipe.train), recipe, videos, folder, on_step=on_step)  # type: ignore[arg-type]
    return marks
