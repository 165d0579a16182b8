"""The annotated video of one source, at the size that it was recorded in."""

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
from comemory.video.overlay import draw_score
from comemory.video.source import OpenedSource, open_source
from comemory.video.writer import VideoWriter

N_HISTORY = 2000
"""Scores that the curve under the image shows."""


class AnnotatedVideo:
    """Writes frames with their scores. A context manager: if it ends with an error, no half video is left.

    Args:
        path: of the mp4.
        opened: the source at the detector's size.
        location: where the source can be read a second time, at its own size.
        threshold: of the score.
        inputs: files that must not be overwritten.
        hold_s: how long a score is shown over frames without one: less than the time between two samples.
    """

    def __init__(
        self,
        path: Path,
        opened: OpenedSource,
        location: str,
        threshold: float,
        inputs: Sequence[str],
        hold_s: float = 0.0,
    ) -> None:
        self.hold_s = hold_s
        self.path, self.opened, self.threshold, self.inputs = path, opened, threshold, inputs
        self.history: deque[tuple[float, bool]] = deque(maxlen=N_HISTORY)
        self._writer: VideoWriter | None = None
        self._full_size: Iterator[Frame] | None = None
        self._newest: tuple[float, Score, bool] | None = None
        if opened.size is not None:
            self._full_size = iter(open_source(location, rate_hz=opened.rate_hz))

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, traceback)

    def write(
        self,
        frame: Frame,
        score: Score | None,
        heat_map: NDArray[np.float32] | None,
        image: NDArray[np.uint8],
        active: bool,
    ) -> None:
        """Draw and write the next frame.

        Args:
            frame: as it was scored.
            score: its box in pixels of `image`; None without a score. A frame between two samples shows the score of the
                sample before it.
            heat_map: of the frame.
            image: what to draw on, see `full_size`.
            active: the frame belongs to an event.
        """
        active = active and score is not None
        if score is not None:
            score = replace(score, heat_map=heat_map)
            self.history.append((score.value, active))
            self._newest = frame.time_s, score, active
        elif self._newest is not None and frame.time_s - self._newest[0] < self.hold_s:
            _, score, active = self._newest
        drawn = draw_score(
            image, score, threshold=self.threshold, history=list(self.history), event=active, time_s=frame.time_s
        )
        if self._writer is None:
            size = (drawn.shape[0], drawn.shape[1])
            self._writer = VideoWriter(self.path, size, self.opened.rate_hz, inputs=self.inputs)
            self._writer.__enter__()
        self._writer.write(drawn, frame.time_s)

    def full_size(self, frame: Frame) -> NDArray[np.uint8]:
        """The frame at its recorded size; enlarged where the source cannot be read a second time."""
        try:
            recorded = next(self._full_size, None) if self._full_size is not None else None
        except SourceError:
            recorded = None
        if recorded is None or recorded.index != frame.index:
            self._full_size = None
            return enlarge(frame.image, self.opened.size)
        return recorded.image


def enlarge(image: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Resize an image of the detector's size to the recording's (height, width), to which boxes belong."""
    if size is None or image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
