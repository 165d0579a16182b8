"""What the command line shows: tables and progress bars."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from io import StringIO, TextIOWrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from comemory.types import Event

PIPE_WIDTH = 1000
"""Width of a table that is not printed on a terminal, columns: wide enough to keep each row on one line."""

CONTROL_CHARACTERS = re.compile("[^\\n\\t -~\\u00a0-\\u2029\\u202f-\\u2065\\u206a-\\ud7ff\\ue000-\\U0010ffff]")
"""Characters that are never printed: control codes, direction marks and lone surrogates."""

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
    "detection_delay_s": "detection delay (s)",
    "detection_delay_in_view_s": "  of anomalies that start in view (s)",
    "anomalies_in_view": "  anomalies that start in view",
}


class StageProgress(Protocol):
    """Receives the progress of a task that runs in stages."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins; `total` is its number of steps, None if unknown."""

    def advance(self, note: str = "") -> None:
        """One step of the stage is done."""


class ProgressBars:
    """Shows the progress of a task: one bar for each stage on a terminal, lines of text elsewhere.

    Args:
        console: where to print.
        line_every_s: seconds between two lines where `console` is not a terminal; None prints no lines there.
        clock: time in seconds, monotonic.
    """

    def __init__(
        self, console: Console, line_every_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
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
        self._task: TaskID | None = None
        self._line_every_s = None if console.is_terminal else line_every_s
        self._clock = clock
        self._stage, self._total, self._n_done = "", "", 0
        self._last_line_s = 0.0

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of `total` steps, None if unknown."""
        self._task = self._progress.add_task(escape(strip_control_characters(name)), total=total, note="")
        self._stage, self._total, self._n_done = name, "" if total is None else f" of {total}", 0
        self._print(f"{name} ...")

    def advance(self, note: str = "") -> None:
        """Complete one step of the stage."""
        if self._task is None:
            return
        self._progress.update(self._task, advance=1, note=escape(strip_control_characters(note)))
        self._n_done += 1
        if self._line_every_s is not None and self._clock() - self._last_line_s >= self._line_every_s:
            self._print(f"{self._stage}: {self._n_done}{self._total}" + (f", {note}" if note else ""))

    def _print(self, line: str) -> None:
        if self._line_every_s is not None:
            self._last_line_s = self._clock()
            print_line(self._console, line)


def replace_unencodable() -> None:
    """Print a replacement for every character that an output's encoding lacks, in place of an exception.

    Python's own choice for the C locale, `surrogateescape`, fails for them as well.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def strip_control_characters(text: str) -> str:
    r"""The text without characters that control a terminal.

    >>> strip_control_characters("gate\x1b[2J, Größe 3")
    'gate�[2J, Größe 3'
    """
    return CONTROL_CHARACTERS.sub("�", text)


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print one line of plain text, however long it is."""
    console.print(strip_control_characters(text), style=style, highlight=False, markup=False, soft_wrap=True)


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """Print remarks on the data, one paragraph each."""
    for note in notes:
        console.print(
            strip_control_characters(f"note: {note}"),
            style="dim",
            highlight=False,
            markup=False,
            soft_wrap=not console.is_terminal,
        )


def print_table(
    console: Console, title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] | None = None
) -> None:
    """Print a title and a table of text under it.

    The first column is aligned left, the others right if `columns` names them. On a terminal, long cells are folded to
    its width; elsewhere each row is one line.
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
        drawn.add_row(*(escape(strip_control_characters(cell)) for cell in row))
    if console.is_terminal:
        console.print(drawn, highlight=False)
    else:
        text = StringIO()
        Console(file=text, width=PIPE_WIDTH).print(drawn, highlight=False)
        for line in text.getvalue().splitlines():
            print_line(console, line.rstrip())


def print_events(console: Console, events: Sequence[Event], n_frames: int) -> None:
    """Print the events that `score` found, one a row."""
    from comemory.video.overlay import format_time

    rows = [
        (
            str(number),
            event.source,
            f"{format_time(event.start_s)} to {format_time(event.end_s)}",
            f"{event.peak_score:.2f}",
        )
        for number, event in enumerate(events, 1)
    ]
    print_table(
        console,
        f"{count_of(len(rows), 'event')} in {count_of(n_frames, 'frame')}",
        rows,
        ("", "source", "when", "peak score"),
    )


PAPER_SCORES = {
    "own": "the score of the network's authors, scaled within each video",
    "calibrated": "the calibrated score, divided by its maximum in each video",
    "given": "the scores of the file, divided by their maximum in each video",
}
"""What the column `paper` is made of, by the `paper_score` of the results."""


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Print what `evaluate --json` writes: the metrics of the model beside those of the motion baseline."""
    columns = [name for name in ("causal", "paper") if results.get(name)]
    rows = []
    for key, name in METRICS.items():
        cells = [_format_number((results[column] or {}).get(key)) for column in columns]
        baseline = _format_number(results["motion_baseline"]["auc_micro"]) if key == "auc_micro" else ""
        if any(cell != "–" for cell in cells):
            rows.append((name, *cells, baseline))
    videos = count_of(results["n_videos"], "video")
    title = f"{results['dataset']}: {videos}, {results['n_scored']} of {results['n_frames']} frames scored"
    print_table(console, title, rows, ("", *columns, "motion baseline"))
    if not rows:
        reason = (
            "they need labels of both normal and abnormal frames" if results["n_scored"] else "no frame has a score"
        )
        print_line(console, f"no metrics: {reason}")
    elif "paper" in columns:
        print_line(console, f"paper: {PAPER_SCORES[results['paper_score']]}", style="dim")
    if "threshold" in results:
        print_line(console, _alarm_summary(results), style="dim")
    if warning := below_baseline_note(results):
        print_line(console, warning, style="yellow")


def _alarm_summary(results: Mapping[str, Any]) -> str:
    missed = results["missed_anomalies"]
    parts = [
        f"threshold {results['threshold']:.2f} at {results['false_alarm_budget']}",
        *([] if missed is None else [f"{count_of(missed, 'anomaly', 'anomalies')} missed"]),
        f"{results['frames_per_second']} frames per second",
    ]
    return "; ".join(parts)


def below_baseline_note(results: Mapping[str, Any]) -> str | None:
    """A sentence that says so if the model's causal AUC is below that of the motion baseline, else None."""
    model = (results.get("causal") or {}).get("auc_micro")
    baseline = results["motion_baseline"]["auc_micro"]
    if model is None or baseline is None or model >= baseline:
        return None
    return (
        f"The model is below the motion baseline: AUC {model:.4f} against {baseline:.4f}. "
        "On this data, the speed of the optical flow alone separates normal from abnormal frames better."
    )


def print_matrix(console: Console, protocols: Sequence[Mapping[str, Any]]) -> None:
    """Print the micro and macro AUC of each score and normalisation (rows) and smoothing (columns)."""
    smoothings = list(dict.fromkeys(record["smoothing"] for record in protocols))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for record in protocols:
        both = f"{_format_number(record['auc_micro'])} / {_format_number(record['auc_macro'])}"
        cells.setdefault((record["score"], record["normalisation"]), {})[record["smoothing"]] = both
    rows = [(f"{score}, {how}", *(row[smoothing] for smoothing in smoothings)) for (score, how), row in cells.items()]
    print_table(console, "AUC, micro / macro, by normalisation and smoothing", rows, ("", *smoothings))


def print_budgets(console: Console, budgets: Sequence[Mapping[str, Any]]) -> None:
    """Print the alarm metrics at other false-alarm budgets."""
    names = {
        "threshold": "threshold",
        "false_alarms_per_hour": "false alarms per hour",
        "detection_delay_s": "delay (s)",
        "detection_delay_in_view_s": "in view (s)",
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
    """Print the most important facts of `info --json`."""
    from comemory.bundle import has_network

    config, provenance, calibration = facts["config"], facts["provenance"], facts["calibration"]
    network, clips, decision = config["network"], config["clips"], config["scoring"]
    trained_on, held_out = provenance.get("trained_on") or {}, provenance.get("held_out") or {}
    thresholds = ", ".join(f"{value:.2f} for {budget}" for budget, value in calibration["thresholds"].items())
    n_alarms = calibration["n_alarms"]
    used = ", ".join(f"{name} {dead}" for name, dead in (provenance.get("dead_items") or {}).items())
    loss = provenance.get("loss") or {}
    width = f", base width {network['base_width']}" if "base_width" in network else ""
    is_trained = provenance.get("epochs") != 0 and has_network(facts["cost"])
    epochs = f"{count_of(config['train']['epochs'], 'epoch')}, seed {config['train']['seed']}"
    rows = [
        ("trained on", f"{provenance.get('dataset') or '–'}: {_frames_of_videos(trained_on)}"),
        ("calibrated on", f"{_frames_of_videos(held_out)}, held out of the training"),
        ("trained at", f"{provenance.get('date') or '–'}, commit {provenance.get('commit') or '–'}"),
        ("training", epochs if is_trained else "none: the model has nothing to train"),
        *([("loss", ", ".join(f"{name} {value:.4g}" for name, value in loss.items()) or "–")] if is_trained else []),
        *([("unused items", used)] if used else []),
        ("model", f"{config['model']}{width}"),
        ("network", cost_text(facts["cost"], facts["time"])),
        ("frame", f"{clips['height']}x{clips['width']}, {'grey' if clips['channels'] == 1 else 'colour'}"),
        ("flow", f"{config['flow']['name']} at {clips['flow_height']}x{clips['flow_width']}"),
        ("score", f"{decision['score']} of {', '.join([*decision['motion'], *decision['appearance']])}"),
        ("footage", facts["footage"]),
        ("thresholds", thresholds),
        ("thresholds from", f"{count_of(n_alarms, 'alarm') if n_alarms else 'alarms'} on held-out normal video"),
        ("rate", f"{calibration['rate_hz']:g} frames per second"),
        ("graph", ", ".join(facts["graphs"])),
        *((f"{one['precision']}", _precision(one)) for one in facts["precisions"]),
        ("sha256", facts["sha256"]),
    ]
    print_table(console, f"{facts['bundle']}: every file matches its manifest", rows)
    print_line(console, "for everything: comemory info --json", style="dim")


def cost_text(cost: Mapping[str, Any], time: Mapping[str, Any] | None = None) -> str:
    """What a network costs, in words.

    Args:
        cost: see `comemory.bench.bundle_cost`.
        time: see `comemory.bench.network_time`; None where it was not measured.

    >>> cost_text({"parameters": 15650, "frozen_parameters": 0, "macs": 181272576})
    '15,650 trained parameters, 181 million multiply-accumulate operations a frame'
    >>> cost_text({"parameters": 0, "frozen_parameters": 0, "macs": 0})
    'no network: the score is measured on the frames and their optical flow'
    """
    from comemory.bundle import has_network

    if not has_network(cost):
        return "no network: the score is measured on the frames and their optical flow"
    frozen = cost["frozen_parameters"]
    parts = [f"{cost['parameters']:,} trained parameters", *([f"{frozen:,} frozen ones"] if frozen else [])]
    parts.append(f"{cost['macs'] / 1e6:,.0f} million multiply-accumulate operations a frame")
    if time is not None:
        parts.append(f"{time['median_ms']:.2f} ms a frame ({time['runtime']}, {time['precision']}, one thread)")
    return ", ".join(parts)


def _precision(form: Mapping[str, Any]) -> str:
    held, checks = form["held_out"], form["checks"]
    aucs = [
        f"AUC {_format_number(found['auc'])} against {_format_number(found['auc_fp32'])} on {name}"
        for name, found in checks.items()
    ]
    agreement = f"correlation with fp32 {held['spearman']:.4f} (Spearman), {held['pearson']:.4f} (Pearson)"
    return "; ".join([f"{form['runtime']}: {agreement}", *aucs])


def print_agreement(console: Console, agreement: Mapping[str, Any]) -> None:
    """Print how well the scores of an export agree with those of fp32."""
    rows = [
        (
            name,
            str(found["n_frames"]),
            *(f"{found[key]:.4f}" for key in ("spearman", "pearson", "mean_difference", "largest_difference")),
            *(_format_number(found.get(key)) for key in ("auc", "auc_fp32")),
        )
        for name, found in {"held-out video": agreement["held_out"], **agreement["checks"]}.items()
    ]
    columns = ("", "frames", "Spearman", "Pearson", "mean diff.", "largest diff.", "AUC", "AUC fp32")
    print_table(console, "Scores compared with fp32", rows, columns)


def _frames_of_videos(frames: Mapping[str, int]) -> str:
    return f"{count_of(sum(frames.values()), 'frame')} of {count_of(len(frames), 'video')}"


def count_of(count: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> count_of(1, "camera"), count_of(2, "camera"), count_of(0, "anomaly", "anomalies")
    ('1 camera', '2 cameras', '0 anomalies')
    """
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def print_timings(console: Console, measured: Mapping[str, Any]) -> None:
    """Print a benchmark: one row for each timing, then the environment."""
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
