"""The Parquet files of an archive's results: two for each video, one row a frame and one row an event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from comemory.cluster.archive_layout import RecordingPath
from comemory.errors import RuntimeMissing, SourceError, install_hint
from comemory.types import JSON, Event, Score

ROWS = 65536
"""Rows of a group: those are held in memory before they are written."""

BOX = ("left", "top", "right", "bottom")
NEVER_NULL = ("source", "camera", "frame", "time_s")

META = b"comemory"
"""Key of the record of a video in the metadata of its file of scores."""


def require_parquet() -> None:
    """Check that Parquet can be written.

    Raises:
        RuntimeMissing: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise RuntimeMissing(f"Parquet files need pyarrow: {install_hint('archive')}") from None


def score_schema(*, of_segment: bool = False) -> Any:
    """Columns of a file of scores.

    Args:
        of_segment: of a part of a video: with boxes, of which its events are made later.
    """
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())
    constants = [("source", name), ("camera", name), ("started_at", pa.timestamp("us"))]
    numbers = [
        ("frame", pa.int32()),
        ("time_s", pa.float64()),
        ("score", pa.float64()),
        ("appearance", pa.float64() if of_segment else pa.float32()),
        ("motion", pa.float64() if of_segment else pa.float32()),
    ]
    boxes = [(side, pa.int32()) for side in BOX]
    columns = [*numbers, *boxes] if of_segment else [*constants, *numbers]
    return pa.schema([pa.field(*column, nullable=column[0] not in NEVER_NULL) for column in columns])


def event_schema() -> Any:
    """Columns of a file of events."""
    import pyarrow as pa

    numbers = ("start_frame", "end_frame", "peak_frame")
    times = ("start_s", "end_s", "peak_s", "peak_score", "threshold")
    return pa.schema(
        [
            pa.field("source", pa.string(), nullable=False),
            pa.field("camera", pa.string(), nullable=False),
            pa.field("started_at", pa.timestamp("us")),
            pa.field("event", pa.int32(), nullable=False),
            *(pa.field(name, pa.int32(), nullable=False) for name in numbers),
            *(pa.field(name, pa.float64(), nullable=False) for name in times),
            pa.field("box", pa.list_(pa.int32())),
        ]
    )


class ScoreFile:
    """Writes the scores of one video, in groups of rows: memory does not grow with the video. A context manager.

    Args:
        path: of the file.
        source: path or URL of the video.
        recording: its camera and time; None for a segment of it.
    """

    def __init__(self, path: Path, source: str, recording: RecordingPath | None) -> None:
        import pyarrow.parquet as pq

        self._schema = score_schema(of_segment=recording is None)
        self._source, self._recording = source, recording
        self._rows: list[tuple[float | None, ...]] = []
        floats = dict.fromkeys(("time_s", "score", "appearance", "motion"), "BYTE_STREAM_SPLIT")
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            use_dictionary=False if recording is None else ["source", "camera", "started_at"],
            column_encoding={"frame": "DELTA_BINARY_PACKED", **floats},
        )
        self.n_rows = 0

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, frame: int, time_s: float, score: Score | None) -> None:
        """Add the row of the next frame; without a score its numbers are null."""
        numbers = (None, None, None) if score is None else (score.value, score.appearance, score.motion)
        box: tuple[int | None, ...] = ()
        if self._recording is None:
            box = (None,) * 4 if score is None or score.box is None else score.box
        self._rows.append((frame, time_s, *numbers, *box))
        self.n_rows += 1
        if len(self._rows) == ROWS:
            self._write_rows()

    def finish(self, record: JSON) -> None:
        """Write what is left, and the record of the video into the file's metadata."""
        if self._rows or not self.n_rows:
            self._write_rows()
        self._writer.add_key_value_metadata({META: json.dumps(record, sort_keys=True).encode()})

    def _write_rows(self) -> None:
        import pyarrow as pa

        n_rows = len(self._rows)
        constants = []
        if self._recording is not None:
            constants = [
                pa.DictionaryArray.from_arrays(pa.array([0] * n_rows, pa.int32()), pa.array([value], pa.string()))
                for value in (self._source, self._recording.camera)
            ]
            constants.append(pa.array([self._recording.started_at] * n_rows, pa.timestamp("us")))
        types = [field.type for field in self._schema][len(constants) :]
        columns = list(zip(*self._rows, strict=True)) if n_rows else [()] * len(types)
        numbers = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        self._writer.write_table(pa.Table.from_arrays([*constants, *numbers], schema=self._schema))
        self._rows.clear()


def write_events(path: Path, events: Sequence[Event], source: str, recording: RecordingPath, threshold: float) -> None:
    """Write the events of one video."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "source": source,
            "camera": recording.camera,
            "started_at": recording.started_at,
            "event": number,
            "start_frame": event.start_frame,
            "end_frame": event.end_frame,
            "peak_frame": event.peak_frame,
            "start_s": event.start_s,
            "end_s": event.end_s,
            "peak_s": event.peak_s,
            "peak_score": event.peak_score,
            "threshold": threshold,
            "box": None if event.box is None else list(event.box),
        }
        for number, event in enumerate(events, 1)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=event_schema()), path, compression="zstd")


def read_record(file: Any) -> JSON | None:
    """The record of a video in the metadata of its file of scores; None where there is none.

    Args:
        file: a path, or an open binary file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_metadata(file).metadata or {}
        record = json.loads(found[META])
    except (KeyError, ValueError, OSError, pa.ArrowException):
        return None
    return record if isinstance(record, dict) else None


def read_scores(path: Path) -> Iterator[tuple[int, float, Score | None]]:
    """The rows of the scores of a segment: index, time and score of each frame.

    Raises:
        SourceError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                for index, time_s, *numbers in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield index, time_s, _score(index, time_s, *numbers)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"cannot read {path}: {error}") from None


def _score(index: int, time_s: float, value: float | None, appearance: float, motion: float, *box: int) -> Score | None:
    if value is None:
        return None
    left, top, right, bottom = box
    return Score(index, time_s, value, appearance, motion, None if left is None else (left, top, right, bottom))
