"""Commands on a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from comemory.cli.application import app
from comemory.cli.options import Bundle, ExportName, Json, console, print_json
from comemory.screen import print_info, print_line


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
        print_json(facts)
    else:
        print_info(console, facts)
