"""Commands on data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import START, OrderedGroup, PlainCommand, app
from comemory.cli.options import Json, console, print_json, report_problems
from comemory.cli.terminal import print_notes, print_table

if TYPE_CHECKING:
    from comemory.types import DataCheck

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
    from comemory.research.pseudo_anomalies.dataset import open_dataset

    check = open_dataset(data).check()
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
        print_notes(console, [*check.notes, *_budget_notes(check)])
    report_problems(check.problems)


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
    """About which false-alarm budgets the training footage can hold."""
    from comemory.scoring.budgets import coverage_of_footage

    footage_s = check.seconds.get("training footage", 0.0)
    return [f"a guess from other scenes, before a training: {coverage_of_footage(footage_s)}"] if footage_s > 0 else []
