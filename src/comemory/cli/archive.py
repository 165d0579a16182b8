"""Archives of videos: what `score --cluster` does, and the command that asks for the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comemory.cli.application import START, PlainCommand, app
from comemory.cli.options import Json, console, error_console, print_json, report_problems
from comemory.cli.terminal import ProgressBars, count_of, print_line, print_notes, print_table
from comemory.errors import ConfigError, mask_password

if TYPE_CHECKING:
    from comemory.cluster.archive import ArchiveResult

LINE_EVERY_S = 10.0
"""Seconds between two lines of progress where there is no terminal."""

SHOWN = 20
"""Failures that are printed; all of them are in a file."""


def score_to_parquet(
    cluster: str, sources: Sequence[str], *, as_json: bool, threads: int | None, **settings: Any
) -> None:
    """Score an archive, and print what was done."""
    from comemory.cluster.archive import parse_cluster, score_archive

    where = parse_cluster(cluster, threads)
    if threads is not None and where.kind != "index":
        raise ConfigError("--threads goes with --cluster index:I/N alone: the processes of one share")
    with ProgressBars(error_console, LINE_EVERY_S) as bars:
        result = score_archive(sources, where, on_start=bars.stage, on_file=bars.advance, **settings)
    if as_json:
        print_json(asdict(result))
    else:
        print_line(console, _summary(result))
        print_notes(console, result.notes)
    report_problems(_shown(result))


def _summary(result: ArchiveResult) -> str:
    skipped = f", {result.n_skipped} were done before" if result.n_skipped else ""
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
    lines = [*failures, *result.problems]
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"and {more} more"]


@app.command(rich_help_panel=START, cls=PlainCommand)
def query(
    results: Annotated[
        str,
        typer.Argument(metavar="RESULTS", help="Folder or URL that `score --cluster` wrote to.", show_default=False),
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of events to show, the highest first.")] = 10,
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
        typer.Option(help="Run this SQL query on the tables `events`, `scores` and `videos`.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the highest events of an archive that `score --cluster` has scored.

    The ten highest events of March: `comemory query s3://bucket/scores --in 2026-03 --thumbnails march`
    """
    from comemory.cluster.archive_query import ArchiveResults, EventQuery, period, save_thumbnails

    if during is not None and (since or until):
        raise ConfigError("--in sets both --from and --to: give either --in or those")
    first, last = since or during, until or during
    start = period(first)[0] if first else None
    end = period(last)[1] if last else None
    found = ArchiveResults(results)
    if sql is not None:
        columns, rows = found.sql(sql)
        if as_json:
            print_json([dict(zip(columns, map(_plain, row), strict=True)) for row in rows])
        else:
            print_table(console, count_of(len(rows), "row"), [tuple(map(str, row)) for row in rows], columns)
        return
    events = found.top_events(EventQuery(top, camera or (), start, end, by_camera))
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
    video = mask_password(event["source"])
    return (
        event["camera"],
        when,
        length,
        f"{event['peak_score']:.2f}",
        f"{video}{' ' + event['image'] if event['image'] else ''}",
    )


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: times as text."""
    return value.isoformat() if hasattr(value, "isoformat") else value
