"""Questions to the results of an archive: DuckDB over its Parquet files, and images of the answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from comemory.cluster.archive_manifest import read_manifest
from comemory.cluster.archive_results import event_schema, score_schema
from comemory.cluster.paths import OutputFolder, fetch_file
from comemory.cluster.seams import frame_at
from comemory.errors import (
    ComemoryError,
    ConfigError,
    RuntimeMissing,
    SourceError,
    install_hint,
    mask_password,
    short_repr,
)
from comemory.files import require_writable_folder
from comemory.types import JSON, Score
from comemory.video.overlay import draw_score
from comemory.video.writer import save_image

_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::(\d{2}))?)?)?)?")

TOP = """
    SELECT camera, source, event, peak_at, start_s, end_s, peak_s, peak_frame, peak_score, threshold, box
    FROM events
    WHERE (len($cameras) = 0 OR list_contains($cameras, camera))
        AND ($since IS NULL OR peak_at >= $since) AND ($until IS NULL OR peak_at < $until)
    {per_camera}
    ORDER BY {order} peak_score DESC, source, event
    {limit}
"""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events are asked for.

    Attributes:
        top: how many, the highest first.
        cameras: of these; of all if empty.
        since: not before this time of the archive's clock.
        until: before this one.
        by_camera: `top` of each camera.
    """

    top: int = 10
    cameras: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    by_camera: bool = False


def parse_period(text: str) -> tuple[datetime, datetime]:
    """The start of a year, month, day, hour or minute, and its end.

    Raises:
        ConfigError: it is none.

    >>> parse_period("2026-03")
    (datetime.datetime(2026, 3, 1, 0, 0), datetime.datetime(2026, 4, 1, 0, 0))
    """
    found = _PERIOD.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        given = [int(part) for part in found.groups() if part is not None]
        start = datetime(*(given + [1, 1, 1][len(given) :] if len(given) < 3 else given))  # type: ignore[arg-type]
        if len(given) == 1:
            return start, start.replace(year=start.year + 1)
        if len(given) == 2:
            return start, (start + timedelta(days=32)).replace(day=1)
        return start, start + (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1))[len(given) - 3]
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is not a time: expected a year, month, day, hour or minute, such as 2026-03 or 2026-03-14T12:30"
        ) from None


class ArchiveResults:
    """The results of an archive as tables: `events`, `scores` and `videos`.

    Args:
        location: the folder of the results, a path or a URL.

    Raises:
        RuntimeMissing: DuckDB is not installed.
        SourceError: there are no results.
    """

    def __init__(self, location: str) -> None:
        try:
            import duckdb
            import pyarrow as pa
        except ImportError:
            raise RuntimeMissing(f"query needs duckdb and pyarrow: {install_hint('archive')}") from None
        self._errors: type[Exception] = duckdb.Error
        self._select = duckdb.StatementType.SELECT
        self._out = OutputFolder(location)
        records = read_manifest(self._out)
        # Nothing is fetched from the makers of DuckDB on the way, and no file is loaded as code.
        settings = {"autoinstall_known_extensions": False, "allow_community_extensions": False}
        self._tables = duckdb.connect(config=settings)
        if self._out.file_system is not None:
            self._tables.register_filesystem(self._out.file_system)
        self._tables.register("videos", pa.Table.from_pylist(records))
        # The manifest says which videos have events: the others' files need not be opened.
        self._view("events", [f"events/{one['result']}" for one in records if one["events"]], event_schema(), "peak_s")
        self._view("scores", [f"scores/{one['result']}" for one in records], score_schema(), "time_s")

    def _view(self, name: str, files: Sequence[str], schema: Any, time_column: str) -> None:
        at = f"started_at + to_microseconds(CAST(round({time_column} * 1e6) AS BIGINT))"
        column = "peak_at" if name == "events" else "recorded_at"
        if files:
            urls = ", ".join("'" + self._url(file).replace("'", "''") + "'" for file in files)
            source = f"read_parquet([{urls}])"
        else:
            self._tables.register("nothing", schema.empty_table())
            source = "nothing"
        self._tables.execute(f"CREATE VIEW {name} AS SELECT *, {at} AS {column} FROM {source}")

    def _url(self, file: str) -> str:
        return self._out.url(f"{file}.parquet")

    def top_events(self, query: EventQuery) -> list[JSON]:
        """The highest events, each as its columns.

        Raises:
            SourceError: a file of the results is missing or damaged.
        """
        per_camera = "QUALIFY row_number() OVER (PARTITION BY camera ORDER BY peak_score DESC, source, event) <= $top"
        text = TOP.format(
            per_camera=per_camera if query.by_camera else "",
            order="camera," if query.by_camera else "",
            limit="" if query.by_camera else "LIMIT $top",
        )
        values = {"cameras": list(query.cameras), "since": query.since, "until": query.until, "top": query.top}
        columns, rows = self._run(text, values)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def sql(self, text: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The columns and rows of an answer in SQL.

        Raises:
            ConfigError: the text cannot be run, or is something else than one SELECT: a question changes no file.
        """
        try:
            statements = self._tables.extract_statements(text)
        except self._errors as error:
            raise self._failed(error, ConfigError) from None
        if len(statements) != 1 or statements[0].type != self._select:
            raise ConfigError(f"--sql takes one SELECT: {short_repr(text)} is something else")
        try:
            return self._run(text, None)
        except SourceError as error:
            raise ConfigError(str(error)) from None

    def _run(self, text: str, values: JSON | None) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            done = self._tables.execute(text, values)
            columns = [column[0] for column in done.description or ()]
            return columns, done.fetchall()
        except self._errors as error:
            raise self._failed(error, SourceError) from None

    def _failed(self, error: Exception, kind: type[ComemoryError]) -> ComemoryError:
        reason = str(error).strip().partition("\n")[0]
        return kind(f"cannot query {mask_password(self._out.location)}: {reason}")


def save_thumbnails(
    events: Sequence[JSON], folder: Path, on_image: Callable[[], None] = lambda: None
) -> tuple[list[Path | None], list[str]]:
    """Save an image of the peak of each event. The videos are read now: nothing was kept of them.

    Args:
        events: as `top_events` gives them.
        folder: of the images.
        on_image: called after each.

    Returns:
        The file of each event, None where its video cannot be read; and one line for each of these.
    """
    require_writable_folder(folder)
    paths: list[Path | None] = []
    problems = []
    for event in events:
        try:
            paths.append(_save_thumbnail(event, folder))
        except ComemoryError as error:
            paths.append(None)
            problems.append(str(error))
        on_image()
    return paths, problems


def _save_thumbnail(event: JSON, folder: Path) -> Path:
    with fetch_file(event["source"]) as video:
        frame = frame_at(video, event["peak_frame"])
    box = None if event["box"] is None else tuple(event["box"])
    score = Score(frame.index, frame.time_s, event["peak_score"], 0.0, 0.0, box)
    stem = re.sub(r"[^\w.+-]+", "_", f"{event['camera']}-{Path(event['source']).stem}")[:120]
    # Cameras with a folder for each day have files of the same name.
    digest = hashlib.sha256(event["source"].encode()).hexdigest()[:8]
    path = folder / f"{stem}-{digest}-{event['peak_frame']:06d}.jpg"
    save_image(draw_score(frame.image, score, threshold=event["threshold"], event=True, strip=False), path)
    return path
