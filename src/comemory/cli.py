"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from comemory.errors import ComemoryError, ConfigError
from comemory.outputs import require_folder, require_writable, write_text
from comemory.provenance import package_version
from comemory.screen import (
    Bars,
    print_events,
    print_figures,
    print_info,
    print_line,
    print_notes,
    print_timings,
    table,
)

app = typer.Typer(
    name="comemory",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at data sets.\n\nExample: `comemory data check ped2:data/ped2`", no_args_is_help=True)
bench_app = typer.Typer(
    help="Measure speed on this machine.\n\nExample: `comemory bench pipeline models/gate gate.mp4`",
    no_args_is_help=True,
)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")

console = Console()
errors = Console(stderr=True)

INTERRUPTED = 130

ClickException: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises on a command line it cannot read; typer does not give it a public name."""


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


class UpdateName(StrEnum):
    """Test-time updates on the command line."""

    off = "off"
    gated = "gated"
    always = "always"


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
Update = Annotated[
    UpdateName,
    typer.Option(
        help="Update the memories while watching: never, after ordinary frames, after every frame. Starts anew for each source."
    ),
]
FlowWeights = Annotated[
    Path | None,
    typer.Option(
        help="Weight file of the flow, for a bundle trained with `raft`; a bundle never names one.", show_default=False
    ),
]
Budget = Annotated[
    str, typer.Option(metavar="N/UNIT", help="False alarms to be expected on ordinary video: `1/h`, `2/day`, …")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _say_version(asked: bool) -> None:
    if asked:
        print(f"comemory {package_version('comemory') or 'unknown'}")
        raise typer.Exit()


@app.callback()
def comemory(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Learn what is normal in front of a fixed camera, and see what is not.

    Example: `comemory score models/gate gate.mp4 --video`
    """


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
    print_figures(console, made.figures)
    table(console, "Look at", [(name, str(path)) for name, path in made.files.items()])
    _problems(made.problems)


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
    require_folder(out.absolute().parent)
    from comemory.train.run import train as run_training

    with Bars(errors) as bars:
        trained = run_training(data, recipe, out, run=run, resume=resume, reporter=bars)
    print_line(console, f"wrote the bundle {trained.bundle}")
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
        _print_json(
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
        _print_json(done.figures)
    else:
        print_figures(console, done.figures)
        print_notes(console, done.notes)
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
        print_line(console, str(path))


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
        "graphs": [graph.name for graph in (opened.network.graph, opened.network.ir) if graph is not None],
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
        _print_json(facts)
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
        _print_json(
            {
                "found": dict(found.found),
                "published": dict(found.published),
                "problems": list(found.problems),
                "notes": list(found.notes),
            }
        )
    else:
        rows = [(what, str(count), str(found.published.get(what, "–"))) for what, count in found.found.items()]
        table(console, data, rows, ("", "found", "published"))
        print_notes(console, found.notes)
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
        _print_json(measured)
    else:
        print_timings(console, measured)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _problems(problems: Sequence[str]) -> None:
    """Name what could not be used; the command did the rest and exits with 1."""
    for problem in problems:
        print_line(errors, f"problem: {problem}", style="yellow")
    if problems:
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 1 for what failed, 2 for what was asked wrongly."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(_run(lambda: app(given, prog_name="comemory", standalone_mode=False)))


def _run(call: Callable[[], object]) -> int:
    """Call, say in one line what went wrong, and give the exit code."""
    try:
        code = call()
        sys.stdout.flush()
    except ComemoryError as error:
        return _fail(str(error), 2 if isinstance(error, ConfigError) else 1)
    except ClickException as error:
        return _fail(_usage(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("COMEMORY_DEBUG"):
            raise
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(f"{fault}; this is a fault of comemory: set COMEMORY_DEBUG=1 to see where, and report it", 1)
    if code == INTERRUPTED:
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    if message:
        print_line(errors, f"error: {message}", style="red")
    return code


def _usage(error: Any) -> str:
    """What is wrong with the command line, in one line, and where the help is; nothing when that is the help itself."""
    said = " ".join(error.format_message().replace("Value error, ", "").split())
    context = getattr(error, "ctx", None)
    if not said or context is None:
        return said
    return f"{said[0].lower()}{said[1:].rstrip('.')}; see {context.command_path} --help"
