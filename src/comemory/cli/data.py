"""Commands on data sets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import START, OrderedGroup, PlainCommand, app
from comemory.cli.options import Json, console, print_json, report_problems
from comemory.cli.terminal import print_notes, print_table
from comemory.errors import DatasetError

if TYPE_CHECKING:
    from comemory.types import DataCheck, Dataset

data_app = typer.Typer(
    cls=OrderedGroup,
    help="Check data sets and footage.\n\nExample: `comemory data check folder:footage`",
    no_args_is_help=True,
)
app.add_typer(data_app, name="data", rich_help_panel=START)


@data_app.command("check", cls=PlainCommand)
def data_check(
    data: Annotated[
        str,
        typer.Argument(
            metavar="KIND:PATH", help="The data set, such as `folder:footage` or `ped2:data/ped2`.", show_default=False
        ),
    ],
    as_json: Json = False,
) -> None:
    """Read every frame, label and mask of a data set; count them, and name each problem with its path.

    Example: `comemory data check folder:footage`
    """
    from comemory.research.pseudo_anomalies.dataset import open_any_dataset

    dataset = open_any_dataset(data)
    check, shortage = _with_footage(dataset.check(), dataset)
    if as_json:
        print_json(
            {
                "found": dict(check.found),
                "published": dict(check.published),
                "seconds": dict(check.seconds),
                "problems": list(check.problems),
                "notes": list(check.notes),
            }
        )
    else:
        _print_counts(data, check)
        print_notes(console, [*check.notes, *([] if shortage else _budget_notes(check))])
    report_problems(check.problems)


def _with_footage(check: DataCheck, dataset: Dataset) -> tuple[DataCheck, str | None]:
    """The check with what `train` would say of the training video: different aspect ratios, and too little of it.

    Returns:
        The check, and its line on too little video, None where there is enough.
    """
    from comemory.training.config import read_training_config
    from comemory.training.footage import count_frames_exactly, footage_shortage, shape_note

    try:
        videos = dataset.training()
    except DatasetError:  # the check names it
        return check, None
    short = (
        footage_shortage([count_frames_exactly(video) for video in videos], read_training_config()) if videos else None
    )
    lines = ((check.problems, short), (check.notes, shape_note(videos)))
    problems, notes = ([*known, line] if line else known for known, line in lines)
    return replace(check, problems=problems, notes=notes), short


def _print_counts(title: str, check: DataCheck) -> None:
    """Print what was found beside what its authors published, where they did."""
    from comemory.scoring.budgets import duration

    published = ("published",) if check.published else ()
    rows = [
        (name, str(count), *(str(check.published.get(name, "–")) for _ in published))
        for name, count in check.found.items()
    ]
    rows += [
        (name, duration(seconds), *("" for _ in published)) for name, seconds in check.seconds.items() if seconds > 0
    ]
    print_table(console, title, rows, ("", "found", *published))


def _budget_notes(check: DataCheck) -> list[str]:
    """The false-alarm budgets that the training footage supports."""
    from comemory.scoring.budgets import coverage_of_footage

    footage_s = check.seconds.get("training footage", 0.0)
    return (
        [f"estimated from other scenes, before a training: {coverage_of_footage(footage_s)}"] if footage_s > 0 else []
    )
