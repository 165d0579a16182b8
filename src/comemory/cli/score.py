"""Commands that watch recorded video."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import RESEARCH, START, app
from comemory.cli.live_options import interrupted_by_sigterm
from comemory.cli.options import (
    Budget,
    Bundle,
    Data,
    FlowWeights,
    Gate,
    Json,
    Precision,
    PrecisionName,
    ProtocolName,
    Runtime,
    RuntimeName,
    Update,
    UpdateName,
    Workers,
    console,
    error_console,
    print_json,
    print_precision,
    report_problems,
)
from comemory.cli.terminal import (
    ProgressBars,
    print_budgets,
    print_events,
    print_line,
    print_matrix,
    print_notes,
    print_results,
)
from comemory.files import require_writable, write_text

if TYPE_CHECKING:
    from comemory.detector import Detector


def opened(
    bundle: Path,
    runtime: RuntimeName,
    precision: PrecisionName,
    flow_weights: Path | None,
    update: UpdateName,
    gate: bool,
) -> Detector:
    """The detector that the options ask for, on one thread; says what it computes in."""
    from comemory.detector import Detector

    detector = Detector.open(
        bundle,
        runtime=runtime.value,
        precision=precision.value,
        threads=1,
        flow_weights=flow_weights,
        update=update.value,
        gate=gate,
    )
    print_precision(detector.bundle)
    return detector


@app.command(rich_help_panel=START)
@interrupted_by_sigterm()
def score(
    bundle: Bundle,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Video files or folders of frames.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Where the tables, pictures and videos go.")] = Path("scores"),
    video: Annotated[bool, typer.Option("--video", help="Also write an annotated mp4 of each source.")] = False,
    false_alarms: Budget = "1/h",
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Frames per second of folders of frames.", show_default="as trained")
    ] = None,
    runtime: Runtime = RuntimeName.openvino,
    precision: Precision = PrecisionName.auto,
    threads: Workers = None,
    flow_weights: FlowWeights = None,
    update: Update = UpdateName.off,
    gate: Gate = True,
    as_json: Json = False,
) -> None:
    """Score video: `scores.csv`, `events.json`, a picture of each event.

    The rows of a run that was killed are in `scores.csv.part`.

    Example: `comemory score models/gate monday.mp4 tuesday.mp4 --out scores --video --false-alarms 2/day`
    """
    from comemory.batch import score_sources
    from comemory.parallel import workers_of

    workers = workers_of(threads)
    detector = opened(bundle, runtime, precision, flow_weights, update, gate)
    with ProgressBars(error_console) as bars:
        result = score_sources(
            detector,
            sources,
            out,
            false_alarms=false_alarms,
            video=video,
            rate_hz=rate,
            workers=workers,
            on_source=bars.stage,
            on_frame=bars.advance,
        )
    if as_json:
        print_json(
            {
                "precision": detector.bundle.precision,
                "frames": result.n_frames,
                "highest_score": result.highest,
                "events": [asdict(event) for event in result.events],
                "files": [str(file) for file in result.files],
                "problems": result.problems,
            }
        )
    else:
        print_events(console, result.events, result.n_frames)
        if not result.events and result.highest is not None:
            calibration = detector.bundle.calibration
            needed = f"{calibration.settings.min_frames} frames of {calibration.threshold(false_alarms):.2f}"
            print_line(
                console,
                f"the highest score is {result.highest:.2f}; an event for {false_alarms} takes {needed} or more",
            )
        print_line(console, f"wrote {', '.join(str(file) for file in result.files if file.suffix != '.jpg')}")
    report_problems(result.problems)


@app.command(rich_help_panel=RESEARCH)
@interrupted_by_sigterm()
def evaluate(
    bundle: Bundle,
    data: Data,
    protocol: Annotated[
        ProtocolName, typer.Option(help="`causal` is what a live system gets; `paper` normalises each video.")
    ] = ProtocolName.both,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures; `-` prints them.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a self-contained report.")] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Write the scores of every frame, for NumPy.")
    ] = None,
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Also print what normalising and smoothing would make of the AUC, and other budgets of the alarms.",
        ),
    ] = False,
    false_alarms: Budget = "1/h",
    runtime: Runtime = RuntimeName.openvino,
    precision: Precision = PrecisionName.auto,
    threads: Workers = None,
    flow_weights: FlowWeights = None,
    update: Update = UpdateName.off,
    gate: Gate = True,
) -> None:
    """Score a labelled data set and print the figures beside the control that needs no training.

    Example: `comemory evaluate models/ped2-small --data ped2:data/ped2 --json figures.json --report ped2.html`
    """
    from comemory.evaluation.evaluate import PROTOCOLS, evaluate
    from comemory.evaluation.evaluate import write_evaluation_report as write_report
    from comemory.evaluation.scores_file import write_scores
    from comemory.parallel import workers_of

    file = None if json_file is None or str(json_file) == "-" else json_file
    for target in filter(None, (file, report, scores)):
        require_writable(target)
    workers = workers_of(threads)
    detector = opened(bundle, runtime, precision, flow_weights, update, gate)
    protocols = PROTOCOLS if protocol is ProtocolName.both else (protocol.value,)
    with ProgressBars(error_console) as bars:
        done = evaluate(
            detector,
            data,
            protocols=protocols,
            false_alarms=false_alarms,
            images=report is not None,
            workers=workers,
            on_video=bars.stage,
            on_frame=bars.advance,
        )
    if report is not None:
        write_report(done, detector.bundle, f"{runtime.value}, {detector.bundle.precision}", report)
    if scores is not None:
        write_scores(scores, done.videos)
    figures = {**done.results, "runtime": runtime.value, "precision": detector.bundle.precision}
    if file is not None:
        write_text(file, json.dumps(figures, indent=1) + "\n")
    if json_file is not None and file is None:
        print_json(figures)
    else:
        print_results(console, done.results)
        if matrix:
            print_matrix(console, done.results["protocols"])
            print_budgets(console, done.results["budgets"])
        print_notes(console, done.notes)
    report_problems(done.problems)
