"""Scores the files of an archive, one after the other, with a model that is loaded once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from comemory.cluster.archive_layout import Layout
from comemory.cluster.archive_results import ScoreFile, write_events
from comemory.cluster.archive_task import ArchiveSettings, Outcome, Task, result_name
from comemory.cluster.paths import OutputFolder, fetch_bundle, fetched
from comemory.detector import Detector, in_recording
from comemory.errors import BundleError, ComemoryError, mask_password
from comemory.parallel import score_frames
from comemory.scoring import EventFinder
from comemory.stages import Update
from comemory.types import JSON, Event

STALL_S = 300.0
"""A file that gives no frame for so long has stopped the decoder."""


class ArchiveScorer:
    """Scores tasks. Its detector is loaded once, and runs on one thread.

    Args:
        settings: of the archive.

    Raises:
        BundleError: the bundle is not the one that the driver opened. And what opening one raises.
    """

    def __init__(self, settings: ArchiveSettings) -> None:
        self._settings = settings
        self._out = OutputFolder(settings.out)
        self._layout = Layout(settings.layout)
        self._detector = Detector.open(
            fetch_bundle(settings.bundle),
            runtime=settings.runtime,
            precision=settings.precision,
            threads=1,
            flow_weights=settings.flow_weights,
            update=cast(Update, settings.update),
            skip_static=settings.gate,
        )
        bundle = self._detector.bundle
        if bundle.digest != settings.digest:
            raise BundleError(f"{bundle.path} is not the bundle that the run began with: start the run again")
        self._threshold = bundle.calibration.threshold(settings.false_alarms)

    def run(self, task: Task) -> Outcome:
        """Do a task. A file that cannot be scored is an outcome, not an error."""
        try:
            with _time_limit(self._settings.time_limit_s) as limit:
                return self._score_file(task, limit)
        except (ComemoryError, OSError) as error:
            return Outcome("failed", reason=" ".join(mask_password(str(error)).split()))

    def _score_file(self, task: Task, limit: _TimeLimit) -> Outcome:
        with fetched(task.video.path) as path:
            opened = self._detector.open_source(path)
            name = result_name(task.video.path)
            recording = self._layout.read(task.video.path)
            events: list[Event] = []
            n_scored, highest, duration_s = 0, None, 0.0
            sampler = self._detector.source_sampler(path.name)
            finder = EventFinder(name, self._threshold, self._detector.bundle.calibration.settings)
            with (
                self._out.writing(f"scores/{name}.parquet") as beside,
                ScoreFile(beside, task.video.path, recording) as table,
            ):
                for frame, scored in score_frames(self._detector, opened, sampler=sampler):
                    limit.extend()
                    score = None if scored is None else in_recording(scored, opened)
                    table.add(frame.index, frame.time_s, score)
                    duration_s = frame.time_s
                    if score is not None:
                        n_scored += 1
                        highest = score.value if highest is None else max(highest, score.value)
                        if (event := finder.update(score)) is not None:
                            events.append(event)
                if (event := finder.finish()) is not None:
                    events.append(event)
                problems = [problem.replace(str(path), mask_password(task.video.path)) for problem in opened.problems]
                if not n_scored:
                    needed = self._detector.bundle.clips.n_past + 1
                    problems.append(
                        f"{mask_password(task.video.path)}: no frame could be scored: {table.n_rows} were read, "
                        f"{needed} in a row are needed"
                    )
                record: JSON = {
                    "source": task.video.path,
                    "etag": task.video.etag,
                    "key": task.key,
                    "bundle": self._settings.digest,
                    "result": name,
                    "camera": recording.camera,
                    "started_at": None if recording.started_at is None else recording.started_at.isoformat(),
                    "frames": table.n_rows,
                    "scored": n_scored,
                    "duration_s": duration_s,
                    "highest_score": highest,
                    "events": len(events),
                    "problems": problems,
                }
                # The events come first: a file of scores says that the video is done.
                with self._out.writing(f"events/{name}.parquet") as events_file:
                    write_events(events_file, events, task.video.path, recording, self._threshold)
                table.finish(record)
        return Outcome("done", record=record, n_frames=table.n_rows)


class _TimeLimit:
    """An alarm of the system, which ends this process: a decoder that hangs would never look at a flag.

    Args:
        limit_s: for the whole.
    """

    def __init__(self, limit_s: float) -> None:
        self._end_s = time.monotonic() + limit_s
        self.extend()

    def extend(self) -> None:
        """There is progress: the next `STALL_S` are free, up to the limit."""
        left_s = self._end_s - time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, min(max(left_s, 0.001), STALL_S))


@contextmanager
def _time_limit(limit_s: float) -> Iterator[_TimeLimit]:
    try:
        yield _TimeLimit(limit_s)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
