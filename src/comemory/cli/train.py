"""Commands that make a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from comemory.cli.application import START, app
from comemory.cli.options import Data, console, error_console, report_problems
from comemory.cli.terminal import ProgressBars, print_line, print_notes, print_results, print_table
from comemory.files import require_folder


@app.command(rich_help_panel=START)
def demo(
    out: Annotated[Path, typer.Option(help="Where to put the video, the report and the tables.")] = Path("demo-out"),
) -> None:
    """Render a synthetic scene, score it with the bundle shipped, and write an annotated video and a report.

    Example: `comemory demo --out demo-out`
    """
    from comemory.cli.demo import run_demo

    with ProgressBars(error_console) as bars:
        made = run_demo(out, bars)
    print_results(console, made.results)
    print_table(console, "Look at", [(name, str(path)) for name, path in made.files.items()])
    report_problems(made.problems)


@app.command(rich_help_panel=START)
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the bundle goes.", show_default=False)],
    preset: Annotated[str, typer.Option(help="paper, medium, small or nano.")] = "small",
    config: Annotated[Path | None, typer.Option(help="TOML file laid over the preset.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.epochs=10; repeatable."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of checkpoint, log and plot.", show_default="OUT.run")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of prepared frames, shared by trainings on one video.", show_default="RUN/cache"),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(metavar="BUNDLE", help="Learn from this network as well, see train.taught; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
) -> None:
    """Train on ordinary video and write a bundle.

    Examples:

    `comemory train --data folder:footage --out models/gate`

    `comemory train --data ped2:data/ped2 --preset small --set train.epochs=10 --set train.seed=1 --out models/ped2`

    `comemory train --data folder:footage --preset small --teacher models/gate-medium --out models/gate`
    """
    from comemory.training.config import read_recipe

    recipe = read_recipe(preset, config, settings or ())
    require_folder(out.absolute().parent)
    from comemory.training.train import train as run_training

    with ProgressBars(error_console) as bars:
        trained = run_training(
            data, recipe, out, run=run, cache=cache, teachers=teacher or (), resume=resume, reporter=bars
        )
    print_line(console, f"wrote the bundle {trained.bundle}")
    print_notes(console, [trained.caution] if trained.caution else [])
    report_problems(trained.problems)
