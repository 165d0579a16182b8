"""Per-frame scores as a file, written by `evaluate --scores`; `released_scores` reads it, as it reads those of any program."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.evaluation.video_scores import VideoScores
from comemory.files import write_bytes


def write_scores(target: Path, videos: Sequence[VideoScores]) -> None:
    """Write the scores of all videos as `.npz`; nothing in it needs pickle.

    Holds `videos`, their names; `channels`, the names of the channels; and for each video `NAME/frames`, `NAME/time_s`,
    `NAME/score`, `NAME/motion_baseline`, `NAME/raw` (n_scored, n_channels) and, where they are known, `NAME/thesis`,
    `NAME/own` and `NAME/labels`. All but the first two have one row for each scored frame.

    Raises:
        SourceError: the file cannot be written, such as on a full disk.
    """
    arrays: dict[str, NDArray[Any]] = {
        "videos": np.array([video.name for video in videos], np.str_),
        "channels": np.array(videos[0].channels if videos else (), np.str_),
    }
    for video in videos:
        per_frame = {
            "frames": video.frames,
            "time_s": video.time_s,
            "score": video.score,
            "thesis": video.thesis,
            "own": video.own,
            "motion_baseline": video.motion_baseline,
            "raw": video.raw,
            "labels": video.scored_labels,
        }
        arrays |= {f"{video.name}/{what}": values for what, values in per_frame.items() if values is not None}
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(target, buffer.getvalue())
