"""The command that trains a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from comemory.cli.application import START, PlainCommand, app
from comemory.cli.options import ADVANCED, Data, console, error_console, report_problems, require_ray_address
from comemory.cli.terminal import ProgressBars, cost_text, print_line, print_notes
from comemory.errors import ConfigError
from comemory.files import refuse_url, require_writable_folder

LINE_EVERY_S = 10.0
"""Seconds between two lines of progress where the output is not a terminal: a log shows that the training runs."""


@app.command(rich_help_panel=START, cls=PlainCommand)
def train(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder for the bundle.", show_default=False)],
    preset: Annotated[
        str,
        typer.Option(help="`small`, `medium`, `paper` or `nano`; `motion` has the score of `small` without a network."),
    ] = "small",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings that override those of the preset.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, such as train.epochs=10; repeatable."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the checkpoint, log and plot.",
            show_default="BUNDLE.run",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the prepared frames; trainings on the same video can share it.",
            show_default="cache in the folder of --run",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Train on the processes of a Ray cluster: `auto` or `ray://HOST:PORT`.",
            show_default=False,
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes on the cluster, which share each batch.", show_default="2", rich_help_panel=ADVANCED
        ),
    ] = None,
) -> None:
    """Train a model on normal video and write a bundle.

    For example:

    `comemory train --data folder:footage --out models/gate`

    `comemory train --data ped2:data/ped2 --preset small --set train.epochs=10 --set train.seed=1 --out models/ped2`
    """
    from comemory.datasets import open_dataset
    from comemory.training.config import read_training_config

    if workers is not None and cluster is None:
        raise ConfigError("--workers is for --cluster; on this machine, give --set train.devices")
    if cluster is not None:
        require_ray_address(cluster)
    resolved = read_training_config(preset, config, settings or ())
    refuse_url(out)
    require_writable_folder(out.absolute().parent)
    if cluster is None and "WORLD_SIZE" not in os.environ:
        # Several processes agree on an error, see `train`; one alone names a mistyped path before it imports PyTorch.
        open_dataset(data).training()
    from comemory.training.processes import OtherProcessError
    from comemory.training.train import train as run_training

    try:
        with ProgressBars(error_console, LINE_EVERY_S) as bars:
            if cluster is None:
                trained = run_training(data, resolved, out, run=run, cache=cache, resume=resume, reporter=bars)
            else:
                from comemory.cluster.training import train_on_ray

                trained = train_on_ray(
                    data,
                    resolved,
                    out,
                    address=cluster,
                    n_workers=workers or 2,
                    run=run,
                    cache=cache,
                    resume=resume,
                    reporter=bars,
                )
    except OtherProcessError:
        raise typer.Exit(1) from None  # the first process prints the reason
    if not trained.is_first:
        return
    print_line(console, f"wrote the bundle {trained.bundle}")
    if trained.cost is not None:
        from comemory.bench.network import network_time
        from comemory.bundle import has_network, open_bundle

        if has_network(trained.cost):
            print_line(console, f"network: {cost_text(trained.cost, network_time(open_bundle(trained.bundle)))}")
        else:
            print_line(console, cost_text(trained.cost))
    print_notes(
        console, [*trained.notes, *(str(note) for note in (trained.coverage, trained.small_sample_note) if note)]
    )
    report_problems(trained.problems)
