"""Commands that measure speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from comemory.cli.application import RESEARCH, app
from comemory.cli.live_options import interrupted_by_sigterm
from comemory.cli.options import (
    Bundle,
    Data,
    Json,
    Precision,
    PrecisionName,
    Runtime,
    RuntimeName,
    Workers,
    console,
    print_json,
)
from comemory.cli.terminal import print_timings

bench_app = typer.Typer(
    help="Measure speed on this machine.\n\nExample: `comemory bench pipeline models/gate gate.mp4`",
    no_args_is_help=True,
)
app.add_typer(bench_app, name="bench", rich_help_panel=RESEARCH)


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
    """Cost of the network alone on each runtime installed and in each precision of the bundle, and its share of the roofline.

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
    precision: Precision = PrecisionName.auto,
    threads: Workers = None,
    as_json: Json = False,
) -> None:
    """Frames per second from the file to the score, and where the time goes.

    Example: `comemory bench pipeline models/ped2-small gate.mp4`
    """
    from comemory.bench import bench_pipeline as run_bench
    from comemory.parallel import workers_of

    _timings(run_bench(bundle, source, rounds, runtime.value, workers_of(threads), precision.value), as_json)


@bench_app.command("training")
@interrupted_by_sigterm()
def bench_training(
    data: Data,
    preset: Annotated[str, typer.Option(help="Preset of the recipe.")] = "small",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 20,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of prepared frames, kept.", show_default="a passing one")
    ] = None,
    as_json: Json = False,
) -> None:
    """Cost of a step of training, and the share of it that is waiting for data.

    Example: `comemory bench training --data ped2:data/ped2 --preset small`
    """
    from comemory.bench import bench_training as run_bench

    _timings(run_bench(data, preset, settings or (), rounds, cache), as_json)


def _timings(measured: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(measured)
    else:
        print_timings(console, measured)
