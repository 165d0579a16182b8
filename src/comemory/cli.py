"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from comemory.errors import ComemoryError, ConfigError
from comemory.screen import Bars, print_figures, print_info, print_timings, table

app = typer.Typer(
    name="comemory",
    help="Learn what is normal in front of a fixed camera, and see what is not.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")

console = Console()
errors = Console(stderr=True)


class RuntimeName(StrEnum):
    """Runtimes on the command line."""

    openvino = "openvino"
    onnx = "onnx"
    pytorch = "pytorch"


class ProtocolName(StrEnum):
    """Protocols on the command line."""

    causal = "causal"
    paper = "paper"
    both = "both"


class ExportName(StrEnum):
    """What `export` can write."""

    onnx = "onnx"
    openvino = "openvino"


Bundle = Annotated[Path, typer.Argument(help="A bundle: the folder that `comemory train` wrote.", show_default=False)]
Data = Annotated[
    str,
    typer.Option(
        help="`KIND:PATH`; kinds: ped1, ped2, avenue, avenue-npy, shanghaitech, folder, synthetic.", show_default=False
    ),
]
Runtime = Annotated[RuntimeName, typer.Option(help="What executes the network.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the network.", show_default="the runtime's choice")
]
Budget = Annotated[str, typer.Option(help="False alarms to be expected on ordinary video: `1/h`, `2/day`, …")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to put the video, the report and the tables.")] = Path("demo-out"),
) -> None:
    """Render a synthetic scene, score it with the bundle shipped, and write an annotated video and a report.

    Example: `comemory demo --out demo-out`
    """
    from comemory.demo import run_demo

    with Bars(errors) as bars:
        made = run_demo(out, bars)
    _problems(made.problems)
    print_figures(console, made.figures)
    table(console, "Look at", [(name, str(path)) for name, path in made.files.items()])


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the bundle goes.", show_default=False)],
    preset: Annotated[str, typer.Option(help="paper, small or nano.")] = "small",
    config: Annotated[Path | None, typer.Option(help="TOML file laid over the preset.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.epochs=10; repeatable."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of cache, checkpoint, log and plot.", show_default="OUT.run")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
) -> None:
    """Train on ordinary video and write a bundle.

    Examples:

    `comemory train --data folder:footage --out models/gate`

    `comemory train --data ped2:data/ped2 --preset small --set train.epochs=10 --set train.seed=1 --out models/ped2`
    """
    from comemory.train.recipe import read_recipe

    recipe = read_recipe(preset, config, settings or ())
    from comemory.train.run import train as run_training

    with Bars(errors) as bars:
        trained = run_training(data, recipe, out, run=run, resume=resume, reporter=bars)
    console.print(f"Wrote the bundle {trained.bundle}", highlight=False, soft_wrap=True)
    _problems(trained.problems)


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
    as_json: Json = False,
) -> None:
    """Score video: `scores.csv`, `events.json`, a picture of each event.

    Example: `comemory score models/gate monday.mp4 tuesday.mp4 --out scores --video --false-alarms 2/day`
    """
    from comemory.detect import Detector
    from comemory.scoring import score_sources

    detector = Detector.open(bundle, runtime=runtime.value, threads=threads)
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
        print(
            json.dumps(
                {"frames": result.n_frames, "events": len(result.events), "files": [str(file) for file in result.files]}
            )
        )
    else:
        found = [
            (event.source, f"{event.start_s:.1f} – {event.end_s:.1f} s", f"{event.peak_score:.2f}")
            for event in result.events
        ]
        table(console, f"{len(found)} events in {result.n_frames} frames", found, ("source", "when", "peak score"))
        console.print(f"Wrote {out}/scores.csv and {out}/events.json", highlight=False, soft_wrap=True)
    _problems(result.problems)


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
) -> None:
    """Score a labelled data set and print the figures beside the control that needs no training.

    Example: `comemory evaluate models/ped2-small --data ped2:data/ped2 --json figures.json --report ped2.html`
    """
    from comemory.detect import Detector
    from comemory.evaluate.run import PROTOCOLS, evaluate
    from comemory.evaluate.run import report as write_report

    detector = Detector.open(bundle, runtime=runtime.value, threads=threads)
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
    text = json.dumps(done.figures, indent=1) + "\n"
    if json_file is not None and str(json_file) != "-":
        _write(json_file, text)
    if json_file is not None and str(json_file) == "-":
        sys.stdout.write(text)
    else:
        print_figures(console, done.figures)
    _problems(done.problems)


@app.command()
def export(
    bundle: Bundle,
    runtime: Annotated[ExportName, typer.Option(help="Whose form.", show_default=False)],
) -> None:
    """Add the network in a runtime's own form to the bundle.

    Example: `comemory export models/gate --runtime openvino`
    """
    from comemory.export import export as run_export

    for path in run_export(bundle, runtime.value):
        console.print(str(path), highlight=False, soft_wrap=True)


@app.command()
def info(bundle: Bundle, as_json: Json = False) -> None:
    """Say what a bundle is: data, config, calibration, provenance; verify every member.

    Example: `comemory info models/ped2-small`
    """
    from comemory.bundle import open_bundle

    opened = open_bundle(bundle)
    calibration = opened.calibration
    facts = {
        "bundle": opened.path.name,
        "sha256": opened.digest,
        "provenance": opened.provenance,
        "config": opened.config,
        "calibration": {
            "n_frames": calibration.n_frames,
            "rate_hz": calibration.rate_hz,
            "thresholds": {
                budget: round(calibration.threshold(budget), 4) for budget in ("10/h", "1/h", "1/day", "1/week")
            },
        },
    }
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        print_info(console, facts)


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
        print(
            json.dumps(
                {
                    "found": dict(found.found),
                    "published": dict(found.published),
                    "problems": list(found.problems),
                    "notes": list(found.notes),
                },
                indent=1,
            )
        )
    else:
        rows = [(what, str(count), str(found.published.get(what, "–"))) for what, count in found.found.items()]
        table(console, data, rows, ("", "found", "published"))
        for note in found.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
    _problems(found.problems)


@bench_app.command("flow")
def bench_flow(
    height: Annotated[int, typer.Option(min=16)] = 240,
    width: Annotated[int, typer.Option(min=16)] = 360,
    rounds: Annotated[int, typer.Option(min=1)] = 20,
    weights: Annotated[str | None, typer.Option(help="RAFT weight file; without it RAFT is left out.")] = None,
    as_json: Json = False,
) -> None:
    """Cost of each optical flow, milliseconds per frame.

    Example: `comemory bench flow --height 240 --width 360`
    """
    from comemory.bench import bench_flow as run_bench

    _timings(run_bench((height, width), rounds, weights), as_json)


@bench_app.command("model")
def bench_model(bundle: Bundle, rounds: Annotated[int, typer.Option(min=1)] = 30, as_json: Json = False) -> None:
    """Cost of the network alone on each runtime installed, milliseconds per frame.

    Example: `comemory bench model models/ped2-small`
    """
    from comemory.bench import bench_model as run_bench

    _timings(run_bench(bundle, rounds), as_json)


@bench_app.command("pipeline")
def bench_pipeline(
    bundle: Bundle,
    source: Annotated[str, typer.Argument(help="Video file or folder of frames.", show_default=False)],
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    runtime: Runtime = RuntimeName.openvino,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Frames per second from the file to the score, and where the time goes.

    Example: `comemory bench pipeline models/ped2-small gate.mp4`
    """
    from comemory.bench import bench_pipeline as run_bench

    _timings(run_bench(bundle, source, rounds, runtime.value, threads), as_json)


def _timings(measured: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(measured, indent=1))
    else:
        print_timings(console, measured)


def _problems(problems: Sequence[str]) -> None:
    """Name what could not be used; the command did the rest and exits with 1."""
    for problem in problems:
        errors.print(f"problem: {problem}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 1 for what failed, 2 for what was asked wrongly."""
    sys.exit(_run(lambda: app(list(arguments) if arguments is not None else None, standalone_mode=True)))


def _run(call: Callable[[], object]) -> int:
    try:
        call()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except ComemoryError as error:
        errors.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        errors.print("interrupted", style="red")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0
