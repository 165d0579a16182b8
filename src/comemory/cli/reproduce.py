"""The command that runs the experiments of the thesis, and your own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from comemory.cli.application import RESEARCH, PlainCommand, app
from comemory.cli.options import ADVANCED, console, error_console, report_problems, require_ray_address
from comemory.cli.terminal import count_of, print_line, print_notes, print_table
from comemory.errors import ConfigError
from comemory.files import require_writable_file, require_writable_folder

if TYPE_CHECKING:
    from comemory.research.reproduce.reproduce import Paths, RunPlan
    from comemory.types import JSON

RUNS = Path("runs")


@app.command(rich_help_panel=RESEARCH, cls=PlainCommand)
def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT", help="Name of a file in `experiments/`, or a path to one.", show_default=False
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds.", show_default="as in the file")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Runs to do: `variant`, `data/variant` or `data/variant/seed`; repeatable."),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the runs and their state; run nothing.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Runs at the same time, one process each.",
            show_default="1; with --cluster as many as it has cores for",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder of the data sets, `{data}` in the file.", show_default="$COMEMORY_DATA"
        ),
    ] = None,
    bundles: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the trained bundles.", rich_help_panel=ADVANCED)
    ] = RUNS,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the prepared frames.",
            show_default="cache in the folder of --bundles",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    table_file: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="FILE.jsonl",
            help="File with the result of each run.",
            show_default="docs/results/rows.jsonl",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Run on a Ray cluster, whose nodes share all folders: `auto` or `ray://HOST:PORT`.",
            show_default=False,
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Write the results page and its plots.")] = False,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="Where to write the results page.", show_default="docs/results.md"),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text of the page, with a place for each table.",
            show_default="experiments/results.md.in",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
) -> None:
    """Run an experiment: a grid of trainings and evaluations; render the results page.

    A run whose result is stored is skipped. A run that was interrupted continues from its last checkpoint.

    For example:

    `comemory reproduce thesis-memory --seeds 3 --only 'ped2/*' --jobs 2`

    `comemory reproduce --render`
    """
    from comemory.research.reproduce.experiment import find_root
    from comemory.research.reproduce.reproduce import Paths, find_recorded, make_plan
    from comemory.research.reproduce.unused import unused_differences

    if cluster is not None:
        require_ray_address(cluster)
    if name is None and not render:
        raise ConfigError("nothing to do: give the name of an experiment, or --render")
    root = find_root()
    rows = table_file or root / "docs" / "results" / "rows.jsonl"
    places = Paths(root, find_recorded(data, root), bundles, cache or bundles / "cache", rows)
    problems: Sequence[str] = ()
    if name is not None:
        plan = make_plan(name, places, seeds, only or ())
        print_notes(error_console, unused_differences(plan.runs))
        if list_only:
            _print_plan(plan, places)
        else:
            problems = _run(plan, places, jobs, threads, cluster)
    if render:
        from comemory.research.reproduce.page import update_pages, write_page

        text = _template(root, template, name, own_page=page is not None)
        files = {Path(name).stem: name} if name is not None and name.endswith(".toml") else {}
        for target in write_page(rows, page or root / "docs" / "results.md", text, files):
            print_line(console, f"wrote {target}")
        if page is None:
            for target in update_pages(rows, root / "docs" / "explanation" / "rivals"):
                print_line(console, f"wrote {target}")
    report_problems(problems)


class RunBars:
    """On a terminal, one progress bar for all runs and one for each active run; elsewhere a line for each finished run.

    A `reproduce.pool.Progress`.

    Attributes:
        n_done: runs finished so far.
        problems: one line for each run that failed.
    """

    def __init__(self, out: Console, n_runs: int) -> None:
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
        self._all = self._progress.add_task("Runs", total=n_runs, note="")
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
        """See `reproduce.pool.Progress`."""
        self._running[label] = self._progress.add_task(escape(label), total=None, note="")

    def stage(self, label: str, name: str, total: int | None) -> None:
        """See `reproduce.pool.Progress`."""
        self._progress.reset(self._running[label], total=total, description=f"{escape(label)}: {escape(name)}", note="")

    def advanced(self, label: str, steps: int, note: str) -> None:
        """See `reproduce.pool.Progress`."""
        self._progress.update(self._running[label], advance=steps, note=escape(note))

    def noticed(self, label: str, text: str) -> None:
        """See `reproduce.pool.Progress`."""
        print_line(self._out, f"note: {label}: {text}")

    def finished(self, label: str, row: JSON) -> None:
        """See `reproduce.pool.Progress`."""
        self.n_done += 1
        auc = (row["results"].get("causal") or {}).get("auc_micro")
        minutes = (row["training"]["wall_s"] + row["evaluation"]["wall_s"]) / 60
        result = "no AUC" if auc is None else f"AUC {auc:.4f}"
        self._end(label, f"done: {label}: {result}, {minutes:.1f} min")

    def failed(self, label: str, reason: str) -> None:
        """See `reproduce.pool.Progress`."""
        self.problems.append(f"{label}: {reason}")
        self._end(label, f"failed: {label}: {reason}")

    def _end(self, label: str, line: str) -> None:
        if label in self._running:
            self._progress.remove_task(self._running.pop(label))
        self._progress.update(self._all, advance=1)
        print_line(self._out, line)


def _run(plan: RunPlan, places: Paths, jobs: int | None, threads: int, cluster: str | None) -> Sequence[str]:
    from comemory.research.reproduce.reproduce import run_plan

    require_writable_folder(places.bundles)
    require_writable_file(places.table)
    with RunBars(error_console, len(plan.runs) - len(plan.done)) as bars:
        if cluster is None:
            run_plan(plan, places, jobs or 1, threads, bars)
        else:
            from comemory.cluster.reproduce import ray_processes

            with ray_processes(cluster, threads) as (start_process, n_places):
                run_plan(plan, places, jobs or n_places, threads, bars, start_process)
    summary = f"{plan.name}: {count_of(len(plan.runs), 'run')}, {len(plan.done)} done before, {bars.n_done} now"
    print_line(console, f"{summary}, {len(bars.problems)} failed" if bars.problems else summary)
    return bars.problems


def _print_plan(plan: RunPlan, places: Paths) -> None:
    from comemory.research.reproduce.reproduce import run_folder

    rows = []
    for run in plan.runs:
        row, equal = plan.done.get(run.label), plan.equivalent.get(run.label)
        waiting = "outdated, to run" if run.label in plan.outdated else "to run"
        state = "done" if row else f"as {equal['experiment']}/{equal['variant']}" if equal else waiting
        causal = ((row or equal or {}).get("results") or {}).get("causal") or {}
        auc = causal.get("auc_micro")
        folder = run_folder(run, places) / "bundle"
        rows.append((run.label, state, "" if auc is None else f"{auc:.4f}", str(folder) if folder.is_dir() else ""))
    print_table(console, plan.experiment.title, rows, ("run", "", "AUC", "bundle"))


def _template(root: Path, template: Path | None, name: str | None, *, own_page: bool) -> str:
    """The text of the page: the template asked for, that of one experiment on a page of its own, else the project's."""
    from comemory.research.reproduce.experiment import find_experiment, read_experiment
    from comemory.research.reproduce.page import experiment_template, read_template

    if template is None and name is not None and own_page:
        file = find_experiment(name, root)
        return experiment_template(file.stem, read_experiment(file))
    return read_template(template or root / "experiments" / "results.md.in")
