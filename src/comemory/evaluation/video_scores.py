"""The model and the control over every video of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from comemory.detector import Detector, Seen
from comemory.errors import ComemoryError, DatasetError, EvaluationError
from comemory.evaluation.localisation import Places, find_places
from comemory.evaluation.motion_baseline import control_scores
from comemory.evaluation.report import Finding
from comemory.parallel import watch
from comemory.scoring import EventFinder, peak
from comemory.types import Event, LabelledSource, Score

Control = Callable[[LabelledSource, float], Mapping[int, float]]
"""The control's score of every frame of a video that has one, by frame; it is given the frames per second too."""


@dataclass(frozen=True, eq=False)
class Alarms:
    """What a threshold makes of the scores of one video.

    Shapes:
        high, up: bool (n_scored,), which scores make an event, and at which an alarm is up: one goes up when its event is long
            enough to count.
    """

    events: Sequence[Event]
    high: NDArray[np.bool_]
    up: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class VideoScores:
    """One video as the model and the control scored it.

    Shapes:
        frames: int (n_scored,), which frames have a score; the index of a frame is the index of its label.
        time_s, score, thesis, control: float64 (n_scored,).
        raw: float64 (n_scored, n_channels), the largest patch of each channel before it is scaled.
        labels: bool (n_frames,) of all frames; None when not known.

    Attributes:
        rate_hz: frames per second, as the video states it or as it was given.
        alarms: by budget.
        channels: of the decision, motion first.
        wall_s: seconds that the model took, reading included.
        places: what the score maps come to; None without masks.
    """

    name: str
    n_frames: int
    rate_hz: float
    frames: NDArray[np.int64]
    time_s: NDArray[np.float64]
    score: NDArray[np.float64]
    thesis: NDArray[np.float64]
    control: NDArray[np.float64]
    channels: tuple[str, ...]
    raw: NDArray[np.float64]
    labels: NDArray[np.bool_] | None
    alarms: Mapping[str, Alarms]
    wall_s: float
    places: Places | None = None
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def scored_labels(self) -> NDArray[np.bool_] | None:
        """The labels of the scored frames."""
        return None if self.labels is None else self.labels[self.frames]

    def of_all_frames(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What is said of scored frames as bool (n_frames,), False of the others."""
        whole = np.zeros(self.n_frames, np.bool_)
        whole[self.frames] = flags
        return whole


def score_video(
    detector: Detector,
    video: LabelledSource,
    thresholds: Mapping[str, float],
    rate_hz: float,
    *,
    pictures: bool,
    workers: int = 1,
    control: Control | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> VideoScores:
    """Score a video with the model, then with the control.

    Args:
        thresholds: of the events, by budget.
        rate_hz: frames per second where the source does not say.
        pictures: keep the worst false alarm and the worst miss with their heat maps.
        workers: cores to score on; see `pipeline.watch`.
        control: where the control's scores come from; None takes them anew.

    Raises:
        SourceError: the video cannot be opened. DatasetError: its labels do not fit its frames.
        EvaluationError: the control, which reads the video once more, found other frames in it.
    """
    source = detector.open_source(video.source, rate_hz)
    album = _Album(video.name, video.labels if pictures else None)
    seen = _Watched(detector, album, with_maps=video.mask is not None)
    for one, seconds in _timed(watch(detector, source, workers)):
        seen.add(one, seconds)
        on_frame()
    problems = [*source.problems, *_extra_labels(video, seen.n_frames)]
    controls = control(video, rate_hz) if control else dict(control_scores(video.source, rate_hz))
    frames = np.array([score.index for score in seen.scores], np.int64)
    settings = detector.bundle.calibration.settings
    return VideoScores(
        name=video.name,
        n_frames=seen.n_frames,
        rate_hz=float(source.rate_hz or rate_hz),
        frames=frames,
        time_s=np.array([score.time_s for score in seen.scores], np.float64),
        score=np.array([score.value for score in seen.scores], np.float64),
        thesis=np.array(seen.thesis, np.float64),
        control=_at(controls, frames, video.name),
        channels=seen.channels,
        raw=np.array(seen.raw, np.float64).reshape(len(frames), len(seen.channels)),
        labels=None if video.labels is None else video.labels[: seen.n_frames],
        alarms={
            budget: _alarms(EventFinder(video.name, threshold, settings), seen.scores)
            for budget, threshold in thresholds.items()
        },
        wall_s=seen.wall_s,
        places=_places(video, seen, problems),
        findings=album.findings,
        problems=problems,
    )


def _alarms(finder: EventFinder, scores: Sequence[Score]) -> Alarms:
    events: list[Event] = []
    high, up = np.zeros((2, len(scores)), np.bool_)
    for i, score in enumerate(scores):
        events += [ended] if (ended := finder.push(score)) else []
        high[i], up[i] = finder.high, finder.active
    events += [ended] if (ended := finder.finish()) else []
    return Alarms(events, high, up)


class _Watched:
    """What the detector says of one video, frame by frame; for each scored frame its map too, if asked for."""

    def __init__(self, detector: Detector, album: _Album, *, with_maps: bool) -> None:
        settings = detector.bundle.calibration.settings
        self.detector, self.album, self.with_maps = detector, album, with_maps
        self.channels = (*settings.motion, *settings.appearance)
        self.n_frames, self.wall_s = 0, 0.0
        self.scores: list[Score] = []
        self.thesis: list[float] = []
        self.raw: list[list[float]] = []
        self.score_maps: dict[int, NDArray[np.float16]] = {}

    def add(self, seen: Seen, seconds: float) -> None:
        self.n_frames, self.wall_s = seen.frame.index + 1, self.wall_s + seconds
        if seen.score is None or seen.judgement is None:
            return
        self.scores.append(seen.score)
        self.thesis.append(seen.judgement.thesis)
        self.raw.append([peak(seen.maps, channel).value for channel in self.channels])
        if self.with_maps:
            self.score_maps[seen.frame.index] = self.detector.score_map(seen.maps).astype(np.float16)
        self.album.consider(seen, seen.score, self.detector)


def _extra_labels(video: LabelledSource, n_frames: int) -> list[str]:
    """What to say of labels without frames. Raises DatasetError where frames have no labels."""
    if video.labels is None or len(video.labels) == n_frames:
        return []
    if len(video.labels) < n_frames:
        raise DatasetError(
            f"{video.name}: {len(video.labels)} labels for {n_frames} frames: the labels belong to another video"
        )
    return [f"{video.name}: {len(video.labels)} labels but {n_frames} frames could be read; the rest is not judged"]


def _places(video: LabelledSource, seen: _Watched, problems: list[str]) -> Places | None:
    """The places of a video; None without masks, or with masks that cannot be used, which is a problem."""
    if video.mask is None or not seen.scores:
        return None
    try:
        return find_places(video, seen.n_frames, seen.score_maps)
    except ComemoryError as error:
        problems.append(f"{video.name}: no part in the figures of places: {error}")
        return None


def _at(control: Mapping[int, float], frames: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    try:
        return np.array([control[int(i)] for i in frames], np.float64)
    except KeyError as error:
        raise EvaluationError(
            f"{name}: frame {error} could be read once and not again: is the video being written?"
        ) from None


def _timed(frames: Generator[Seen, None, None]) -> Iterator[tuple[Seen, float]]:
    """Each frame with its score, and the seconds from asking for it to having it."""
    with closing(frames):
        while True:
            begun = time.perf_counter()
            seen = next(frames, None)
            if seen is None:
                return
            yield seen, time.perf_counter() - begun


class _Album:
    """The worst false alarm and the worst miss of one video so far, with their pictures."""

    def __init__(self, name: str, labels: NDArray[np.bool_] | None) -> None:
        self.name, self.labels = name, labels
        self._worst: dict[str, Finding] = {}

    @property
    def findings(self) -> list[Finding]:
        return list(self._worst.values())

    def consider(self, seen: Seen, score: Score, detector: Detector) -> None:
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
            picture=seen.frame.image.copy(),
            heat_map=detector.heat(seen.maps),
        )
