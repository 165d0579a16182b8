"""Cached scores of the motion baseline: it depends on the video only, so one computation serves every network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from comemory.errors import SourceError
from comemory.evaluation.motion_baseline import MOTION_BASELINE_VERSION, motion_baseline_scores
from comemory.evaluation.video_scores import MotionBaseline
from comemory.files import write_text
from comemory.research.pseudo_anomalies import PSEUDO_VERSION
from comemory.research.pseudo_anomalies.dataset import open_any_dataset
from comemory.research.reproduce.timing import read_json
from comemory.types import LabelledSource


def cached_motion_baseline(folder: Path, data: str) -> MotionBaseline:
    """Return a function that gives baseline scores from a folder, and computes and stores those that are not there.

    Args:
        folder: of the cache; it is made when the first scores are stored.
        data: `KIND:PATH`, part of the key of videos that are made in memory.
    """
    from comemory.training.cache import content_sha256

    @cache
    def training_content() -> str:
        return " ".join(content_sha256(video, data) for video in open_any_dataset(data).training())

    def scores_of(video: LabelledSource, rate_hz: float, trained_hz: float) -> Mapping[int, float]:
        # A video that is made in memory has no file to hash; its content follows from what it is made of.
        made_of = "" if isinstance(video.source, str) else f"{data} {PSEUDO_VERSION} {training_content()}"
        content = content_sha256(video, made_of)
        key = hashlib.sha256(f"{content} {rate_hz} {trained_hz} {MOTION_BASELINE_VERSION}".encode()).hexdigest()[:24]
        path = folder / f"{key}.json"
        if (stored := read_json(path)) is not None:
            return {int(frame): float(score) for frame, score in stored.items()}
        scores = dict(motion_baseline_scores(video.source, rate_hz, trained_hz))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"cannot use the folder {folder}: {error.strerror or error}") from None
        write_text(path, json.dumps(scores))
        return scores

    return scores_of
