"""The scoring of several sources, one after the other, and their tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from comemory.batch.score_file import BatchResult, Outputs, SourceScorer
from comemory.detector import Detector
from comemory.errors import BundleError, ComemoryError, SourceError
from comemory.files import require_writable_file, require_writable_folder, write_text
from comemory.video.source import source_name

COLUMNS = ("source", "frame", "time_s", "score", "appearance", "motion", "event")


def score_sources(
    detector: Detector,
    sources: Sequence[str],
    out: Path,
    *,
    false_alarms: str | None = None,
    video: bool = False,
    rate_hz: float | None = None,
    workers: int = 1,
    on_source: Callable[[str, int | None], None] = lambda name, n_frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> BatchResult:
    """Score sources one after the other. A source that fails is reported in `problems`, and the others are scored.

    Writes `scores.csv` and `events.json` into `out`, an image of every event's peak into `out/events`, and with `video`
    an annotated mp4 of each source.

    Rows go into `scores.csv.part` as soon as it is known which event a frame belongs to, one whole line at a time. So a
    process that is killed leaves a readable table. The file is renamed at the end, also when an error or Ctrl-C ends the
    run; `events.json` then names the interruption. An unfinished annotated video is removed. If no frame could
    be read, such as after a mistyped name, nothing is written and the results of the previous run stay; else its images are
    removed.

    Args:
        detector: scores nothing else meanwhile.
        sources: paths or URLs.
        out: folder of the outputs.
        false_alarms: budget that sets the threshold of events; None takes the default of the model.
        video: also write annotated videos.
        rate_hz: frames per second of sources that do not say.
        workers: cores to score on; see `parallel.score_frames`.
        on_source: called with the name and the number of frames of each source, before it is scored.
        on_frame: called after each frame.

    Raises:
        ConfigError: the budget cannot be read, an output cannot be written or would overwrite an input; before any work.
        SourceError: writing failed, such as on a full disk.
    """
    false_alarms = false_alarms or detector.bundle.default_budget
    threshold = detector.bundle.calibration.threshold(false_alarms)
    sources = [_path_of(source) for source in sources]
    names = _names(sources)
    if (out / "events").exists():
        require_writable_folder(out / "events")
    for name in ("scores.csv", "events.json", *(f"{name}.mp4" for name in names if video)):
        require_writable_file(out / name, inputs=sources)
    result = BatchResult(false_alarms=false_alarms)
    with _writing(out):
        before = _pictures(out / "events.json")
        try:
            with _table(out / "scores.csv", result) as table:
                for name, location in zip(names, sources, strict=True):
                    try:
                        opened = detector.open_source(location, rate_hz)
                        on_source(name, opened.n_frames)
                        outputs = Outputs(out, table, result, sources)
                        scorer = SourceScorer(detector, opened, location, name, threshold, outputs)
                        scorer.run(video, workers, on_frame)
                    except (SourceError, BundleError) as error:
                        result.problems.append(str(error))
        except KeyboardInterrupt:
            result.problems.append(f"interrupted after {result.n_frames} frames; the rest is not scored")
            raise
        finally:
            if result.n_frames:
                _write_events(out / "events.json", detector, result, threshold, false_alarms)
                inputs = {Path(source).resolve() for source in sources}
                for picture in before.difference(result.images):
                    if inputs.isdisjoint((picture.resolve(), *picture.resolve().parents)):
                        picture.unlink(missing_ok=True)
    if result.n_frames:
        result.files = [out / "scores.csv", out / "events.json", *result.files]
    return result


def _path_of(source: str) -> str:
    """The path of a `file://` URL; anything else unchanged."""
    return unquote(urlsplit(source).path) if source.lower().startswith("file://") else source


def _names(sources: Sequence[str]) -> list[str]:
    """A unique name for each source, for tables and file names."""
    names: list[str] = []
    for source in sources:
        name = chosen = source_name(source)
        number = 2
        while chosen in names:
            chosen, number = f"{name}-{number}", number + 1
        names.append(chosen)
    return names


@contextmanager
def _table(path: Path, result: BatchResult) -> Iterator[Any]:
    """A CSV writer of whole lines. The file gets its final name at the end, also when the run breaks off; without rows, none."""
    passing = path.with_suffix(".csv.part")
    file = passing.open("w", buffering=1, newline="", encoding="utf-8")
    try:
        with file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            yield writer
    finally:
        if result.n_frames:
            passing.replace(path)
        else:
            passing.unlink(missing_ok=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except ComemoryError:
        raise
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error.strerror or error}") from None


def _pictures(path: Path) -> set[Path]:
    """The images of the previous run, as its `events.json` lists them: files of its own folder only."""
    try:
        named = [event["picture"] for event in json.loads(path.read_text(encoding="utf-8"))["events"]]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    folder = path.parent / "events"
    return {folder / Path(name).name for name in named if isinstance(name, str) and name.startswith("events/")}


def _write_events(path: Path, detector: Detector, result: BatchResult, threshold: float, false_alarms: str) -> None:
    events = [
        {
            "event": number,
            **asdict(event),
            "picture": None if image is None else image.relative_to(path.parent).as_posix(),
        }
        for number, (event, image) in enumerate(zip(result.events, result.images, strict=True), 1)
    ]
    document = {
        "bundle": detector.bundle.path.name,
        "bundle_sha256": detector.bundle.digest,
        "precision": detector.bundle.precision,
        "false_alarms": false_alarms,
        "threshold": round(threshold, 6),
        "frames": result.n_frames,
        "highest_score": result.highest_score,
        "event_at": result.event_at,
        "events": events,
        "problems": result.problems,
        "notes": result.notes,
    }
    write_text(path, json.dumps(document, indent=1) + "\n")
