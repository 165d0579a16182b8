"""Commands on bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comemory.cli.application import MODELS, PlainCommand, app
from comemory.cli.options import (
    ADVANCED,
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


@app.command(rich_help_panel=MODELS, cls=PlainCommand)
def export(
    bundle: Bundle,
    precision: Annotated[
        ExportPrecisionName, typer.Option(help="Number format of the network.")
    ] = ExportPrecisionName.fp32,
    runtime: Annotated[
        ExportRuntimeName, typer.Option(help="Runtime to write the network for.")
    ] = ExportRuntimeName.openvino,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:PATH", help="The data set it was trained on; needed for bf16 and int8.", show_default=False
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:PATH",
            help="A labelled data set on which to compare the AUC with fp32; repeatable.",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of prepared frames, as in `train`.",
            show_default="BUNDLE.run/cache if it exists",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    flow_weights: FlowWeights = None,
    as_json: Json = False,
) -> None:
    """Add a faster variant of the network to a bundle: fp32 for a runtime loads faster; bf16 and int8 run faster.

    Each precision gets its own calibration, fitted on the held-out video of the training. It is added only if its scores
    correlate with those of fp32 by 0.99 or more.

    For example:

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
    agreement = {} if done.record is None else done.record.model_dump(mode="json", exclude={"calibration"})
    if as_json:
        print_json({"files": [str(file) for file in done.files], **agreement, "problems": list(done.problems)})
    else:
        for file in done.files:
            print_line(console, f"wrote {file}")
        if agreement:
            print_agreement(console, agreement)
    report_problems(done.problems)


@app.command(rich_help_panel=MODELS, cls=PlainCommand)
def info(
    bundle: Bundle,
    time: Annotated[
        bool, typer.Option("--time", help="Also measure the time of the network for a frame on this machine.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Describe a bundle: training data, size, settings, thresholds, provenance; verify each of its files.

    Example: `comemory info models/ped2-small --time`
    """
    from comemory.bench.network import bundle_cost, network_time
    from comemory.bundle import open_bundle

    opened = open_bundle(bundle)
    calibration, coverage = opened.calibration, opened.coverage()
    facts = {
        "bundle": opened.path.name,
        "sha256": opened.digest,
        "provenance": opened.provenance,
        "graphs": [graph.name for graph in (opened.network.graph, opened.network.ir) if graph is not None],
        "precisions": _precisions(opened),
        "cost": bundle_cost(opened),
        "time": network_time(opened) if time and opened.has_network else None,
        "config": opened.config,
        "calibration": {
            "n_frames": calibration.n_frames,
            "n_seen": calibration.n_training_frames,
            "n_alarms": calibration.n_alarms,
            "rate_hz": calibration.rate_hz,
            "footage_s": round(coverage.footage_s, 1),
            "smallest_budget": coverage.smallest_budget,
            "needed_s": {budget: round(seconds) for budget, seconds in coverage.needed_s.items()},
            "thresholds": {
                budget: round(calibration.threshold(budget), 4) for budget in ("10/h", "1/h", "1/day", "1/week")
            },
        },
    }
    if as_json:
        print_json(facts)
    else:
        used = {"clips": opened.clips, "flow": opened.flow, "scoring": calibration.settings}
        resolved = {name: settings.model_dump(mode="json") for name, settings in used.items()}
        print_info(console, {**facts, "config": {**opened.config, **resolved}, "footage": str(coverage)})


def _precisions(bundle: OpenedBundle) -> list[dict[str, Any]]:
    """The precisions other than fp32, with their agreement with fp32."""
    return [
        {
            "runtime": form.runtime,
            "precision": form.precision,
            **form.record.model_dump(mode="json", exclude={"calibration"}),
        }
        for form in bundle.variants.values()
    ]
