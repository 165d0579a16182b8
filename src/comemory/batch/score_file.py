"""The scoring of one source: its rows as soon as they are final, its events, and their images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.batch.annotated_video import AnnotatedVideo, enlarge
from comemory.detector import Detector, ScoredFrame, score_in_recording_pixels
from comemory.errors import SourceError, mask_password
from comemory.parallel import score_frames
from comemory.scoring import DEFAULT_FALSE_ALARMS, EventFinder, parse_budget
from comemory.scoring.budgets import BUDGETS
from comemory.types import Event, Frame, Score
from comemory.video.overlay import draw_score
from comemory.video.source import OpenedSource, open_source
from comemory.video.writer import save_image


@dataclass
class BatchResult:
    """The result of scoring several sources.

    Attributes:
        n_frames: that were read, of all sources.
        events: of all sources, in order.
        images: of each event's peak; None where there is none.
        problems: one line for each source or frame that could not be used.
        notes: one line each on the times of a source, such as a gap, and how it was scored.
        files: that were written.
        highest_score: of all frames; None before there is one.
        false_alarms: the budget of the events.
        event_at: the smallest of the common budgets at which there would be an event; None where none of them gives one.
    """

    n_frames: int = 0
    events: list[Event] = field(default_factory=list)
    images: list[Path | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    highest_score: float | None = None
    false_alarms: str = DEFAULT_FALSE_ALARMS
    event_at: str | None = None


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    Attributes:
        out: folder of all files.
        table: CSV writer of the rows.
        result: is added to.
        inputs: files that must not be overwritten.
    """

    out: Path
    table: Any
    result: BatchResult
    inputs: Sequence[str]


class BudgetTrials:
    """Finds the smallest of the common false-alarm budgets at which a source has an event.

    Args:
        detector: that scores the source.
        name: of the source.
    """

    def __init__(self, detector: Detector, name: str) -> None:
        calibration = detector.bundle.calibration
        # From the most alarms to the fewest: as soon as a budget has an event, only the smaller ones are of interest.
        self._left = [
            (budget, EventFinder(name, calibration.threshold(budget), calibration.settings))
            for budget in reversed(BUDGETS)
        ]
        self.smallest: str | None = None

    def update(self, score: Score) -> None:
        """Add the next score."""
        found = -1
        for number, (_, finder) in enumerate(self._left):
            finder.update(score)
            if finder.is_confirmed:
                found = number
        if found >= 0:
            self.smallest = self._left[found][0]
            del self._left[: found + 1]


class SourceScorer:
    """Scores one source.

    Args:
        detector: scores nothing else meanwhile.
        opened: the source at the detector's size.
        location: where the source can be read a second time, at its own size.
        name: of the source in tables and file names.
        threshold: of the events.
        outputs: where results go.
    """

    def __init__(
        self, detector: Detector, opened: OpenedSource, location: str, name: str, threshold: float, outputs: Outputs
    ) -> None:
        self._detector, self._opened, self._location, self._name = detector, opened, location, name
        self._threshold, self._outputs, self._result = threshold, outputs, outputs.result
        self._sampler = detector.source_sampler(Path(location).name if "://" not in location else name)
        self._finder = EventFinder(name, threshold, detector.bundle.calibration.settings)
        self._trials = BudgetTrials(detector, name)
        self._waiting: deque[tuple[int, float, Score | None]] = deque()
        self._peak: tuple[int, NDArray[np.uint8], Score] | None = None
        self._n_frames = self._n_scored = 0
        self._small: dict[int, tuple[Path, Score]] = {}

    def run(self, video: bool, workers: int, on_frame: Callable[[], None]) -> None:
        """Score the source from its start to its end.

        Args:
            video: also write the annotated video.
            workers: cores to score on.
            on_frame: called after each frame.

        Raises:
            SourceError: the source broke off; what was scored before that is written.
        """
        annotated: AnnotatedVideo | None = None
        try:
            with ExitStack() as stack:
                if video:
                    annotated = stack.enter_context(self._annotated_video())
                results = score_frames(self._detector, self._opened, workers, sampler=self._sampler)
                stack.callback(results.close)
                for frame, scored in results:
                    self._add(frame, scored, annotated)
                    on_frame()
        finally:
            self._finish()
        if annotated is not None:
            self._result.files.append(annotated.path)
        else:
            self._save_full_size_images()

    def _annotated_video(self) -> AnnotatedVideo:
        path = self._outputs.out / f"{self._name}.mp4"
        # At the trained rate a frame without a score comes a whole interval later, and shows none.
        hold_s = 0.95 * self._sampler.interval_s
        return AnnotatedVideo(path, self._opened, self._location, self._threshold, self._outputs.inputs, hold_s)

    def _add(self, frame: Frame, scored: ScoredFrame | None, annotated: AnnotatedVideo | None) -> None:
        image = frame.image if annotated is None else annotated.full_size(frame)
        self._result.n_frames += 1
        self._n_frames += 1
        score = None if scored is None else score_in_recording_pixels(scored, self._opened)
        self._waiting.append((frame.index, frame.time_s, score))
        if score is not None:
            self._add_score(score)
        event = self._finder.open_event
        if event is None or (score is not None and self._finder.is_confirmed):
            self._write_rows(event)
        if scored is not None and score is not None and event is not None and event.peak_frame == frame.index:
            self._peak = (frame.index, image, replace(score, heat_map=self._detector.heat_map(scored)))
        if annotated is not None:
            heat_map = None if scored is None else self._detector.heat_map(scored)
            annotated.write(frame, score, heat_map, image, self._finder.is_confirmed)

    def _add_score(self, score: Score) -> None:
        self._n_scored += 1
        highest = self._result.highest_score
        self._result.highest_score = score.value if highest is None else max(highest, score.value)
        self._trials.update(score)
        if (event := self._finder.update(score)) is not None:
            self._end(event)

    def _finish(self) -> None:
        """Write what is not final yet, whether the source ended or broke off."""
        if (event := self._finder.finish()) is not None:
            self._end(event)
        self._write_rows(None)
        self._result.problems += self._opened.problems
        self._result.notes += self._sampler.notes
        found = [budget for budget in (self._result.event_at, self._trials.smallest) if budget is not None]
        self._result.event_at = min(found, key=parse_budget, default=None)
        if self._n_frames and not self._n_scored:
            needed = self._detector.bundle.clips.n_past + 1
            self._result.problems.append(
                f"{mask_password(self._location)}: no frame could be scored: {self._n_frames} were read, "
                f"{needed} in a row are needed"
            )

    def _end(self, event: Event) -> None:
        """Add an event that is over; its rows were written while it lasted."""
        self._result.events.append(event)
        self._result.images.append(None)
        if self._peak is not None and self._peak[0] == event.peak_frame:
            path = self._outputs.out / "events" / f"{self._name}-{event.peak_frame:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            _, image, score = self._peak
            self._save(enlarge(image, self._opened.size), score, path)
            if image.shape[:2] != self._opened.size:
                self._small[event.peak_frame] = (path, score)
            self._result.images[-1] = path
            self._result.files.append(path)

    def _save(self, image: NDArray[np.uint8], score: Score, path: Path) -> None:
        drawn = draw_score(image, score, threshold=self._threshold, event=True, strip=False)
        save_image(drawn, path, inputs=self._outputs.inputs)

    def _save_full_size_images(self) -> None:
        """Replace the images of the peaks by full-size ones, where the source can be read a second time.

        Frames are decoded at the detector's size, in which no face can be recognised.
        """
        if not self._small or "://" in self._location:
            return
        try:
            for frame in open_source(self._location, rate_hz=self._opened.rate_hz):
                if (found := self._small.pop(frame.index, None)) is not None:
                    path, score = found
                    self._save(frame.image, score, path)
                if not self._small:
                    return
        except SourceError:
            return

    def _write_rows(self, event: Event | None) -> None:
        """Write the rows that are final: those up to the end so far of the open event; all rows without one."""
        number = len(self._result.events) + 1
        while self._waiting and (event is None or self._waiting[0][0] <= event.end_frame):
            index, time_s, score = self._waiting.popleft()
            inside = event is not None and event.start_frame <= index
            numbers = (
                ("", "", "")
                if score is None
                else tuple(f"{x:.6f}" for x in (score.value, score.appearance, score.motion))
            )
            self._outputs.table.writerow((self._name, index, f"{time_s:.6f}", *numbers, number if inside else ""))
