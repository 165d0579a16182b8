"""Scores the files of an archive, one after the other, with a model that is loaded once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from comemory.bundle import Bundle
from comemory.cluster.archive_layout import Layout, RecordingPath
from comemory.cluster.archive_results import ScoreFile, read_record, read_scores, write_events
from comemory.cluster.archive_task import (
    ArchiveSettings,
    ArchiveTask,
    FileSegment,
    TaskOutcome,
    result_name,
    segment_name,
)
from comemory.cluster.paths import OutputFolder, fetch_bundle, fetch_file
from comemory.cluster.seams import N_CHECKED, SeamDigest, SegmentSource, plan_segments
from comemory.detector import Detector, score_in_recording_pixels
from comemory.errors import BundleError, ComemoryError, SourceError, TemporaryError, mask_password
from comemory.parallel import score_frames
from comemory.scoring import EventFinder
from comemory.stages import Update
from comemory.types import JSON, Event, Score

STALL_S = 300.0
"""Seconds without a frame after which the decoder is taken to hang."""


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
            device=settings.device,
            threads=1,
            flow_weights=settings.flow_weights,
            update=cast(Update, settings.update),
            skip_static=settings.gate,
        )
        bundle = self._detector.bundle
        if bundle.digest != settings.digest:
            raise BundleError(f"{bundle.path} is not the bundle that the run began with: start the run again")
        self._threshold = bundle.calibration.threshold(settings.false_alarms)

    def run(self, task: ArchiveTask) -> TaskOutcome:
        """Do a task. A file that cannot be scored is an outcome, not an error: the next one may be a good one."""
        place = task.video.path
        try:
            with _foreign_errors(), _time_limit(self._settings.time_limit_s) as limit:
                if task.kind == "join":
                    return self._join(task, limit)
                with fetch_file(task.video.path) as path:
                    place = str(path)
                    if task.segment is not None:
                        return self._score_segment(task, task.segment, path, limit)
                    if self._settings.split_s and not task.in_one_piece:
                        segments = plan_segments(path, self._settings.split_s, self._settings.warm_up_s)
                        if segments:
                            return TaskOutcome("long", segments=segments)
                    return self._score_file(task, path, limit)
        except (ComemoryError, OSError) as error:
            text = str(error).replace(place, task.video.path)
            return TaskOutcome("failed", reason=_one_line(text), is_temporary=isinstance(error, TemporaryError))

    def _score_file(self, task: ArchiveTask, path: Path, limit: _TimeLimit) -> TaskOutcome:
        detector = self._detector
        opened = detector.open_source(path)
        shown = mask_password(task.video.path)
        sampler = detector.source_sampler(shown)
        with self._result(task) as result:
            for frame, scored in score_frames(detector, opened, sampler=sampler):
                limit.extend()
                result.add(
                    frame.index, frame.time_s, None if scored is None else score_in_recording_pixels(scored, opened)
                )
            problems = [problem.replace(str(path), shown) for problem in opened.problems]
            record = result.finish(problems, sampler.notes)
        return TaskOutcome("done", record=record, n_frames=result.n_frames)

    def _score_segment(self, task: ArchiveTask, segment: FileSegment, path: Path, limit: _TimeLimit) -> TaskOutcome:
        """Score a segment into a file of its own, with its warm-up before it, and a few frames after it for the digest."""
        detector, rate_hz = self._detector, self._detector.bundle.calibration.rate_hz
        clips = detector.bundle.clips
        source = SegmentSource(path, segment, (clips.flow_height, clips.flow_width), rate_hz)
        opened = source.video
        before, after = SeamDigest(), SeamDigest()
        n_frames, end = 0, segment.end
        name = segment_name(task.video.path, segment.number)
        try:
            with self._out.writing(name) as beside, ScoreFile(beside, task.video.path, None) as table:
                sampler = source.sampler(rate_hz)
                sampler.name = mask_password(task.video.path)
                frames = score_frames(detector, source, sampler=sampler)
                for frame, scored in frames:
                    limit.extend()
                    if scored is not None:
                        scored = replace(scored, score=score_in_recording_pixels(scored, opened))
                    if segment.first <= frame.index < segment.first + N_CHECKED:
                        before.add(frame.index, scored)
                    if end is not None and frame.index >= end:
                        after.add(frame.index, scored)
                    elif frame.index >= segment.first:
                        table.add(frame.index, frame.time_s, None if scored is None else scored.score)
                        n_frames += 1
                table.finish({"notes": sampler.notes})
        except SourceError as error:
            return TaskOutcome("differs", reason=str(error))
        if opened.problems:
            return TaskOutcome("differs", reason=opened.problems[0])
        return TaskOutcome("done", n_frames=n_frames, digests=(before.hexdigest(), after.hexdigest()))

    def _join(self, task: ArchiveTask, limit: _TimeLimit) -> TaskOutcome:
        """Put the segments of a file together, and find its events."""
        notes: list[str] = []
        with self._result(task) as result:
            for number in range(task.n_segments):
                with self._out.reading(segment_name(task.video.path, number)) as path:
                    for index, time_s, score in read_scores(path):
                        limit.extend()
                        if index != result.n_frames:
                            return TaskOutcome("differs", reason=f"frame {result.n_frames} is missing in its segments")
                        result.add(index, time_s, score)
                    # The sampler of the last segment has had the times of all frames.
                    notes = (read_record(path) or {}).get("notes", [])
            record = result.finish([], notes)
        for number in range(task.n_segments):
            self._out.delete(segment_name(task.video.path, number))
        return TaskOutcome("done", record=record)

    @contextmanager
    def _result(self, task: ArchiveTask) -> Iterator[_Result]:
        """The result of a video, which appears in the folder if the context ends well."""
        recording = self._layout.read(task.video.path)
        name = result_name(task.video.path)
        with (
            self._out.writing(f"scores/{name}.parquet") as beside,
            ScoreFile(beside, task.video.path, recording) as table,
        ):
            yield _Result(self._out, self._detector.bundle, self._threshold, task, recording, table)


class _Result:
    """The scores and events of one video while they are made.

    Attributes:
        n_frames: so far.
    """

    def __init__(
        self,
        out: OutputFolder,
        bundle: Bundle,
        threshold: float,
        task: ArchiveTask,
        recording: RecordingPath,
        table: ScoreFile,
    ) -> None:
        self._out, self._bundle, self._threshold = out, bundle, threshold
        self._task, self._recording, self._table = task, recording, table
        self._name = result_name(task.video.path)
        self._finder = EventFinder(self._name, threshold, bundle.calibration.settings)
        self._events: list[Event] = []
        self._n_scored, self._duration_s = 0, 0.0
        self._highest: float | None = None

    @property
    def n_frames(self) -> int:
        """Frames so far."""
        return self._table.n_rows

    def add(self, index: int, time_s: float, score: Score | None) -> None:
        """Add the next frame."""
        self._table.add(index, time_s, score)
        self._duration_s = time_s
        if score is None:
            return
        self._n_scored += 1
        self._highest = score.value if self._highest is None else max(self._highest, score.value)
        if (event := self._finder.update(score)) is not None:
            self._events.append(event)

    def finish(self, problems: list[str], notes: list[str]) -> JSON:
        """Write the events, and return the record of the video."""
        if (event := self._finder.finish()) is not None:
            self._events.append(event)
        video, n_frames = self._task.video, self.n_frames
        if not self._n_scored:
            needed = self._bundle.clips.n_past + 1
            text = f"no frame could be scored: {n_frames} were read, {needed} in a row are needed"
            problems = [*problems, f"{mask_password(video.path)}: {text}"]
        started_at = self._recording.started_at
        record: JSON = {
            "source": video.path,
            "etag": video.etag,
            "key": self._task.key,
            "bundle": self._bundle.digest,
            "result": self._name,
            "camera": self._recording.camera,
            "started_at": None if started_at is None else started_at.isoformat(),
            "frames": n_frames,
            "scored": self._n_scored,
            "duration_s": self._duration_s,
            "highest_score": self._highest,
            "events": len(self._events),
            "problems": problems,
            "notes": notes,
        }
        # The events come first: a file of scores says that the video is done.
        with self._out.writing(f"events/{self._name}.parquet") as path:
            write_events(path, self._events, video.path, self._recording, self._threshold)
        self._table.finish(record)
        return record


@contextmanager
def _foreign_errors() -> Iterator[None]:
    """Wrap what a library raises over a file that it does not expect: it must not end the worker."""
    try:
        yield
    except (ComemoryError, OSError):
        raise
    except Exception as error:
        raise SourceError(f"{type(error).__name__}: {error}") from error


def _one_line(text: str) -> str:
    return " ".join(mask_password(text).split())


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
