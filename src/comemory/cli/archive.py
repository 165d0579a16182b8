"""Archives of videos: what `score --cluster` does, and the command that asks for the results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comemory.cli.application import START, TEMPORARY, PlainCommand, app
from comemory.cli.options import Json, console, error_console, print_json, report_problems
from comemory.cli.terminal import ProgressBars, count_of, print_line, print_notes, print_table
from comemory.errors import ConfigError, mask_password

if TYPE_CHECKING:
    from comemory.cluster.archive import ArchiveResult

LINE_EVERY_S = 10.0
"""Seconds between two lines of progress where there is no terminal."""

SHOWN = 20
"""Failures and notes that are printed; all of them are in files."""

TOP = 10


def score_to_parquet(
    cluster: str, sources: Sequence[str], *, as_json: bool, threads: int | None, **settings: Any
) -> None:
    """Score an archive, and print what was done."""
    from comemory.cluster.archive import parse_cluster, score_archive

    where = parse_cluster(cluster, threads)
    if threads is not None and where.kind != "index":
        raise ConfigError("--threads goes with --cluster index:I/N alone: the processes of one share")
    said: list[str] = []

    def say(note: str) -> None:
        said.append(note)
        print_notes(error_console, [note])

    with ProgressBars(error_console, LINE_EVERY_S) as bars:
        result = score_archive(sources, where, on_start=bars.stage, on_file=bars.advance, on_note=say, **settings)
    if as_json:
        print_json(asdict(result))
    else:
        print_line(console, _summary(result))
        print_notes(console, _first([note for note in result.notes if note not in said]))
    may_pass = any(failure["is_temporary"] for failure in result.failures)
    report_problems(_shown(result), TEMPORARY if may_pass else 1)


def _summary(result: ArchiveResult) -> str:
    were = "was" if result.n_skipped == 1 else "were"
    skipped = f", {result.n_skipped} {were} done before" if result.n_skipped else ""
    if not result.n_done:
        return f"scored 0 of {count_of(result.n_videos, 'video')}{skipped}"
    rate = result.n_frames / max(result.seconds, 1e-9)
    return (
        f"scored {result.n_done} of {count_of(result.n_videos, 'video')}{skipped}: {result.n_frames} frames, "
        f"{count_of(result.n_events, 'event')} in {result.seconds:.0f} s ({rate:.0f} frames/s, {result.workers})"
    )


def _shown(result: ArchiveResult) -> list[str]:
    """The lines of the problems, the failures first; not more than a person reads."""
    failures = [f"{mask_password(one['source'])}: {one['reason']}" for one in result.failures]
    return _first([*failures, *result.problems])


def _first(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many there are more. A file name may have line breaks."""
    more = len(lines) - SHOWN
    shown = [line.replace("\n", "\\n").replace("\r", "\\r") for line in lines[:SHOWN]]
    return [*shown, f"and {more} more"] if more > 0 else shown


@app.command(rich_help_panel=START, cls=PlainCommand)
def query(
    results: Annotated[
        str,
        typer.Argument(metavar="RESULTS", help="Folder or URL that `score --cluster` wrote to.", show_default=False),
    ],
    top: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Number of events to show, the highest first.", show_default=str(TOP)),
    ] = None,
    by_camera: Annotated[bool, typer.Option("--by-camera", help="Show that many for each camera.")] = False,
    camera: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only events of this camera; repeatable.", show_default="all cameras"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Only events from this time on, such as 2026-03-14T12:30.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Only events up to the end of this time.", show_default=False),
    ] = None,
    during: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="TIME",
            help="Only events in this year, month, day or hour, such as 2026-03.",
            show_default=False,
        ),
    ] = None,
    thumbnails: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Save an image of each event's peak, read from its video.", show_default=False
        ),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(help="Run this SELECT on the tables `events`, `scores` and `videos`.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the highest events of an archive that `score --cluster` has scored.

    The ten highest events of March: `comemory query s3://bucket/scores --in 2026-03 --thumbnails march`
    """
    from comemory.cluster.archive_query import ArchiveResults, EventQuery, parse_period, save_thumbnails

    if during is not None and (since is not None or until is not None):
        raise ConfigError("--in sets both --from and --to: give either --in or those")
    if sql is not None and (top, camera, since, until, during, thumbnails, by_camera) != (None,) * 6 + (False,):
        raise ConfigError("--sql goes without --top, --by-camera, --camera, --from, --to, --in and --thumbnails")
    first, last = (since, until) if during is None else (during, during)
    start = None if first is None else parse_period(first)[0]
    end = None if last is None else parse_period(last)[1]
    if start is not None and end is not None and start >= end:
        raise ConfigError(f"--from {first} is after --to {last}: there is no time between them")
    found = ArchiveResults(results)
    if sql is not None:
        columns, rows = found.sql(sql)
        if as_json:
            print_json([dict(zip(columns, map(_plain, row), strict=True)) for row in rows])
        else:
            print_table(console, count_of(len(rows), "row"), [tuple(map(str, row)) for row in rows], columns)
        return
    events = found.top_events(EventQuery(top or TOP, camera or (), start, end, by_camera))
    images: list[Path | None] = [None] * len(events)
    problems: list[str] = []
    if thumbnails is not None:
        with ProgressBars(error_console) as bars:
            bars.stage("images", len(events))
            images, problems = save_thumbnails(events, thumbnails, bars.advance)
    shown = [
        {**{key: _plain(value) for key, value in event.items()}, "image": None if image is None else str(image)}
        for event, image in zip(events, images, strict=True)
    ]
    if as_json:
        print_json(shown)
    else:
        rows = [_row(event) for event in shown]
        print_table(console, count_of(len(rows), "event"), rows, ("camera", "when", "seconds", "peak score", "video"))
    report_problems(problems)


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    when = (event["peak_at"] or f"{event['peak_s']:.1f} s").partition(".")[0].replace("T", " ")
    length = f"{event['end_s'] - event['start_s']:.1f}"
    [video] = _first([mask_password(event["source"])])
    return (
        event["camera"],
        when,
        length,
        f"{event['peak_score']:.2f}",
        f"{video}{' ' + event['image'] if event['image'] else ''}",
    )


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: times and what else it does not know as text, what is not a number as null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (float, Decimal)):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
