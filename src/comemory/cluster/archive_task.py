"""One file of an archive as a task for a worker, and its outcome: small, and nothing but JSON between processes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Literal, Self

from comemory.cluster.paths import InputFile
from comemory.errors import mask_password
from comemory.runtimes import CPU
from comemory.types import JSON
from comemory.video.formats import VIDEO_SUFFIXES
from comemory.video.source import source_name

FORMAT = 1
"""Of the results. Another one is scored anew."""


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """How every file of an archive is scored.

    Attributes:
        bundle: path or URL.
        digest: of the bundle.
        out: path or URL of the folder of the results.
        runtime: that executes the network.
        precision: a definite one: with `auto` two kinds of CPU would give two kinds of scores.
        update: see `detector.Detector`.
        gate: see `skip_static` there.
        flow_weights: see there.
        false_alarms: budget of the events.
        layout: see `archive_layout.Layout`.
        split_s: length of a segment, seconds; files of at least twice this length are split, 0 splits none.
        warm_up_s: seconds before a segment that are scored to bring the detector into the state of one run.
        time_limit_s: seconds after which a file is given up.
        device: that executes the network, on every worker.
    """

    bundle: str
    digest: str
    out: str
    runtime: str
    precision: str
    update: str
    gate: bool
    flow_weights: str | None
    false_alarms: str
    layout: str | None
    split_s: float
    warm_up_s: float
    time_limit_s: float
    device: str = CPU

    def key(self, video: InputFile) -> str:
        """What a result depends on, as a short digest: a result with this key need not be made again."""
        parts = {
            name: value
            for name, value in asdict(self).items()
            # Where things lie, how long they may take and how they are spread changes no result.
            if name not in ("bundle", "out", "flow_weights", "split_s", "warm_up_s", "time_limit_s")
        }
        text = json.dumps([FORMAT, parts, video.path, video.etag], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class FileSegment:
    """A part of a long file.

    Attributes:
        number: from 0.
        count: of the file's segments.
        key_frame: index of the key frame at which its warm-up begins.
        key_stamp: time stamp of that frame, in the stream's own units.
        first: index of its first frame that counts.
        end: one past the index of its last one; None at the end of the file.
        origin_s: time of the file's first frame on the stream's clock, seconds.
    """

    number: int
    count: int
    key_frame: int
    key_stamp: int
    first: int
    end: int | None
    origin_s: float


@dataclass(frozen=True, slots=True)
class ArchiveTask:
    """What a worker does next.

    Attributes:
        kind: `file` scores a file, `segment` a part of a long one, `join` joins the segments of one.
        video: the file.
        key: see `ArchiveSettings.key`.
        segment: of a `segment`.
        n_segments: of a `join`.
        in_one_piece: do not split the file.
    """

    kind: Literal["file", "segment", "join"]
    video: InputFile
    key: str
    segment: FileSegment | None = None
    n_segments: int = 0
    in_one_piece: bool = False

    @property
    def label(self) -> str:
        """The file for people: without secrets."""
        part = "" if self.segment is None else f" (segment {self.segment.number + 1} of {self.segment.count})"
        return f"{mask_password(self.video.path)}{part}"

    def to_json(self) -> str:
        """The task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The task from its line."""
        values = json.loads(text)
        segment = values.pop("segment")
        video = InputFile(**values.pop("video"))
        return cls(**values, video=video, segment=None if segment is None else FileSegment(**segment))


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What became of a task.

    Attributes:
        status: `done`; `failed`, for the reason; `long`, a file to be split; `differs`, segments that do not fit together.
        record: of the video, as the manifest has it, where the file is done.
        reason: why it failed, one line.
        is_temporary: whether it failed for a reason that may pass, such as a store that does not answer.
        n_frames: that were scored.
        segments: of a long file.
        digests: of the evidence in a segment's first seconds, and in the first seconds after its end.
    """

    status: Literal["done", "failed", "long", "differs"]
    record: JSON = field(default_factory=dict)
    reason: str = ""
    is_temporary: bool = False
    n_frames: int = 0
    segments: tuple[FileSegment, ...] = ()
    digests: tuple[str, str] = ("", "")

    def to_json(self) -> str:
        """The outcome as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The outcome from its line."""
        values = json.loads(text)
        segments = tuple(FileSegment(**one) for one in values.pop("segments"))
        return cls(**values | {"digests": tuple(values["digests"])}, segments=segments)


def result_name(path: str) -> str:
    """The name of a video's results: readable, and unique by its path.

    >>> result_name("s3://bucket/gate/3.mp4")
    '3c/bucket_gate_3-3c4a748209fc'
    """
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
    stem = source_name(path)
    suffix = PurePosixPath(stem).suffix
    stem = stem.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else stem
    return f"{digest[:2]}/{stem[-60:]}-{digest[:12]}"


def segment_name(path: str, number: int) -> str:
    """The name of the file with the scores of one segment of a video."""
    return f"segments/{result_name(path)}/{number:04d}.parquet"
