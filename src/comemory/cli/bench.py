"""Commands that measure speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from comemory.cli.application import RESEARCH, OrderedGroup, PlainCommand, app
from comemory.cli.live_options import interrupted_by_sigterm
from comemory.cli.options import (
    DEFAULT_RUNTIME,
    Bundle,
    Data,
    Device,
    Json,
    Precision,
    PrecisionName,
    Runtime,
    Workers,
    check_bundle_comes_first,
    console,
    print_json,
)
from comemory.cli.terminal import print_timings

bench_app = typer.Typer(
    cls=OrderedGroup,
    help="Measure speed on this machine.\n\nExample: `comemory bench pipeline models/gate gate.mp4`",
    no_args_is_help=True,
)
app.add_typer(bench_app, name="bench", rich_help_panel=RESEARCH)

Rounds = Annotated[int, typer.Option(min=1, help="Repetitions; the median is reported.")]


@bench_app.command("flow", cls=PlainCommand)
def bench_flow(
    height: Annotated[int, typer.Option(min=16, help="Height of the frames, pixels.")] = 240,
    width: Annotated[int, typer.Option(min=16, help="Width of the frames, pixels.")] = 360,
    rounds: Rounds = 20,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Weights of RAFT; without them it is not measured.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure each optical flow estimator, in milliseconds per frame.

    Example: `comemory bench flow --height 240 --width 360`
    """
    from comemory.bench import bench_flow as run_bench

    _print_timings(run_bench((height, width), rounds, weights), as_json)


@bench_app.command("model", cls=PlainCommand)
def bench_model(bundle: Bundle, rounds: Rounds = 30, device: Device = "CPU", as_json: Json = False) -> None:
    """Measure the network alone: each installed runtime, each precision of the bundle, and its share of the roofline.

    Example: `comemory bench model models/ped2-small`
    """
    from comemory.bench import bench_model as run_bench

    _print_timings(run_bench(bundle, rounds, device), as_json)


@bench_app.command("pipeline", cls=PlainCommand)
def bench_pipeline(
    bundle: Bundle,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Video file or folder of frames.", show_default=False)
    ],
    rounds: Rounds = 3,
    runtime: Runtime = DEFAULT_RUNTIME,
    precision: Precision = PrecisionName.auto,
    device: Device = "CPU",
    threads: Workers = None,
    as_json: Json = False,
) -> None:
    """Measure frames per second from the file to the score, and the share of each stage.

    Example: `comemory bench pipeline models/ped2-small gate.mp4`
    """
    from comemory.bench import bench_pipeline as run_bench
    from comemory.parallel import n_workers

    check_bundle_comes_first(bundle, [source])
    measured = run_bench(bundle, source, rounds, runtime, n_workers(threads), precision.value, device)
    _print_timings(measured, as_json)


@bench_app.command("training", cls=PlainCommand)
@interrupted_by_sigterm()
def bench_training(
    data: Data,
    preset: Annotated[str, typer.Option(help="Size of the model: nano, small, medium or paper.")] = "small",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, such as train.batch=8; repeatable."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Steps to measure.")] = 20,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the prepared frames.", show_default="a temporary one"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a training step, and the share of it spent waiting for data.

    Example: `comemory bench training --data ped2:data/ped2 --preset small`
    """
    from comemory.bench import bench_training as run_bench

    _print_timings(run_bench(data, preset, settings or (), rounds, cache), as_json)


def _print_timings(measured: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(measured)
    else:
        print_timings(console, measured)
