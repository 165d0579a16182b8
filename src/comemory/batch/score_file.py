"""One source being scored: its rows as soon as they are decided, its events, and their pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.batch.annotated_video import Film, enlarged
from comemory.detector import Detector, Seen, as_recorded
from comemory.errors import SourceError, mask_password
from comemory.parallel import watch
from comemory.scoring import EventFinder
from comemory.types import Event, Score
from comemory.video.overlay import annotate
from comemory.video.source import OpenedSource, open_source
from comemory.video.writer import save_picture


@dataclass
class Scored:
    """What became of the sources.

    Attributes:
        n_frames: read, of all sources.
        events: of all sources, in order.
        pictures: of each event, None where there is none.
        problems: one line for each source or frame that could not be used.
        files: what was written.
        highest: score of all frames; None before there is one.
    """

    n_frames: int = 0
    events: list[Event] = field(default_factory=list)
    pictures: list[Path | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    highest: float | None = None


@dataclass(frozen=True)
class Outputs:
    """Where everything goes.

    Attributes:
        table: takes the rows.
        inputs: files that are never to be overwritten.
    """

    out: Path
    table: Any
    result: Scored
    inputs: Sequence[str]


class Watching:
    """One source being scored.

    Args:
        opened: the source at the detector's size. location: where it can be read again as it was recorded.
        name: in the tables.
        threshold: of the events.
    """

    def __init__(
        self, detector: Detector, opened: OpenedSource, location: str, name: str, threshold: float, outputs: Outputs
    ) -> None:
        self.detector, self.opened, self.location, self.name = detector, opened, location, name
        self.threshold, self.outputs, self.result = threshold, outputs, outputs.result
        self.finder = EventFinder(name, threshold, detector.bundle.calibration.settings)
        self.waiting: deque[tuple[int, float, Score | None]] = deque()
        self.peak: tuple[int, NDArray[np.uint8], Score] | None = None
        self.n_frames = self.n_scored = 0
        self.small: dict[int, tuple[Path, Score]] = {}

    def run(self, video: bool, workers: int, on_frame: Callable[[], None]) -> None:
        """Score the source from its start to its end.

        Raises:
            SourceError: it broke off; what was scored until then is written.
        """
        try:
            with ExitStack() as stack:
                film = stack.enter_context(self._film()) if video else None
                seen_frames = watch(self.detector, self.opened, workers)
                stack.callback(seen_frames.close)
                for seen in seen_frames:
                    score = None if seen.score is None else as_recorded(seen.score, seen.frame, self.opened)
                    picture = seen.frame.image if film is None else film.recorded(seen.frame)
                    self._take(seen, score, picture)
                    if film is not None:
                        heat = None if score is None else self.detector.heat(seen.maps)
                        film.show(seen.frame, score, heat, picture, self.finder.active)
                    on_frame()
        finally:
            self._finish()
        if film is not None:
            self.result.files.append(film.path)
        else:
            self._take_pictures_again()

    def _film(self) -> Film:
        path = self.outputs.out / f"{self.name}.mp4"
        return Film(path, self.opened, self.location, self.threshold, self.outputs.inputs)

    def _take(self, seen: Seen, score: Score | None, picture: NDArray[np.uint8]) -> None:
        index = seen.frame.index
        self.result.n_frames += 1
        self.n_frames += 1
        self.waiting.append((index, seen.frame.time_s, score))
        if score is not None:
            self.n_scored += 1
            highest = self.result.highest
            self.result.highest = score.value if highest is None else max(highest, score.value)
            if (event := self.finder.push(score)) is not None:
                self._end(event)
        held = self.finder.open
        if held is None or (score is not None and self.finder.active):
            self._write_rows(held)
        if held is not None and held.peak_frame == index and score is not None:
            self.peak = (index, picture, replace(score, heat_map=self.detector.heat(seen.maps)))

    def _finish(self) -> None:
        """Decide what is still open, whether the source came to its end or broke off."""
        if (event := self.finder.finish()) is not None:
            self._end(event)
        self._write_rows(None)
        self.result.problems += self.opened.problems
        if self.n_frames and not self.n_scored:
            least = self.detector.bundle.clips.n_past + 1
            shown = mask_password(self.location)
            self.result.problems.append(
                f"{shown}: no frame could be scored: {self.n_frames} were read, {least} in a row are needed"
            )

    def _end(self, event: Event) -> None:
        """Take an event that is over; its rows were written while it lasted."""
        self.result.events.append(event)
        self.result.pictures.append(None)
        if self.peak is not None and self.peak[0] == event.peak_frame:
            path = self.outputs.out / "events" / f"{self.name}-{event.peak_frame:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            _, picture, score = self.peak
            self._save(enlarged(picture, self.opened.size), score, path)
            if picture.shape[:2] != self.opened.size:
                self.small[event.peak_frame] = (path, score)
            self.result.pictures[-1] = path
            self.result.files.append(path)

    def _save(self, picture: NDArray[np.uint8], score: Score, path: Path) -> None:
        drawn = annotate(picture, score, threshold=self.threshold, event=True)
        save_picture(drawn, path, inputs=self.outputs.inputs)

    def _take_pictures_again(self) -> None:
        """The peaks as they were recorded, where the source can be read a second time: nobody reads a face in 192x128."""
        if not self.small or "://" in self.location:
            return
        try:
            for frame in open_source(self.location, rate_hz=self.opened.rate_hz):
                if (found := self.small.pop(frame.index, None)) is not None:
                    self._save(frame.image, found[1], found[0])
                if not self.small:
                    return
        except SourceError:
            return

    def _write_rows(self, event: Event | None) -> None:
        """Write the frames that are decided: those up to the end so far of the event that is on; without one, all."""
        number = len(self.result.events) + 1
        while self.waiting and (event is None or self.waiting[0][0] <= event.end_frame):
            index, time_s, score = self.waiting.popleft()
            inside = event is not None and event.start_frame <= index
            numbers = (
                ("", "", "")
                if score is None
                else tuple(f"{x:.6f}" for x in (score.value, score.appearance, score.motion))
            )
            self.outputs.table.writerow((self.name, index, f"{time_s:.6f}", *numbers, number if inside else ""))
