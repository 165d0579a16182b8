"""Sources to tables, events and annotated video: what `comemory score` writes."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.decision import EventFinder
from comemory.detect import Detector, scaled_box
from comemory.errors import ComemoryError, SourceError, mask_password
from comemory.outputs import require_folder, require_writable, write_text
from comemory.types import Event, Frame, Score
from comemory.video.annotate import annotate
from comemory.video.source import OpenedSource, open_source, source_name
from comemory.video.writer import VideoWriter, save_picture

COLUMNS = ("source", "frame", "time_s", "score", "appearance", "motion", "event")
N_HISTORY = 2000


@dataclass
class Scored:
    """What became of the sources.

    Attributes:
        n_frames: read, of all sources.
        events: of all sources, in order.
        pictures: of each event, None where there is none.
        problems: one line for each source or frame that could not be used.
        files: what was written.
    """

    n_frames: int = 0
    events: list[Event] = field(default_factory=list)
    pictures: list[Path | None] = field(default_factory=list)
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

    Rows go into `scores.csv.part` as soon as it is known which event a frame belongs to, one whole line at a time, so
    that a process that is killed leaves a table that can be read. It gets its name at the end; so it does, beside an
    `events.json` that names the interruption, when an error or Ctrl-C ends the run. A half annotated video is removed.

    Raises:
        ConfigError: the budget cannot be read, an output cannot be written or would overwrite an input; before any work.
        SourceError: writing failed on the way, such as on a full disk.
    """
    threshold = detector.bundle.calibration.threshold(false_alarms)
    sources = [_path_of(source) for source in sources]
    names = _names(sources)
    if (out / "events").exists():
        require_folder(out / "events")
    for name in ("scores.csv", "events.json", *(f"{name}.mp4" for name in names if video)):
        require_writable(out / name, inputs=sources)
    result = Scored()
    with _writing(out):
        try:
            with _table(out / "scores.csv") as table:
                for name, location in zip(names, sources, strict=True):
                    try:
                        opened = detector.open_source(location, rate_hz)
                        on_source(name, opened.n_frames)
                        watch = _Watch(detector, opened, location, name, threshold, out, table, result, sources)
                        watch.run(video, on_frame)
                    except SourceError as error:
                        result.problems.append(str(error))
        except KeyboardInterrupt:
            result.problems.append(f"interrupted after {result.n_frames} frames; the rest is not scored")
            raise
        finally:
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
        inputs: Sequence[str],
    ) -> None:
        self.detector, self.opened, self.location, self.name = detector, opened, location, name
        self.threshold, self.out, self.table, self.result, self.inputs = threshold, out, table, result, inputs
        self.finder = EventFinder(name, threshold, detector.bundle.calibration.settings)
        self.waiting: deque[tuple[int, float, Score | None]] = deque()
        self.peak: tuple[int, NDArray[np.uint8], Score] | None = None
        self.n_frames = self.n_scored = 0

    def run(self, video: bool, on_frame: Callable[[], None]) -> None:
        self.detector.reset()
        film = _Film(self) if video else None
        try:
            with ExitStack() as stack:
                if film is not None:
                    stack.enter_context(film)
                for frame in self.opened:
                    score = self.detector.push(frame)
                    if score is not None:
                        score = replace(score, box=scaled_box(score.box, frame.image.shape, self.opened.size))
                    picture = frame.image if film is None else film.recorded(frame)
                    self._take(frame, score, picture)
                    if film is not None:
                        film.show(frame, score, picture)
                    on_frame()
        finally:
            self._finish()
        if film is not None:
            self.result.files.append(film.path)

    def as_recorded(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture of the detector's size at the size of the recording, to which boxes belong."""
        size = self.opened.size
        if size is None or picture.shape[:2] == size:
            return picture
        return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)

    def _take(self, frame: Frame, score: Score | None, picture: NDArray[np.uint8]) -> None:
        self.result.n_frames += 1
        self.n_frames += 1
        self.waiting.append((frame.index, frame.time_s, score))
        if score is not None:
            self.n_scored += 1
            if (event := self.finder.push(score)) is not None:
                self._end(event)
        held = self.finder.open
        if held is None or (score is not None and self.finder.active):
            self._write_rows(held)
        if held is not None and held.peak_frame == frame.index and score is not None:
            self.peak = (frame.index, picture, replace(score, heat_map=self.detector.heat()))

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
            path = self.out / "events" / f"{self.name}-{event.peak_frame:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            _, picture, score = self.peak
            drawn = annotate(self.as_recorded(picture), score, threshold=self.threshold, event=True)
            save_picture(drawn, path, inputs=self.inputs)
            self.result.pictures[-1] = path
            self.result.files.append(path)

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

    def show(self, frame: Frame, score: Score | None, picture: NDArray[np.uint8]) -> None:
        """Write the next frame with what is known of it."""
        active = self.watch.finder.active and score is not None
        if score is not None:
            score = replace(score, heat_map=self.watch.detector.heat())
            self.history.append((score.value, active))
        drawn = annotate(
            picture,
            score,
            threshold=self.watch.threshold,
            history=list(self.history),
            event=active,
            time_s=frame.time_s,
        )
        if self._writer is None:
            size = (drawn.shape[0], drawn.shape[1])
            self._writer = VideoWriter(self.path, size, self.watch.opened.rate_hz, inputs=self.watch.inputs)
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
            return self.watch.as_recorded(frame.image)
        return native.image


def _path_of(source: str) -> str:
    """The path in a `file://` URL; all else as it is."""
    return unquote(urlsplit(source).path) if source.lower().startswith("file://") else source


def _names(sources: Sequence[str]) -> list[str]:
    """A name of its own for each source, for tables and file names."""
    names: list[str] = []
    for source in sources:
        name = chosen = source_name(source)
        number = 2
        while chosen in names:
            chosen, number = f"{name}-{number}", number + 1
        names.append(chosen)
    return names


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """A CSV writer of whole lines; what was written is kept under the final name even when the run breaks off."""
    passing = path.with_suffix(".csv.part")
    file = passing.open("w", buffering=1, newline="", encoding="utf-8")
    try:
        with file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            yield writer
    finally:
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
    events = [
        {
            "event": number,
            **asdict(event),
            "picture": None if picture is None else picture.relative_to(path.parent).as_posix(),
        }
        for number, (event, picture) in enumerate(zip(result.events, result.pictures, strict=True), 1)
    ]
    document = {
        "bundle": detector.bundle.path.name,
        "bundle_sha256": detector.bundle.digest,
        "false_alarms": false_alarms,
        "threshold": round(threshold, 6),
        "frames": result.n_frames,
        "events": events,
        "problems": result.problems,
    }
    write_text(path, json.dumps(document, indent=1) + "\n")
