"""Sources to tables, events and annotated video: what `comemory score` writes."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from comemory.decision import EventFinder
from comemory.detect import Detector, scaled_box
from comemory.errors import ComemoryError, SourceError
from comemory.types import Event, Frame, Score
from comemory.video.annotate import annotate
from comemory.video.source import OpenedSource, open_source
from comemory.video.writer import VideoWriter, save_picture

COLUMNS = ("source", "frame", "time_s", "score", "appearance", "motion", "event")
N_HISTORY = 2000


@dataclass
class Scored:
    """What became of the sources.

    Attributes:
        n_frames: read, of all sources.
        events: of all sources, in order.
        problems: one line for each source or frame that could not be used.
        files: what was written.
    """

    n_frames: int = 0
    events: list[Event] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def score_sources(
    detector: Detector,
    sources: Sequence[str],
    out: Path,
    *,
    false_alarms: str = "1/h",
    video: bool = False,
    rate_hz: float | None = None,
    on_source: Callable[[str, int | None], None] = lambda name, n_frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> Scored:
    """Score sources one after the other; one that fails is named and the rest is done.

    Writes `scores.csv` and `events.json` into `out`, a picture of every event's peak into `out/events`, and with
    `video` an annotated mp4 for each source.

    Raises:
        ConfigError: the budget cannot be read, or an output would overwrite an input.
        SourceError: `out` cannot be written.
    """
    threshold = detector.bundle.calibration.threshold(false_alarms)
    result = Scored()
    with _writing(out), ExitStack() as stack:
        out.mkdir(parents=True, exist_ok=True)
        table = stack.enter_context(_table(out / "scores.csv"))
        names: set[str] = set()
        for location in sources:
            try:
                opened = detector.open_source(location, rate_hz)
                name = _unique(opened.name, names)
                on_source(name, opened.n_frames)
                watch = _Watch(detector, opened, location, name, threshold, out, table, result)
                watch.run(video, on_frame)
            except SourceError as error:
                result.problems.append(str(error))
        _write_events(out / "events.json", detector, result, threshold, false_alarms)
    result.files = [out / "scores.csv", out / "events.json", *result.files]
    return result


class _Watch:
    """One source being scored."""

    def __init__(
        self,
        detector: Detector,
        opened: OpenedSource,
        location: str,
        name: str,
        threshold: float,
        out: Path,
        table: Any,
        result: Scored,
    ) -> None:
        self.detector, self.opened, self.location, self.name = detector, opened, location, name
        self.threshold, self.out, self.table, self.result = threshold, out, table, result
        self.finder = EventFinder(name, threshold, detector.bundle.calibration.settings)
        self.waiting: deque[tuple[int, float, Score | None]] = deque()
        self.peak: tuple[int, NDArray[np.uint8], Score] | None = None

    def run(self, video: bool, on_frame: Callable[[], None]) -> None:
        self.detector.reset()
        with ExitStack() as stack:
            film = stack.enter_context(_Film(self)) if video else None
            for frame in self.opened:
                score = self.detector.push(frame)
                if score is not None:
                    score = replace(score, box=scaled_box(score.box, frame.image.shape, self.opened.size))
                self._take(frame, score)
                if film is not None:
                    film.show(frame, score)
                on_frame()
        if (event := self.finder.finish()) is not None:
            self._end(event)
        self._write_rows(None)
        self.result.problems += self.opened.problems
        if film is not None:
            self.result.files.append(film.path)

    def _take(self, frame: Frame, score: Score | None) -> None:
        self.result.n_frames += 1
        self.waiting.append((frame.index, frame.time_s, score))
        if score is None:
            return
        if (event := self.finder.push(score)) is not None:
            self._end(event)
        held = self.finder.open
        if held is None:
            self._write_rows(None)
        elif held.peak_frame == frame.index:
            self.peak = (frame.index, frame.image, replace(score, heat_map=self.detector.heat()))

    def _end(self, event: Event) -> None:
        self.result.events.append(event)
        self._write_rows(event)
        if self.peak is not None and self.peak[0] == event.peak_frame:
            path = self.out / "events" / f"{self.name}-{event.peak_frame:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            _, image, score = self.peak
            boxed = replace(score, box=scaled_box(score.box, self.opened.size or image.shape, image.shape))
            save_picture(annotate(image, boxed, threshold=self.threshold, event=True), path)
            self.result.files.append(path)

    def _write_rows(self, event: Event | None) -> None:
        """Write the frames whose event is decided: all that wait, or with an event those up to its end."""
        number = len(self.result.events)
        while self.waiting and (event is None or self.waiting[0][0] <= event.end_frame):
            index, time_s, score = self.waiting.popleft()
            inside = event is not None and event.start_frame <= index
            numbers = (
                ("", "", "")
                if score is None
                else tuple(f"{x:.6f}" for x in (score.value, score.appearance, score.motion))
            )
            self.table.writerow((self.name, index, f"{time_s:.6f}", *numbers, number if inside else ""))


class _Film:
    """The annotated video of one source, at the size it was recorded in."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch
        self.path = watch.out / f"{watch.name}.mp4"
        self.history: deque[tuple[float, bool]] = deque(maxlen=N_HISTORY)
        self._writer: VideoWriter | None = None
        self._native: Iterator[Frame] | None = None
        if watch.opened.size is not None:
            self._native = iter(open_source(watch.location, rate_hz=watch.opened.rate_hz))

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, traceback)

    def show(self, frame: Frame, score: Score | None) -> None:
        """Write the next frame with what is known of it."""
        active = self.watch.finder.active and score is not None
        if score is not None:
            score = replace(score, heat_map=self.watch.detector.heat())
            self.history.append((score.value, active))
        picture = annotate(
            self._recorded(frame),
            score,
            threshold=self.watch.threshold,
            history=list(self.history),
            event=active,
            time_s=frame.time_s,
        )
        if self._writer is None:
            size = (picture.shape[0], picture.shape[1])
            self._writer = VideoWriter(self.path, size, self.watch.opened.rate_hz, inputs=[self.watch.location])
            self._writer.__enter__()
        self._writer.write(picture, frame.time_s)

    def _recorded(self, frame: Frame) -> NDArray[np.uint8]:
        """The same frame at its own size, where the source can be read a second time."""
        try:
            native = next(self._native, None) if self._native is not None else None
        except SourceError:
            native = None
        if native is None or native.index != frame.index:
            self._native = None
            return frame.image
        return native.image


def _unique(name: str, names: set[str]) -> str:
    chosen, number = name, 2
    while chosen in names:
        chosen, number = f"{name}-{number}", number + 1
    names.add(chosen)
    return chosen


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """A CSV writer; what was written is kept under the final name even when the run breaks off."""
    passing = path.with_suffix(".csv.part")
    file: IO[str]
    with passing.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        try:
            yield writer
        finally:
            file.flush()
            passing.replace(path)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except ComemoryError:
        raise
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error.strerror or error}") from None


def _write_events(path: Path, detector: Detector, result: Scored, threshold: float, false_alarms: str) -> None:
    document = {
        "bundle": detector.bundle.path.name,
        "bundle_sha256": detector.bundle.digest,
        "false_alarms": false_alarms,
        "threshold": round(threshold, 6),
        "events": [{"event": number, **asdict(event)} for number, event in enumerate(result.events, 1)],
        "problems": result.problems,
    }
    passing = path.with_suffix(".json.part")
    passing.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    passing.replace(path)
