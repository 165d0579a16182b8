"""What the command line shows: tables and progress bars."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from comemory.types import Event

PIPE_WIDTH = 1000
"""Columns of what is not a terminal."""

CONTROL_CHARACTERS = re.compile("[^\\n\\t -~\\u00a0-\\u2029\\u202f-\\u2065\\u206a-\\ud7ff\\ue000-\\U0010ffff]")
"""What steers a terminal, turns the direction of what follows, or cannot be written."""

METRICS = {
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
    "detection_delay_in_view_s": "  of what began in view, s",
    "anomalies_in_view": "  anomalies that began in view",
}


class ProgressBars:
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

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a bar of `total` steps, if known."""
        self._task = self._progress.add_task(escape(printable(name)), total=total, note="")

    def advance(self, note: str = "") -> None:
        """One step further."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, note=escape(printable(note)))


def printable(text: str) -> str:
    """A text that does nothing to a terminal but to stand on it.

    >>> plain("gate\\x1b[2J, Größe 3")
    'gate�[2J, Größe 3'
    """
    return CONTROL_CHARACTERS.sub("�", text)


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print one line of plain text, however long it is."""
    console.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """Print sentences on the data."""
    for note in notes:
        console.print(
            printable(f"note: {note}"), style="dim", highlight=False, markup=False, soft_wrap=not console.is_terminal
        )


def print_table(
    console: Console, title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] | None = None
) -> None:
    """Print a title and a table of text under it: the first column to the left, the others to the right if named.

    On a terminal long cells are folded to its width; elsewhere a row is a line.
    """
    print_line(console, title, style="bold")
    if not rows:
        return
    drawn = Table(show_header=columns is not None, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns or rows[0]):
        drawn.add_column(
            column if columns else "",
            overflow="fold",
            justify="left" if number == 0 or not columns else "right",
        )
    for row in rows:
        drawn.add_row(*(escape(printable(cell)) for cell in row))
    if console.is_terminal:
        console.print(drawn, highlight=False)
    else:
        text = StringIO()
        Console(file=text, width=PIPE_WIDTH).print(drawn, highlight=False)
        for line in text.getvalue().splitlines():
            print_line(console, line.rstrip())


def print_events(console: Console, events: Sequence[Event], n_frames: int) -> None:
    """Print what `score` found: one row for each event."""
    from comemory.video.overlay import clock

    rows = [
        (str(number), event.source, f"{clock(event.start_s)} to {clock(event.end_s)}", f"{event.peak_score:.2f}")
        for number, event in enumerate(events, 1)
    ]
    print_table(
        console,
        f"{count_of(len(rows), 'event')} in {count_of(n_frames, 'frame')}",
        rows,
        ("", "source", "when", "peak score"),
    )


def print_results(console: Console, figures: Mapping[str, Any]) -> None:
    """Print what `evaluate --json` writes: the model beside the control."""
    columns = [name for name in ("causal", "paper") if figures.get(name)]
    rows = []
    for key, name in METRICS.items():
        cells = [_format_number((figures[column] or {}).get(key)) for column in columns]
        control = _format_number(figures["control"]["auc_micro"]) if key == "auc_micro" else ""
        if any(cell != "–" for cell in cells):
            rows.append((name, *cells, control))
    videos = count_of(figures["n_videos"], "video")
    title = f"{figures['dataset']}: {videos}, {figures['n_scored']} of {figures['n_frames']} frames scored"
    print_table(console, title, rows, ("", *columns, "control"))
    if not rows:
        print_line(console, "no figures: the labels hold no normal and abnormal frames to tell apart")
    missed = figures["missed_anomalies"]
    parts = [
        f"threshold {figures['threshold']:.2f} for {figures['false_alarm_budget']}",
        *([] if missed is None else [f"{missed} anomalies missed" if missed != 1 else "1 anomaly missed"]),
        f"{figures['frames_per_second']} frames per second",
    ]
    print_line(console, "; ".join(parts), style="dim")


def print_matrix(console: Console, protocols: Sequence[Mapping[str, Any]]) -> None:
    """Print the AUC, micro and macro, of every score under every normalisation, a column for each smoothing."""
    smoothings = list(dict.fromkeys(record["smoothing"] for record in protocols))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for record in protocols:
        both = f"{_format_number(record['auc_micro'])} / {_format_number(record['auc_macro'])}"
        cells.setdefault((record["score"], record["normalisation"]), {})[record["smoothing"]] = both
    rows = [(f"{score}, {how}", *(row[smoothing] for smoothing in smoothings)) for (score, how), row in cells.items()]
    print_table(console, "AUC, micro / macro, by normalisation and smoothing", rows, ("", *smoothings))


def print_budgets(console: Console, budgets: Sequence[Mapping[str, Any]]) -> None:
    """Print what other budgets would make of the alarms."""
    names = {
        "threshold": "threshold",
        "false_alarms_per_hour": "false alarms per hour",
        "detection_delay_s": "delay, s",
        "detection_delay_in_view_s": "in view, s",
        "missed_anomalies": "missed",
    }
    rows = [(str(one["false_alarm_budget"]), *(_format_number(one[key]) for key in names)) for one in budgets]
    print_table(console, "alarms at other budgets", rows, ("", *names.values()))


def _format_number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.4f} – {value[1]:.4f}"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"


def print_info(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the gist of what `info --json` writes."""
    config, provenance, calibration = facts["config"], facts["provenance"], facts["calibration"]
    network, clips, decision = config["network"], config["clips"], config["decision"]
    trained_on, held_out = provenance.get("trained_on") or {}, provenance.get("held_out") or {}
    thresholds = ", ".join(f"{value:.2f} for {budget}" for budget, value in calibration["thresholds"].items())
    n_alarms = calibration["n_alarms"]
    used = ", ".join(f"{name} {dead}" for name, dead in (provenance.get("dead_items") or {}).items())
    loss = provenance.get("loss") or {}
    rows = [
        ("trained on", f"{provenance.get('dataset') or '–'}: {_frames_of_videos(trained_on)}"),
        ("held out", f"{_frames_of_videos(held_out)}, for the calibration"),
        ("trained at", f"{provenance.get('date') or '–'}, commit {provenance.get('commit') or '–'}"),
        ("training", f"{count_of(config['train']['epochs'], 'epoch')}, seed {config['train']['seed']}"),
        ("loss", ", ".join(f"{name} {value:.4g}" for name, value in loss.items()) or "–"),
        ("unused items", used or "–"),
        ("model", f"{config['model']}, base width {network.get('base_width', '–')}"),
        ("picture", f"{clips['height']}x{clips['width']}, {'grey' if clips['channels'] == 1 else 'colour'}"),
        ("flow", f"{config['flow']['name']} at {clips['flow_height']}x{clips['flow_width']}"),
        ("score", f"{decision['score']} of {', '.join([*decision['motion'], *decision['appearance']])}"),
        ("thresholds", thresholds),
        (
            "known from",
            f"{count_of(n_alarms, 'ordinary alarm')}" if n_alarms else "ordinary alarms that were not counted",
        ),
        ("rate", f"{calibration['rate_hz']:g} frames per second"),
        ("graph", ", ".join(facts["graphs"])),
        *((f"{one['precision']}", _precision(one)) for one in facts["precisions"]),
        ("sha256", facts["sha256"]),
    ]
    print_table(console, f"{facts['bundle']}: every member is as its manifest says", rows)
    print_line(console, "everything: comemory info --json", style="dim")


def _precision(form: Mapping[str, Any]) -> str:
    held, checks = form["held_out"], form["checks"]
    aucs = [
        f"AUC {_format_number(found['auc'])} against {_format_number(found['auc_fp32'])} on {name}"
        for name, found in checks.items()
    ]
    near = f"scores correlate with fp32 by {held['spearman']:.4f} (rank), {held['pearson']:.4f}"
    return "; ".join([f"{form['runtime']}: {near}", *aucs])


def print_agreement(console: Console, figures: Mapping[str, Any]) -> None:
    """Print how near the scores of an export come to those of fp32."""
    rows = [
        (
            name,
            str(found["n_frames"]),
            *(f"{found[key]:.4f}" for key in ("spearman", "pearson", "mean_difference", "largest_difference")),
            *(_format_number(found.get(key)) for key in ("auc", "auc_fp32")),
        )
        for name, found in {"held-out video": figures["held_out"], **figures["checks"]}.items()
    ]
    columns = ("", "frames", "rank corr.", "corr.", "mean diff.", "largest", "AUC", "AUC fp32")
    print_table(console, "Scores beside those of fp32", rows, columns)


def _frames_of_videos(frames: Mapping[str, int]) -> str:
    return f"{count_of(sum(frames.values()), 'frame')} of {count_of(len(frames), 'video')}"


def count_of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def print_timings(console: Console, measured: Mapping[str, Any]) -> None:
    """Print a benchmark: one row for each thing timed, then the circumstances."""
    timings = measured.get("timings") or {_flow_name(flow): flow for flow in measured["flows"]}
    keys = ("median_ms", "lowest_ms", "highest_ms")
    rows = [(name, *(f"{timing[key]:.2f}" for key in keys), str(timing["rounds"])) for name, timing in timings.items()]
    title = str(measured.get("what", "optical flow"))
    print_table(console, title, rows, ("", "median ms", "lowest", "highest", "rounds"))
    for key, value in measured.items():
        if key not in ("timings", "flows", "what") and value not in (None, {}):
            print_line(console, f"{key.replace('_', ' ')}: {_format_value(value)}", style="dim")


def _format_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {'–' if inner is None else inner}" for key, inner in value.items())
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def _flow_name(flow: Mapping[str, Any]) -> str:
    return f"{flow['name']} {flow['preset']}" if flow["preset"] else str(flow["name"])
