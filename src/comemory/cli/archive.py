"""What `score --cluster` and `query` do: archives of videos, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from comemory.cli.options import console, error_console, print_json, report_problems
from comemory.cli.terminal import ProgressBars, count_of, print_line, print_notes
from comemory.cluster.archive import ArchiveResult, parse_cluster, score_archive
from comemory.errors import ConfigError, mask_password

LINE_EVERY_S = 10.0
"""Seconds between two lines of progress where there is no terminal."""

SHOWN = 20
"""Failures that are printed; all of them are in a file."""


def score_to_parquet(
    cluster: str, sources: Sequence[str], *, as_json: bool, threads: int | None, **settings: Any
) -> None:
    """Score an archive, and print what was done."""
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
