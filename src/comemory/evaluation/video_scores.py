"""The model and the motion baseline on one video of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from comemory.detector import Detector, ScoredFrame
from comemory.errors import ComemoryError, DatasetError, EvaluationError
from comemory.evaluation.authors_score import authors_score, authors_score_weights, numbers_of
from comemory.evaluation.localisation import Localisation, localise
from comemory.evaluation.motion_baseline import motion_baseline_scores
from comemory.evaluation.report import FindingKind, WorstFrame
from comemory.parallel import Result, score_frames
from comemory.scoring import EventFinder, find_peak, has_score_map, score_map, thesis_peak
from comemory.types import Event, Frame, LabelledSource, Score
from comemory.video.frame_sampler import SourceSampler

MotionBaseline = Callable[[LabelledSource, float, float], Mapping[int, float]]
"""Gives the motion baseline's scores of a video by frame index, from the video, its frames per second where it does not
state them, and those of the training, to which it is resampled."""


@dataclass(frozen=True, eq=False)
class VideoAlarms:
    """The events of one video at one threshold.

    Shapes:
        above_threshold: bool (n_scored,), which scores belong to an event by themselves; the others between its first and
            its last frame only join them.
        alarm_open: bool (n_scored,), when an alarm is open: from the frame at which its event is long enough to count.
    """

    events: Sequence[Event]
    above_threshold: NDArray[np.bool_]
    alarm_open: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameScores:
    """One score for each frame of a video that has one.

    Shapes:
        frames: int (n_scored,), which frames have a score, rising; the index of a frame is the index of its label.
        score: float64 (n_scored,), higher is more abnormal.
        labels: bool (n_frames,) of all frames, True where abnormal; None when not known.
        motion_baseline: float64 (n_scored,); None when it was not computed.
        own: float64 (n_scored,), the score of the model's authors, see `evaluation.authors_score`; None where it has none.
    """

    name: str
    n_frames: int
    frames: NDArray[np.int64]
    score: NDArray[np.float64]
    labels: NDArray[np.bool_] | None
    motion_baseline: NDArray[np.float64] | None = None
    own: NDArray[np.float64] | None = None

    @property
    def scored_labels(self) -> NDArray[np.bool_] | None:
        """The labels of the scored frames."""
        return None if self.labels is None else self.labels[self.frames]

    def on_all_frames(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Spread flags of the scored frames over all frames: bool (n_frames,), False where there is no score."""
        whole = np.zeros(self.n_frames, np.bool_)
        whole[self.frames] = flags
        return whole


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoScores(FrameScores):
    """One video as the model and the motion baseline scored it.

    Shapes:
        time_s: float64 (n_scored,).
        thesis: float64 (n_scored,), Eq. (16) of the thesis; None where the model does not give the evidence for it.
        raw: float64 (n_scored, n_channels), the largest patch of each channel before calibration.

    Attributes:
        rate_hz: frames per second without gaps, as the video states it or as it was given where that is right.
        alarms: by budget.
        channels: names of the channels, motion first.
        wall_s: seconds that the model took, reading the video included.
        has_score_map: whether the score tells where in the frame it is high; not where it is one number a frame.
        localisation: score maps compared with the masks; None without masks or maps.
        findings: the highest-scoring normal frame and the lowest-scoring abnormal one, when images were asked for.
        problems: one line for each frame or file that could not be used.
        notes: one line each on the times of the frames, such as a gap; see `video.frame_sampler`.
    """

    rate_hz: float
    time_s: NDArray[np.float64]
    thesis: NDArray[np.float64] | None
    channels: tuple[str, ...]
    raw: NDArray[np.float64]
    alarms: Mapping[str, VideoAlarms]
    wall_s: float
    has_score_map: bool = True
    localisation: Localisation | None = None
    findings: list[WorstFrame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def score_video(
    detector: Detector,
    video: LabelledSource,
    thresholds: Mapping[str, float],
    rate_hz: float,
    *,
    images: bool,
    workers: int = 1,
    motion_baseline: MotionBaseline | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> VideoScores:
    """Score a video with the model, then with the motion baseline.

    A frame that is left out because frames come faster than in training has the score of the sample before it. It does
    not count for an alarm, which needs `min_frames` samples, as everywhere else.

    Args:
        detector: opened; it is used for this video alone while this runs.
        video: with its labels and masks, where there are any.
        thresholds: of the events, by false-alarm budget.
        rate_hz: frames per second where the source does not state them.
        images: store the highest-scoring normal frame and the lowest-scoring abnormal one, with their heat maps.
        workers: cores to score on; see `comemory.parallel`.
        motion_baseline: where the baseline's scores come from; None computes them.
        on_frame: called after every frame.

    Raises:
        SourceError: the video cannot be opened.
        DatasetError: its labels do not fit its frames.
        EvaluationError: the baseline, which reads the video a second time, found other frames in it.
    """
    source = detector.open_source(video.source, rate_hz)
    worst = _WorstFrames(video, detector) if images else None
    sampler = detector.source_sampler(video.name)
    seen = _Collector(detector, worst, sampler, with_maps=video.mask is not None)
    for (frame, scored), seconds in _timed(score_frames(detector, source, workers, sampler=sampler)):
        seen.add(frame, scored, seconds)
        on_frame()
    problems = [*source.problems, *_extra_labels(video, seen.n_frames)]
    trained_hz = detector.bundle.calibration.rate_hz
    if motion_baseline is not None:
        baseline = motion_baseline(video, rate_hz, trained_hz)
    else:
        baseline = dict(motion_baseline_scores(video.source, rate_hz, trained_hz))
    frames = np.array([score.index for score in seen.scores], np.int64)
    settings = detector.bundle.calibration.settings
    return VideoScores(
        name=video.name,
        n_frames=seen.n_frames,
        rate_hz=float(sampler.mean_rate(source.rate_hz or rate_hz)),
        frames=frames,
        time_s=np.array([score.time_s for score in seen.scores], np.float64),
        score=np.array([score.value for score in seen.scores], np.float64),
        thesis=np.array(seen.thesis, np.float64) if seen.has_thesis_score else None,
        own=seen.authors_score(),
        motion_baseline=_at_frames(baseline, frames, video.name),
        channels=seen.channels,
        raw=np.array(seen.raw, np.float64).reshape(len(frames), len(seen.channels)),
        labels=None if video.labels is None else video.labels[: seen.n_frames],
        alarms={
            budget: _alarms(EventFinder(video.name, threshold, settings), seen)
            for budget, threshold in thresholds.items()
        },
        wall_s=seen.wall_s,
        has_score_map=seen.has_score_map,
        localisation=_localisation(video, seen, problems),
        findings=worst.findings() if worst else [],
        problems=problems,
        notes=sampler.notes,
    )


def _alarms(finder: EventFinder, seen: _Collector) -> VideoAlarms:
    """The events of the samples; a frame between two samples is as the one before it."""
    events: list[Event] = []
    high, up = np.zeros((2, len(seen.samples)), np.bool_)
    for i, score in enumerate(seen.samples):
        events += [ended] if (ended := finder.update(score)) else []
        high[i], up[i] = finder.extends_event, finder.is_confirmed
    events += [ended] if (ended := finder.finish()) else []
    return VideoAlarms(events, high[seen.sample_of], up[seen.sample_of])


class _Collector:
    """Collects the scores of one video, frame by frame, and the score maps if asked for.

    Attributes:
        scores: of every frame that has one.
        samples: those among them that were computed; the others repeat the one before.
        sample_of: for each score, the number of its sample.
    """

    def __init__(
        self, detector: Detector, worst: _WorstFrames | None, sampler: SourceSampler, *, with_maps: bool
    ) -> None:
        settings = detector.bundle.calibration.settings
        self.detector, self.worst, self.sampler, self.with_maps = detector, worst, sampler, with_maps
        self.channels = (*settings.motion, *settings.appearance)
        self.n_frames, self.wall_s, self.newest_sample_s = 0, 0.0, 0.0
        self.scores: list[Score] = []
        self.samples: list[Score] = []
        self.sample_of: list[int] = []
        self.thesis: list[float] = []
        runs_network = detector.stages.runs_network
        self.has_thesis_score = runs_network and detector.bundle.calibration.has_thesis_score
        self.authors_weights = authors_score_weights(detector.bundle) if runs_network else {}
        self.authors_numbers: list[list[float]] = []
        self.raw: list[list[float]] = []
        self.has_score_map = True
        self.score_maps: dict[int, NDArray[np.float16]] = {}

    def add(self, frame: Frame, scored: ScoredFrame | None, seconds: float) -> None:
        self.n_frames, self.wall_s = frame.index + 1, self.wall_s + seconds
        if scored is None:
            self._hold(frame)
            return
        clips, calibration = self.detector.bundle.clips, self.detector.bundle.calibration
        self.newest_sample_s = frame.time_s
        self.scores.append(scored.score)
        self.sample_of.append(len(self.samples))
        self.samples.append(scored.score)
        if self.has_thesis_score:
            self.thesis.append(thesis_peak(scored.evidence, calibration).value)
        self.authors_numbers.append(numbers_of(scored.evidence, self.authors_weights))
        self.raw.append([find_peak(scored.evidence.maps, channel).value for channel in self.channels])
        self.has_score_map = has_score_map(scored.evidence, calibration.settings)
        if self.with_maps and self.has_score_map:
            found = score_map(scored.evidence, calibration, clips.height, clips.width)
            self.score_maps[frame.index] = found.astype(np.float16)
        if self.worst is not None:
            self.worst.update(scored)

    def authors_score(self) -> NDArray[np.float64] | None:
        """The score of the model's authors for the frames so far; None where the model has none."""
        if not self.authors_weights:
            return None
        numbers = np.array(self.authors_numbers, np.float64).reshape(-1, len(self.authors_weights))
        return authors_score(numbers, self.authors_weights)

    def _hold(self, frame: Frame) -> None:
        """Repeat the newest score for a frame that was left out between two samples."""
        if not self.sampler.leaves_out_frames or not self.scores:
            return
        newest = self.scores[-1]
        if frame.time_s - self.newest_sample_s >= 0.95 * self.sampler.interval_s:
            return  # the clip is filling again after a gap
        self.scores.append(replace(newest, index=frame.index, time_s=frame.time_s))
        self.sample_of.append(self.sample_of[-1])
        self.thesis += self.thesis[-1:]
        self.authors_numbers.append(self.authors_numbers[-1])
        self.raw.append(self.raw[-1])
        if newest.index in self.score_maps:
            self.score_maps[frame.index] = self.score_maps[newest.index]


def _extra_labels(video: LabelledSource, n_frames: int) -> list[str]:
    """Return a problem for labels without frames.

    Raises:
        DatasetError: there are frames without labels.
    """
    if video.labels is None or len(video.labels) == n_frames:
        return []
    if len(video.labels) < n_frames:
        raise DatasetError(
            f"{video.name}: {len(video.labels)} labels for {n_frames} frames: the labels belong to another video"
        )
    return [
        f"{video.name}: {len(video.labels)} labels but {n_frames} frames could be read; the remaining labels are not used"
    ]


def _localisation(video: LabelledSource, seen: _Collector, problems: list[str]) -> Localisation | None:
    """Compare score maps with masks; None without one of them. Masks that cannot be used are added to the problems."""
    if video.mask is None or not seen.scores or not seen.has_score_map:
        return None
    try:
        return localise(video, seen.n_frames, seen.score_maps)
    except ComemoryError as error:
        problems.append(f"{video.name}: left out of the localisation metrics: {error}")
        return None


def _at_frames(scores: Mapping[int, float], frames: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    try:
        return np.array([scores[int(i)] for i in frames], np.float64)
    except KeyError as error:
        raise EvaluationError(
            f"{name}: frame {error} was readable for the model but not for the motion baseline: "
            "is the video still being written?"
        ) from None


def _timed(frames: Generator[Result, None, None]) -> Iterator[tuple[Result, float]]:
    """Yield each frame with its score, and the seconds that it took."""
    with closing(frames):
        while True:
            begun = time.perf_counter()
            seen = next(frames, None)
            if seen is None:
                return
            yield seen, time.perf_counter() - begun


class _WorstFrames:
    """Stores the highest-scoring normal frame and the lowest-scoring abnormal frame of one video so far."""

    def __init__(self, video: LabelledSource, detector: Detector) -> None:
        self._video, self._detector = video, detector
        self._worst: dict[FindingKind, WorstFrame] = {}

    def findings(self) -> list[WorstFrame]:
        """Return what was found, the true outline of an abnormal frame added."""
        return [replace(finding, mask=self._mask(finding)) for finding in self._worst.values()]

    def update(self, scored: ScoredFrame) -> None:
        """Store a frame if it is worse than the one stored."""
        labels, score = self._video.labels, scored.score
        if labels is None or score.index >= len(labels):
            return
        kind: FindingKind = "miss" if labels[score.index] else "false alarm"
        stored = self._worst.get(kind)
        if stored is not None and (score.value >= stored.score if kind == "miss" else score.value <= stored.score):
            return
        self._worst[kind] = WorstFrame(
            kind=kind,
            video=self._video.name,
            frame=score.index,
            time_s=score.time_s,
            score=score.value,
            image=scored.frame.image.copy(),
            heat_map=self._detector.heat_map(scored),
        )

    def _mask(self, finding: WorstFrame) -> NDArray[np.bool_] | None:
        if finding.kind != "miss" or self._video.mask is None:
            return None
        try:
            return self._video.mask(finding.frame)
        except ComemoryError:
            return None  # Named among the problems already: localisation reads every mask.
