"""Commands on data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from comemory.cli.application import RESEARCH, app
from comemory.cli.options import Json, console, print_json, report_problems
from comemory.cli.terminal import print_notes, print_table

data_app = typer.Typer(help="Look at data sets.\n\nExample: `comemory data check ped2:data/ped2`", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=RESEARCH)


@data_app.command("check")
def data_check(
    data: Annotated[str, typer.Argument(metavar="KIND:PATH", show_default=False)],
    as_json: Json = False,
) -> None:
    """Look at every frame, label and mask of a data set; name each problem with its path.

    Example: `comemory data check ped2:data/ped2`
    """
    from comemory.datasets import open_dataset

    found = open_dataset(data).check()
    if as_json:
        print_json(
            {
                "found": dict(found.found),
                "published": dict(found.published),
                "problems": list(found.problems),
                "notes": list(found.notes),
            }
        )
    else:
        rows = [(what, str(count), str(found.published.get(what, "–"))) for what, count in found.found.items()]
        print_table(console, data, rows, ("", "found", "published"))
        print_notes(console, found.notes)
    report_problems(found.problems)
