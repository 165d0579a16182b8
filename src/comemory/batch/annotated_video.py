"""The annotated video of one source, at the size it was recorded in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.errors import SourceError
from comemory.types import Frame, Score
from comemory.video.overlay import annotate
from comemory.video.source import OpenedSource, open_source
from comemory.video.writer import VideoWriter

N_HISTORY = 2000
"""Scores that the curve under the picture goes back."""


class Film:
    """Writes the frames with what is known of each. A context: what breaks off leaves no half film."""

    def __init__(
        self, path: Path, opened: OpenedSource, location: str, threshold: float, inputs: Sequence[str]
    ) -> None:
        self.path, self.opened, self.threshold, self.inputs = path, opened, threshold, inputs
        self.history: deque[tuple[float, bool]] = deque(maxlen=N_HISTORY)
        self._writer: VideoWriter | None = None
        self._native: Iterator[Frame] | None = None
        if opened.size is not None:
            self._native = iter(open_source(location, rate_hz=opened.rate_hz))

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, traceback)

    def show(
        self,
        frame: Frame,
        score: Score | None,
        heat: NDArray[np.float32] | None,
        picture: NDArray[np.uint8],
        active: bool,
    ) -> None:
        """Write the next frame with what is known of it."""
        active = active and score is not None
        if score is not None:
            score = replace(score, heat_map=heat)
            self.history.append((score.value, active))
        drawn = annotate(
            picture, score, threshold=self.threshold, history=list(self.history), event=active, time_s=frame.time_s
        )
        if self._writer is None:
            size = (drawn.shape[0], drawn.shape[1])
            self._writer = VideoWriter(self.path, size, self.opened.rate_hz, inputs=self.inputs)
            self._writer.__enter__()
        self._writer.write(drawn, frame.time_s)

    def recorded(self, frame: Frame) -> NDArray[np.uint8]:
        """The same frame as it was recorded, where the source can be read a second time; else its smaller copy enlarged."""
        try:
            native = next(self._native, None) if self._native is not None else None
        except SourceError:
            native = None
        if native is None or native.index != frame.index:
            self._native = None
            return enlarged(frame.image, self.opened.size)
        return native.image


def enlarged(picture: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A picture of the detector's size at the size (height, width) of the recording, to which boxes belong."""
    if size is None or picture.shape[:2] == size:
        return picture
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
