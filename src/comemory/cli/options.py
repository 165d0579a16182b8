"""What the commands share: the options that several of them take, and where they print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from comemory.cli.terminal import CONTROL_CHARACTERS, print_line

if TYPE_CHECKING:
    from comemory.bundle import Bundle as OpenedBundle

console = Console()
error_console = Console(stderr=True)


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
    bounded = "bounded"


class PrecisionName(StrEnum):
    """Precisions on the command line."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


class ExportPrecisionName(StrEnum):
    """Precisions that `export` can make."""

    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


class ExportRuntimeName(StrEnum):
    """What `export` can write."""

    onnx = "onnx"
    openvino = "openvino"


Bundle = Annotated[Path, typer.Argument(help="A bundle: the folder that `comemory train` wrote.", show_default=False)]
Data = Annotated[
    str,
    typer.Option(
        help="`KIND:PATH`; kinds: ped1, ped2, avenue, avenue-npy, shanghaitech, folder, synthetic, pseudo.",
        show_default=False,
    ),
]
Runtime = Annotated[RuntimeName, typer.Option(help="What executes the network.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the network.", show_default="the runtime's choice")
]
Precision = Annotated[
    PrecisionName,
    typer.Option(help="What the network computes in: `auto` takes the fastest that the bundle holds and this CPU has."),
]
Workers = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Cores to score on; 1 scores one frame after the other.", show_default="all"),
]
Gate = Annotated[
    bool,
    typer.Option("--gate/--no-gate", help="Let frames in which nothing moves repeat the evidence before them."),
]
Update = Annotated[
    UpdateName,
    typer.Option(
        help="Update the memories while watching: never, after ordinary frames, after every frame, or `bounded`: slowly, "
        "and no score leaves the one without updates by more than 0.3. Starts anew for each source."
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


def print_json(value: Any) -> None:
    """Print a value as indented JSON; what steers a terminal stands escaped in it."""
    print(
        CONTROL_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=1, ensure_ascii=False))
    )


def print_precision(bundle: OpenedBundle) -> None:
    """Say which of a bundle's precisions is used, where it holds several."""
    if bundle.forms:
        print_line(error_console, f"note: the network computes in {bundle.precision}", style="dim")


def report_problems(problems: Sequence[str]) -> None:
    """Name what could not be used; the command did the rest and exits with 1."""
    for problem in problems:
        print_line(error_console, f"problem: {problem}", style="yellow")
    if problems:
        raise typer.Exit(1)
