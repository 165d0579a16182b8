"""The control's scores on disk: it sees the video alone, so that they are the same for every network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from comemory.datasets import open_dataset
from comemory.errors import SourceError
from comemory.evaluation.motion_baseline import CONTROL, control_scores
from comemory.evaluation.video_scores import Control
from comemory.files import write_text
from comemory.research.pseudo_anomalies import PSEUDO
from comemory.research.reproduce.timing import read_note
from comemory.types import LabelledSource


def kept_control(folder: Path, data: str) -> Control:
    """Scores out of a folder, taken and put there where it has none yet.

    Args:
        data: `KIND:PATH`; part of the key of video that is made in memory, and so is the training video it may be made of.
    """
    from comemory.training.cache import content_hash

    @cache
    def training() -> str:
        return " ".join(content_hash(video, data) for video in open_dataset(data).training())

    def control(video: LabelledSource, rate_hz: float) -> Mapping[int, float]:
        beside = "" if isinstance(video.source, str) else f"{data} {PSEUDO} {training()}"
        content = content_hash(video, beside)
        path = folder / f"{hashlib.sha256(f'{content} {rate_hz} {CONTROL}'.encode()).hexdigest()[:24]}.json"
        kept = read_note(path)
        if kept is not None:
            return {int(frame): float(score) for frame, score in kept.items()}
        scores = dict(control_scores(video.source, rate_hz))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"cannot use the folder {folder}: {error.strerror or error}") from None
        write_text(path, json.dumps(scores))
        return scores

    return control
