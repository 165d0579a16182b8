"""The driver of an archive: which videos are left, which worker scores which, what failed and how long it will take."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from comemory.bundle import open_bundle
from comemory.cluster.archive_layout import Layout
from comemory.cluster.archive_manifest import ALL, Manifest
from comemory.cluster.archive_pool import LocalPool, TaskReport, WorkerPool
from comemory.cluster.archive_results import require_parquet
from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask, TaskOutcome, result_name
from comemory.cluster.paths import InputFile, OutputFolder, fetch_bundle, list_input_videos, local_path
from comemory.cluster.seams import warm_up_s
from comemory.errors import ConfigError, TemporaryError, mask_password
from comemory.object_store import is_remote
from comemory.runtimes import CPU
from comemory.types import JSON

MAX_DEATHS = 3
"""Workers that may die over one file: nodes are lost, but a file that kills its worker each time must not do so for ever."""

MAX_AWAY = 20
"""Videos in a row that fail because a store does not answer, after which the run ends: each takes half a minute to fail."""

TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the workers are: the value of `--cluster`.

    Attributes:
        kind: `local`, `index` or `ray`.
        n_workers: processes on this machine; None on Ray: one for each of its cores.
        index: of this share, from 0.
        n_shares: in which the archive is divided.
        address: of Ray.
    """

    kind: str
    n_workers: int | None = None
    index: int = 0
    n_shares: int = 1
    address: str = ""

    @property
    def part(self) -> str:
        """The name of this share in the manifest."""
        return ALL if self.n_shares == 1 else f"{self.index:04d}-of-{self.n_shares:04d}"

    def includes(self, path: str) -> bool:
        """Whether a video belongs to this share: by its path alone, so that a new video moves no other one."""
        return int(hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest(), 16) % self.n_shares == self.index


def parse_cluster(text: str, n_workers: int | None = None) -> Cluster:
    """The value of `--cluster`.

    Args:
        text: `local:N`, `index:I/N`, `auto` or `ray://HOST:PORT`.
        n_workers: processes of one share of `index:I/N`.

    Raises:
        ConfigError: it is none of them.

    >>> parse_cluster("index:3/16").part
    '0003-of-0016'
    """
    if found := re.fullmatch(r"local:(\d+)", text):
        if not 1 <= int(found[1]) <= 1024:
            raise ConfigError(f"--cluster {text}: give 1 to 1024 processes")
        return Cluster("local", int(found[1]))
    if found := re.fullmatch(r"index:(\d+)/(\d+)", text):
        index, n_shares = int(found[1]), int(found[2])
        if n_shares == 0:
            raise ConfigError(f"--cluster {text}: give 1 share or more")
        if index >= n_shares:
            raise ConfigError(f"--cluster {text}: shares are numbered from 0 to {n_shares - 1}")
        return Cluster("index", n_workers or 1, index, n_shares)
    if text == "auto" or re.fullmatch(r"ray://[^\s/]+:\d+", text):
        return Cluster("ray", address=text)
    raise ConfigError(f"--cluster {text!r}: expected local:N, index:I/N, auto or ray://HOST:PORT")


@dataclass
class ArchiveResult:
    """What a run over an archive did.

    Attributes:
        n_videos: that it was asked for, of its share.
        n_skipped: that were done before.
        n_done: that it scored.
        n_split: of these, those that were scored in segments.
        n_frames: that it scored.
        n_events: in these.
        seconds: that it took.
        workers: in words.
        failures: source and reason of each video without a result, and whether that may pass.
        problems: one line for each video that was read in part.
        notes: one line each.
    """

    n_videos: int = 0
    n_skipped: int = 0
    n_done: int = 0
    n_split: int = 0
    n_frames: int = 0
    n_events: int = 0
    seconds: float = 0.0
    workers: str = ""
    failures: list[JSON] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def score_archive(
    sources: Sequence[str],
    cluster: Cluster,
    *,
    bundle: str,
    out: str,
    runtime: str = "openvino",
    precision: str = "auto",
    device: str = CPU,
    update: str = "off",
    gate: bool = True,
    flow_weights: Path | None = None,
    false_alarms: str | None = None,
    layout: str | None = None,
    split_s: float = 3600.0,
    time_limit_s: float = 6 * 3600.0,
    on_start: Callable[[str, int], None] = lambda name, total: None,
    on_file: Callable[[str], None] = lambda note: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> ArchiveResult:
    """Score the videos of an archive into Parquet files, each once; a second call does what is left.

    A file that fails is in `failures`, and in `failures.jsonl` beside the results; the others are scored.

    Args:
        sources: paths, URLs and patterns, see `paths.list_input_videos`.
        cluster: where the workers are.
        bundle: path or URL.
        out: path or URL of a folder.
        runtime: see `Detector`.
        precision: see `Detector`.
        device: see `Detector`; every worker has it.
        update: see `Detector`.
        gate: see `skip_static` of `Detector`.
        flow_weights: see `Detector`.
        false_alarms: budget of the events; None takes the default of the model.
        layout: see `archive_layout.Layout`.
        split_s: see `ArchiveSettings`.
        time_limit_s: see `ArchiveSettings`.
        on_start: called with a name and the number of videos left.
        on_file: called after each of them, with the rate and the time left.
        on_note: called with what is to be known before the scoring; it is in the notes too.

    Raises:
        ConfigError: a setting cannot be used, or the folder cannot be written.
        TemporaryError: a store does not answer, or another run writes into the folder.
        SourceError: a location names no video, or no worker can start.
        BundleError: the bundle cannot be opened.
    """
    began_s = time.monotonic()
    require_parquet()
    names = Layout(layout)
    folder = OutputFolder(out)
    folder.require_writable()
    settings = _settings(
        bundle=bundle,
        out=folder.location,
        runtime=runtime,
        precision=precision,
        device=device,
        update=update,
        gate=gate,
        flow_weights=None if flow_weights is None else str(flow_weights.absolute()),
        false_alarms=false_alarms,
        layout=layout,
        split_s=split_s,
        time_limit_s=time_limit_s,
    )
    every = list_input_videos(sources)
    videos = [video for video in every if cluster.includes(video.path)]
    result = ArchiveResult(n_videos=len(videos))
    if note := _layout_note(names, every):
        on_note(note)
        result.notes.append(note)
    with folder.locked(None if cluster.part == ALL else cluster.part):
        folder.delete_unfinished()
        _score(
            [ArchiveTask("file", one, settings.key(one)) for one in videos],
            folder,
            cluster,
            settings,
            result,
            on_start,
            on_file,
        )
    result.seconds = time.monotonic() - began_s
    return result


def _score(
    tasks: Sequence[ArchiveTask],
    folder: OutputFolder,
    cluster: Cluster,
    settings: ArchiveSettings,
    result: ArchiveResult,
    on_start: Callable[[str, int], None],
    on_file: Callable[[str], None],
) -> None:
    """Do the tasks that are not done, and write the manifest and the failures."""
    manifest = Manifest(folder, cluster.part)
    done = manifest.find_done(tasks)
    result.n_skipped = len(done)
    left = [task for task in tasks if task.video.path not in done]
    if left:
        on_start(f"{len(left)} of {len(tasks)} {'video' if len(tasks) == 1 else 'videos'}", len(left))
        pool = _open_pool(settings, cluster, len(left))
        result.workers = pool.description
        try:
            _Run(pool, folder, manifest, result, _Progress(left, on_file)).work(left)
        finally:
            pool.stop()
            manifest.flush()
    manifest.finish()
    _write_failures(folder, cluster, result)


def _layout_note(layout: Layout, videos: Sequence[InputFile]) -> str:
    """What is to be said of a template that does not fit all paths; empty where it does.

    Raises:
        ConfigError: it fits none.
    """
    others = [video.path for video in videos if not layout.fits(video.path)]
    if not others:
        return ""
    n_fit, n_videos = len(videos) - len(others), len(videos)
    text = f"the layout fits {n_fit} of {n_videos} {'path' if n_videos == 1 else 'paths'}"
    example = mask_password(others[0])
    if not n_fit:
        raise ConfigError(f"{text}: {layout.template!r} is not how {example} ends")
    return f"{text}; the others get the nearest folder as camera, and no time, such as {example}"


def _settings(
    *,
    bundle: str,
    precision: str,
    runtime: str,
    device: str,
    update: str,
    false_alarms: str | None,
    split_s: float,
    **values: object,
) -> ArchiveSettings:
    opened = open_bundle(fetch_bundle(bundle)).for_runtime(runtime, precision, device)
    budget = false_alarms or opened.default_budget
    warm_up = warm_up_s(opened)
    opened.calibration.threshold(budget)  # refuses a budget that cannot be read
    location = bundle if is_remote(bundle) else str(local_path(bundle))
    return ArchiveSettings(
        bundle=location,
        digest=opened.digest,
        runtime=runtime,
        precision=opened.precision,
        device=opened.network.device,
        false_alarms=budget,
        # A memory that is updated never forgets, and the background of objects does not either: one piece then.
        split_s=0.0 if warm_up is None or update != "off" else split_s,
        warm_up_s=warm_up or 0.0,
        update=update,
        **values,  # type: ignore[arg-type]
    )


def _open_pool(settings: ArchiveSettings, cluster: Cluster, n_tasks: int) -> WorkerPool:
    if cluster.kind == "ray":
        from comemory.cluster.archive_ray import RayPool

        return RayPool(settings, cluster.address, n_tasks)
    return LocalPool(settings, cluster.n_workers or 1)


def _write_failures(folder: OutputFolder, cluster: Cluster, result: ArchiveResult) -> None:
    """Write the videos without a result, and why; delete the list of the previous run if there is none."""
    name = f"failures/{cluster.part}.jsonl"
    if result.failures:
        lines = sorted(json.dumps(failure, sort_keys=True) for failure in result.failures)
        folder.write_bytes(name, "".join(line + "\n" for line in lines).encode())
        result.notes.append(f"the videos that failed are in {mask_password(folder.url(name))}")
    else:
        folder.delete(name)


class _Run:
    """Hands the tasks to the workers until none is left."""

    def __init__(
        self, pool: WorkerPool, folder: OutputFolder, manifest: Manifest, result: ArchiveResult, progress: _Progress
    ) -> None:
        self._pool, self._folder, self._manifest = pool, folder, manifest
        self._result, self._progress = result, progress
        self._waiting: deque[ArchiveTask] = deque()
        self._n_busy = 0
        self._n_deaths: dict[ArchiveTask, int] = {}
        self._split: dict[InputFile, _SplitVideo] = {}
        self._n_away = 0

    def work(self, tasks: Sequence[ArchiveTask]) -> None:
        """Do the tasks."""
        for task in tasks:
            if _is_utf8(task.video.path):
                self._waiting.append(task)
            else:
                self._fail(task, "its name is not UTF-8, as tables of results need it: rename it")
        while self._waiting or self._n_busy:
            while self._waiting and self._pool.n_idle():
                self._pool.start(self._waiting.popleft())
                self._n_busy += 1
            report = self._pool.next_report(TICK_S)
            if report is not None:
                self._n_busy -= 1
                self._handle(report)

    def _handle(self, report: TaskReport) -> None:
        task, outcome = report.task, report.outcome
        if outcome is None:
            self._handle_death(report)
        elif outcome.status == "long":
            self._split[task.video] = _SplitVideo(len(outcome.segments))
            tasks = [replace(task, kind="segment", segment=segment) for segment in outcome.segments]
            self._waiting.extendleft(reversed(tasks))
            self._pool.expect(len(self._waiting) + self._n_busy)
        elif outcome.status == "failed" and (task.kind == "file" or outcome.is_temporary):
            self._fail(task, outcome.reason, is_temporary=outcome.is_temporary)
        elif outcome.status != "done":
            self._score_whole(task, outcome.reason)
        elif task.kind == "segment":
            self._add_segment(task, outcome)
        else:
            self._finish(task, outcome)

    def _finish(self, task: ArchiveTask, outcome: TaskOutcome) -> None:
        split = self._split.pop(task.video, None)
        n_frames = outcome.record["frames"]
        self._manifest.add(outcome.record)
        self._result.n_done += 1
        self._result.n_split += split is not None
        self._result.n_frames += n_frames
        self._result.n_events += outcome.record["events"]
        self._result.problems += outcome.record["problems"]
        self._result.notes += outcome.record["notes"]
        self._n_away = 0
        self._progress.advance(task.video, n_frames)

    def _add_segment(self, task: ArchiveTask, outcome: TaskOutcome) -> None:
        """Join the segments when all are scored and fit together; score the video in one piece if they do not fit."""
        split = self._split.get(task.video)
        if split is None or task.segment is None:
            return  # the video is scored in one piece by now
        split.digests[task.segment.number] = outcome.digests
        if len(split.digests) < split.n_segments:
            return
        mismatch = split.first_mismatch()
        if mismatch is None:
            self._waiting.appendleft(replace(task, kind="join", segment=None, n_segments=split.n_segments))
        else:
            self._score_whole(task, f"its segments differ at seam {mismatch} of {split.n_segments - 1}")

    def _score_whole(self, task: ArchiveTask, reason: str) -> None:
        if self._split.pop(task.video, None) is None:
            return
        self._result.notes.append(f"{mask_password(task.video.path)}: scored in one piece: {reason}")
        self._waiting = deque(one for one in self._waiting if one.video != task.video)
        for name in self._folder.names(f"segments/{result_name(task.video.path)}"):
            self._folder.delete(name)
        self._waiting.append(ArchiveTask("file", task.video, task.key, in_one_piece=True))

    def _handle_death(self, report: TaskReport) -> None:
        if report.timed_out:
            self._fail(report.task, "the time limit ended it: the decoder hangs, or --time-limit is too short")
            return
        deaths = self._n_deaths[report.task] = self._n_deaths.get(report.task, 0) + 1
        if deaths >= MAX_DEATHS:
            self._fail(report.task, f"{report.reason}, {deaths} times")
        else:
            self._waiting.append(report.task)

    def _fail(self, task: ArchiveTask, reason: str, *, is_temporary: bool = False) -> None:
        if task.kind != "file" and self._split.pop(task.video, None) is None:
            return  # another segment of it has failed before
        self._waiting = deque(one for one in self._waiting if one.video != task.video)
        row = {"source": task.video.path, "etag": task.video.etag, "reason": reason, "is_temporary": is_temporary}
        self._result.failures.append(row)
        self._progress.advance(task.video, 0, failed=True)
        self._n_away = self._n_away + 1 if is_temporary else 0
        if self._n_away >= MAX_AWAY:
            raise TemporaryError(
                f"given up after {MAX_AWAY} videos in a row that could not be read or stored: {reason}"
            )


def _is_utf8(path: str) -> bool:
    """Whether a path can be written as UTF-8: file names may be any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


class _SplitVideo:
    """The segments of a long video that are scored.

    Attributes:
        n_segments: of the video.
        digests: by the number of the segment, see `TaskOutcome`.
    """

    def __init__(self, n_segments: int) -> None:
        self.n_segments = n_segments
        self.digests: dict[int, tuple[str, str]] = {}

    def first_mismatch(self) -> int | None:
        """The first seam, from 1, at which two segments do not give the same; None without one."""
        seams = range(1, self.n_segments)
        return next((seam for seam in seams if self.digests[seam - 1][1] != self.digests[seam][0]), None)


class _Progress:
    """Rate and time left, from the bytes of the videos, else from their number."""

    def __init__(self, tasks: Sequence[ArchiveTask], on_file: Callable[[str], None]) -> None:
        sizes = [task.video.size for task in tasks]
        self._total = float(sum(size or 0 for size in sizes)) if all(sizes) else float(len(tasks))
        self._by_size = all(sizes)
        self._on_file = on_file
        self._began_s = time.monotonic()
        self._done = 0.0
        self._n_frames = self._n_files = self._n_failed = 0

    def advance(self, video: InputFile, n_frames: int, *, failed: bool = False) -> None:
        """A video is done, or has failed."""
        self._done += (video.size or 0) if self._by_size else 1
        self._n_files += 1
        self._n_frames += n_frames
        self._n_failed += failed
        passed_s = max(time.monotonic() - self._began_s, 1e-9)
        left_s = passed_s * (self._total - self._done) / self._done if self._done else 0.0
        note = f"{self._n_files / passed_s:.2f} videos/s, {self._n_frames / passed_s:.0f} frames/s"
        failures = f", {self._n_failed} failed" if self._n_failed else ""
        self._on_file(f"{note}{failures}, {_clock(left_s)} left")


def _clock(seconds: float) -> str:
    """A duration for people.

    >>> _clock(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
