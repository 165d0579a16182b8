"""Commands that watch recorded video."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from comemory.cli.application import app
from comemory.cli.options import (
    Budget,
    Bundle,
    Data,
    FlowWeights,
    Json,
    ProtocolName,
    Runtime,
    RuntimeName,
    Threads,
    Update,
    UpdateName,
    console,
    errors,
    name_problems,
    print_json,
)
from comemory.outputs import require_writable, write_text
from comemory.screen import Bars, print_events, print_figures, print_line, print_notes


@app.command()
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
    threads: Threads = None,
    flow_weights: FlowWeights = None,
    update: Update = UpdateName.off,
    as_json: Json = False,
) -> None:
    """Score video: `scores.csv`, `events.json`, a picture of each event.

    The rows of a run that was killed are in `scores.csv.part`.

    Example: `comemory score models/gate monday.mp4 tuesday.mp4 --out scores --video --false-alarms 2/day`
    """
    from comemory.detect import Detector
    from comemory.scoring import score_sources

    detector = Detector.open(
        bundle, runtime=runtime.value, threads=threads, flow_weights=flow_weights, update=update.value
    )
    with Bars(errors) as bars:
        result = score_sources(
            detector,
            sources,
            out,
            false_alarms=false_alarms,
            video=video,
            rate_hz=rate,
            on_source=bars.stage,
            on_frame=bars.advance,
        )
    if as_json:
        print_json(
            {
                "frames": result.n_frames,
                "events": [asdict(event) for event in result.events],
                "files": [str(file) for file in result.files],
                "problems": result.problems,
            }
        )
    else:
        print_events(console, result.events, result.n_frames)
        print_line(console, f"wrote {', '.join(str(file) for file in result.files if file.suffix != '.jpg')}")
    name_problems(result.problems)


@app.command()
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
    false_alarms: Budget = "1/h",
    runtime: Runtime = RuntimeName.openvino,
    threads: Threads = None,
    flow_weights: FlowWeights = None,
    update: Update = UpdateName.off,
) -> None:
    """Score a labelled data set and print the figures beside the control that needs no training.

    Example: `comemory evaluate models/ped2-small --data ped2:data/ped2 --json figures.json --report ped2.html`
    """
    from comemory.detect import Detector
    from comemory.evaluate.run import PROTOCOLS, evaluate
    from comemory.evaluate.run import report as write_report

    file = None if json_file is None or str(json_file) == "-" else json_file
    for target in filter(None, (file, report)):
        require_writable(target)
    detector = Detector.open(
        bundle, runtime=runtime.value, threads=threads, flow_weights=flow_weights, update=update.value
    )
    protocols = PROTOCOLS if protocol is ProtocolName.both else (protocol.value,)
    with Bars(errors) as bars:
        done = evaluate(
            detector,
            data,
            protocols=protocols,
            false_alarms=false_alarms,
            pictures=report is not None,
            on_video=bars.stage,
            on_frame=bars.advance,
        )
    if report is not None:
        write_report(done, detector.bundle, runtime.value, report)
    if file is not None:
        write_text(file, json.dumps(done.figures, indent=1) + "\n")
    if json_file is not None and file is None:
        print_json(done.figures)
    else:
        print_figures(console, done.figures)
        print_notes(console, done.notes)
    name_problems(done.problems)
