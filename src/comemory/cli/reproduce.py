"""The command that runs experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from comemory.cli.application import RESEARCH, app
from comemory.cli.options import console, error_console, report_problems
from comemory.cli.terminal import print_line, print_table
from comemory.errors import ConfigError
from comemory.files import require_folder, require_writable

if TYPE_CHECKING:
    from comemory.research.reproduce.reproduce import Places, Plan
    from comemory.types import JSON

RUNS = Path("runs")


@app.command(rich_help_panel=RESEARCH)
def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="An experiment: a file of `experiments/`, or a path.", show_default=False)
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds.", show_default="those of the file")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Cells to run: `variant`, `data/variant`, `data/variant/seed`; repeatable."),
    ] = None,
    list_cells: Annotated[
        bool, typer.Option("--list", help="Say what is done and what would run; run nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time, a process each.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of recorded data, `{data}` in the file.", show_default="$COMEMORY_DATA"),
    ] = None,
    bundles: Annotated[Path, typer.Option(help="Folder of networks and bundles.")] = RUNS,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared frames.", show_default="BUNDLES/cache")] = None,
    table_file: Annotated[
        Path | None, typer.Option("--table", help="The table of rows.", show_default="docs/results/rows.jsonl")
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Write the page of results and its plots.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="That page.", show_default="docs/results.md")
    ] = None,
    template: Annotated[Path | None, typer.Option(help="Its words.", show_default="experiments/results.md.in")] = None,
) -> None:
    """Run a grid of trainings and evaluations, and render the page of results from the table of its rows.

    A cell that the table has is skipped; one that was killed goes on where it was.

    Examples:

    `comemory reproduce thesis-memory --seeds 3 --only 'ped2/*' --jobs 2`

    `comemory reproduce --render`
    """
    from comemory.research.reproduce.experiment import find_root
    from comemory.research.reproduce.reproduce import Places, find_recorded, make_plan

    if name is None and not render:
        raise ConfigError("nothing to do: name an experiment, or ask for --render")
    root = find_root()
    rows = table_file or root / "docs" / "results" / "rows.jsonl"
    places = Places(root, find_recorded(data, root), bundles, cache or bundles / "cache", rows)
    problems: Sequence[str] = ()
    if name is not None:
        plan = make_plan(name, places, seeds, only or ())
        if list_cells:
            _print_plan(plan, places)
        else:
            problems = _run(plan, places, jobs, threads)
    if render:
        _render(rows, page or root / "docs" / "results.md", template or root / "experiments" / "results.md.in")
    report_problems(problems)


class RunBars:
    """A bar for all cells and one for each that runs, on a terminal; elsewhere a line for each that is over.

    A `reproduce.pool.Watcher`.

    Attributes:
        problems: one line for each cell that failed.
    """

    def __init__(self, out: Console, n_cells: int) -> None:
        self._out = out
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=out,
            disable=not out.is_terminal,
        )
        self._all = self._progress.add_task("Cells", total=n_cells, note="")
        self._running: dict[str, TaskID] = {}
        self.n_done = 0
        self.problems: list[str] = []

    def __enter__(self) -> RunBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, label: str) -> None:
        """See `reproduce.pool.Watcher`."""
        self._running[label] = self._progress.add_task(escape(label), total=None, note="")

    def stage(self, label: str, name: str, total: int | None) -> None:
        """See `reproduce.pool.Watcher`."""
        self._progress.reset(self._running[label], total=total, description=f"{escape(label)}: {escape(name)}", note="")

    def advanced(self, label: str, steps: int, note: str) -> None:
        """See `reproduce.pool.Watcher`."""
        self._progress.update(self._running[label], advance=steps, note=escape(note))

    def finished(self, label: str, row: JSON) -> None:
        """See `reproduce.pool.Watcher`."""
        self.n_done += 1
        figure = (row["figures"].get("causal") or {}).get("auc_micro")
        minutes = (row["training"]["wall_s"] + row["evaluated"]["wall_s"]) / 60
        said = "no AUC" if figure is None else f"AUC {figure:.4f}"
        self._over(label, f"done: {label}: {said}, {minutes:.1f} min")

    def failed(self, label: str, reason: str) -> None:
        """See `reproduce.pool.Watcher`."""
        self.problems.append(f"{label}: {reason}")
        self._over(label, f"failed: {label}: {reason}")

    def _over(self, label: str, line: str) -> None:
        if label in self._running:
            self._progress.remove_task(self._running.pop(label))
        self._progress.update(self._all, advance=1)
        print_line(self._out, line)


def _run(plan: Plan, places: Places, jobs: int, threads: int) -> Sequence[str]:
    from comemory.research.reproduce.reproduce import run_plan

    require_folder(places.bundles)
    require_writable(places.table)
    with RunBars(error_console, len(plan.cells) - len(plan.done)) as bars:
        run_plan(plan, places, jobs, threads, bars)
    said = f"{plan.name}: {len(plan.cells)} cells, {len(plan.done)} done before, {bars.n_done} now"
    print_line(console, f"{said}, {len(bars.problems)} failed" if bars.problems else said)
    return bars.problems


def _print_plan(plan: Plan, places: Places) -> None:
    from comemory.research.reproduce.reproduce import cell_folder

    rows = []
    for cell in plan.cells:
        row, equal = plan.done.get(cell.label), plan.equal.get(cell.label)
        state = "done" if row else f"as {equal['experiment']}/{equal['variant']}" if equal else "to run"
        causal = ((row or equal or {}).get("figures") or {}).get("causal") or {}
        figure = causal.get("auc_micro")
        folder = cell_folder(cell, places) / "bundle"
        rows.append(
            (cell.label, state, "" if figure is None else f"{figure:.4f}", str(folder) if folder.is_dir() else "")
        )
    print_table(console, plan.experiment.title, rows, ("cell", "", "AUC", "bundle"))


def _render(rows: Path, page: Path, template: Path) -> None:
    from comemory.research.reproduce.page import write_page

    for target in write_page(rows, page, template):
        print_line(console, f"wrote {target}")
