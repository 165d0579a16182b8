"""The model and the control over every video of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from comemory.decision import EventFinder
from comemory.detect import Detector
from comemory.errors import DatasetError, EvaluationError
from comemory.evaluate.control import control_scores
from comemory.report import Finding
from comemory.types import Event, Frame, LabelledSource, Score


@dataclass(frozen=True, eq=False)
class VideoScores:
    """One video as the model and the control scored it.

    Shapes:
        frames: int (n_scored,), which frames have a score; the index of a frame is the index of its label.
        time_s, score, thesis, control: float64 (n_scored,).
        labels: bool (n_frames,) of all frames; None when not known.

    Attributes:
        rate_hz: frames per second, as the video states it or as it was given.
        wall_s: seconds that the model took, reading included.
    """

    name: str
    n_frames: int
    rate_hz: float
    frames: NDArray[np.int64]
    time_s: NDArray[np.float64]
    score: NDArray[np.float64]
    thesis: NDArray[np.float64]
    control: NDArray[np.float64]
    labels: NDArray[np.bool_] | None
    events: list[Event]
    wall_s: float
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def scored_labels(self) -> NDArray[np.bool_] | None:
        """The labels of the scored frames."""
        return None if self.labels is None else self.labels[self.frames]


def score_video(
    detector: Detector,
    video: LabelledSource,
    threshold: float,
    rate_hz: float,
    *,
    pictures: bool,
    on_frame: Callable[[], None] = lambda: None,
) -> VideoScores:
    """Score a video with the model, then with the control.

    Args:
        threshold: of the events.
        rate_hz: frames per second where the source does not say.
        pictures: keep the worst false alarm and the worst miss with their heat maps.

    Raises:
        SourceError: the video cannot be opened. DatasetError: its labels do not fit its frames.
        EvaluationError: the control, which reads the video once more, found other frames in it.
    """
    source = detector.open_source(video.source, rate_hz)
    album = _Album(video.name, video.labels if pictures else None)
    scores: list[Score] = []
    thesis: list[float] = []
    last, wall_s = -1, 0.0
    for frame, score, seconds in _timed(detector, source):
        last, wall_s = frame.index, wall_s + seconds
        on_frame()
        if score is not None and detector.judgement is not None:
            scores.append(score)
            thesis.append(detector.judgement.thesis)
            album.consider(frame, score, detector)
    n_frames = last + 1
    if video.labels is not None and len(video.labels) < n_frames:
        raise DatasetError(
            f"{video.name}: {len(video.labels)} labels for {n_frames} frames: the labels belong to another video"
        )
    problems = list(source.problems)
    if video.labels is not None and len(video.labels) > n_frames:
        problems.append(
            f"{video.name}: {len(video.labels)} labels but {n_frames} frames could be read; the rest is not judged"
        )
    control = dict(control_scores(video.source, rate_hz))
    frames = np.array([score.index for score in scores], np.int64)
    finder = EventFinder(video.name, threshold, detector.bundle.calibration.settings)
    return VideoScores(
        name=video.name,
        n_frames=n_frames,
        rate_hz=float(source.rate_hz or rate_hz),
        frames=frames,
        time_s=np.array([score.time_s for score in scores], np.float64),
        score=np.array([score.value for score in scores], np.float64),
        thesis=np.array(thesis, np.float64),
        control=_at(control, frames, video.name),
        labels=None if video.labels is None else video.labels[:n_frames],
        events=list(finder.run(scores)),
        wall_s=wall_s,
        findings=album.findings,
        problems=problems,
    )


def _at(control: dict[int, float], frames: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    try:
        return np.array([control[int(i)] for i in frames], np.float64)
    except KeyError as error:
        raise EvaluationError(
            f"{name}: frame {error} could be read once and not again: is the video being written?"
        ) from None


def _timed(detector: Detector, source: object) -> Iterator[tuple[Frame, Score | None, float]]:
    """Each frame, its score, and the seconds from asking for the frame to having its score."""
    detector.reset()
    frames: Iterator[Frame] = iter(source)  # type: ignore[call-overload]
    while True:
        begun = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        score = detector.push(frame)
        yield frame, score, time.perf_counter() - begun


class _Album:
    """The worst false alarm and the worst miss of one video so far, with their pictures."""

    def __init__(self, name: str, labels: NDArray[np.bool_] | None) -> None:
        self.name, self.labels = name, labels
        self._worst: dict[str, Finding] = {}

    @property
    def findings(self) -> list[Finding]:
        return list(self._worst.values())

    def consider(self, frame: Frame, score: Score, detector: Detector) -> None:
        if self.labels is None or score.index >= len(self.labels):
            return
        miss = bool(self.labels[score.index])
        kept = self._worst.get("miss" if miss else "false alarm")
        if kept is not None and (score.value >= kept.score if miss else score.value <= kept.score):
            return
        kind = "miss" if miss else "false alarm"
        self._worst[kind] = Finding(
            kind=kind,  # type: ignore[arg-type]
            video=self.name,
            frame=score.index,
            time_s=score.time_s,
            score=score.value,
            picture=frame.image.copy(),
            heat_map=detector.heat(),
        )
