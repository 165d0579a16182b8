"""Commands on a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comemory.cli.application import MODELS, app
from comemory.cli.options import (
    Bundle,
    ExportPrecisionName,
    ExportRuntimeName,
    FlowWeights,
    Json,
    console,
    error_console,
    print_json,
    report_problems,
)
from comemory.cli.terminal import ProgressBars, print_agreement, print_info, print_line

if TYPE_CHECKING:
    from comemory.bundle import Bundle as OpenedBundle


@app.command(rich_help_panel=MODELS)
def export(
    bundle: Bundle,
    precision: Annotated[
        ExportPrecisionName, typer.Option(help="What the network is to compute in.")
    ] = ExportPrecisionName.fp32,
    runtime: Annotated[ExportRuntimeName, typer.Option(help="Whose form.")] = ExportRuntimeName.openvino,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:PATH", help="The data set it was trained on; not needed for fp32.", show_default=False
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:PATH", help="A labelled data set to compare with fp32 on; repeatable.", show_default=False
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of prepared frames, as that of `train`.", show_default="BUNDLE.run/cache if there"),
    ] = None,
    flow_weights: FlowWeights = None,
    as_json: Json = False,
) -> None:
    """Add the network in a runtime's own form to the bundle: fp32 loads faster; bf16 and int8 run faster.

    Each precision gets a calibration of its own, fitted on the held-out video of the training. It is kept only when its
    scores correlate with those of fp32 by 0.99 or more.

    Examples:

    `comemory export models/gate --precision int8 --data folder:footage`

    `comemory export models/gate --runtime openvino`
    """
    from comemory.export import export as run_export

    with ProgressBars(error_console) as bars:
        done = run_export(
            bundle,
            runtime.value,
            precision.value,
            data=data,
            checks=check or (),
            cache=cache,
            flow_weights=None if flow_weights is None else str(flow_weights),
            on_stage=bars.stage,
            on_frame=bars.advance,
        )
    figures = {} if done.record is None else done.record.model_dump(mode="json", exclude={"calibration"})
    if as_json:
        print_json({"files": [str(file) for file in done.files], **figures, "problems": list(done.problems)})
    else:
        for file in done.files:
            print_line(console, str(file))
        if figures:
            print_agreement(console, figures)
    report_problems(done.problems)


@app.command(rich_help_panel=MODELS)
def info(bundle: Bundle, as_json: Json = False) -> None:
    """Say what a bundle is: data, config, calibration, precisions, provenance; verify every member.

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
        "precisions": _precisions(opened),
        "config": opened.config,
        "calibration": {
            "n_frames": calibration.n_frames,
            "n_seen": calibration.n_seen,
            "n_alarms": calibration.n_alarms,
            "rate_hz": calibration.rate_hz,
            "thresholds": {
                budget: round(calibration.threshold(budget), 4) for budget in ("10/h", "1/h", "1/day", "1/week")
            },
        },
    }
    if as_json:
        print_json(facts)
    else:
        used = {"clips": opened.clips, "flow": opened.flow, "decision": calibration.settings}
        told = {name: settings.model_dump(mode="json") for name, settings in used.items()}
        print_info(console, {**facts, "config": {**opened.config, **told}})


def _precisions(bundle: OpenedBundle) -> list[dict[str, Any]]:
    """The precisions beside fp32, with their figures."""
    return [
        {
            "runtime": form.runtime,
            "precision": form.precision,
            **form.record.model_dump(mode="json", exclude={"calibration"}),
        }
        for form in bundle.forms.values()
    ]
