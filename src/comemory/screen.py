"""What the command line shows: tables and progress bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

FIGURES = {
    "auc_micro": "AUC, micro",
    "auc_micro_ci95": "  95 % interval over videos",
    "auc_macro": "AUC, macro",
    "ap": "average precision",
    "eer": "equal error rate",
    "fpr95": "FPR at 95 % TPR",
    "pixel_auc": "AUC, pixel level",
    "rbdc": "RBDC",
    "tbdc": "TBDC",
    "false_alarms_per_hour": "false alarms per hour",
    "detection_delay_s": "detection delay, s",
}


class Bars:
    """Progress bars on a terminal, nothing elsewhere; a stage is one bar. A `train.run.Reporter`."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a bar of `total` steps, if known."""
        self._task = self._progress.add_task(escape(name), total=total, note="")

    def advance(self, note: str = "") -> None:
        """One step further."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, note=escape(note))


def table(console: Console, title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] | None = None) -> None:
    """Print a table of text."""
    drawn = Table(title=escape(title), title_justify="left", show_header=columns is not None, box=None, pad_edge=False)
    for number, column in enumerate(columns or (rows[0] if rows else ("",))):
        drawn.add_column(
            column if columns else "",
            overflow="fold",
            justify="left" if number == 0 else "right" if columns else "left",
        )
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    console.print(drawn)


def print_figures(console: Console, figures: Mapping[str, Any]) -> None:
    """Print what `evaluate --json` writes: the model beside the control."""
    columns = [name for name in ("causal", "paper") if figures.get(name)]
    rows = []
    for key, name in FIGURES.items():
        cells = [_figure((figures[column] or {}).get(key)) for column in columns]
        control = _figure(figures["control"]["auc_micro"]) if key == "auc_micro" else ""
        if any(cell != "–" for cell in cells):
            rows.append((name, *cells, control))
    title = f"{figures['dataset']}: {figures['n_videos']} videos, {figures['n_scored']} of {figures['n_frames']} frames scored"
    table(console, title, rows, ("", *columns, "control"))
    speed = figures["frames_per_second"]
    console.print(
        f"threshold {figures['threshold']:.2f} for {figures['false_alarm_budget']}; {speed} frames per second",
        highlight=False,
    )


def _figure(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.4f} – {value[1]:.4f}"
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"


def print_info(console: Console, facts: Mapping[str, Any]) -> None:
    """Print what `info --json` writes, flat."""
    rows: list[tuple[str, str]] = []
    _flatten("", facts, rows)
    table(console, str(facts["bundle"]), rows)


def _flatten(prefix: str, value: Any, rows: list[tuple[str, str]]) -> None:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            _flatten(f"{prefix}.{key}" if prefix else str(key), inner, rows)
    else:
        rows.append((prefix, "–" if value is None else str(value)))


def print_timings(console: Console, measured: Mapping[str, Any]) -> None:
    """Print a benchmark: one row for each thing timed, then the circumstances."""
    timings = measured.get("timings") or {_flow_name(flow): flow for flow in measured["flows"]}
    keys = ("median_ms", "lowest_ms", "highest_ms", "rounds")
    rows = [(name, *(str(timing[key]) for key in keys)) for name, timing in timings.items()]
    table(console, str(measured.get("what", "optical flow")), rows, ("", "median ms", "lowest", "highest", "rounds"))
    for key, value in measured.items():
        if key not in ("timings", "flows", "what"):
            console.print(f"{key}: {value}", highlight=False, markup=False, soft_wrap=True, style="dim")


def _flow_name(flow: Mapping[str, Any]) -> str:
    return f"{flow['name']} {flow['preset']}" if flow["preset"] else str(flow["name"])
