"""What the commands share: the options that several of them have, and how they print."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from comemory.cli.terminal import CONTROL_CHARACTERS, print_line
from comemory.errors import ConfigError

if TYPE_CHECKING:
    from comemory.bundle import Bundle as OpenedBundle

console = Console()
error_console = Console(stderr=True)


ADVANCED = "Advanced"
"""Panel of the options that few users need."""

ARCHIVES = "Archives"
"""Panel of the options for thousands of videos."""

DEFAULT_FALSE_ALARMS = "1/h"
"""The default of all commands, as the help shows it: that of `comemory.scoring`, which a help does not import."""


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
    """Precisions that `export` can write."""

    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


class ExportRuntimeName(StrEnum):
    """Runtimes that `export` can write for."""

    onnx = "onnx"
    openvino = "openvino"


Bundle = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", help="Folder of a bundle, as `comemory train` writes it.", show_default=False),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="KIND:PATH",
        help="The data set. Kinds: ped1, ped2, avenue, avenue-npy, shanghaitech, folder, synthetic.",
        show_default=False,
    ),
]
Runtime = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Library that runs the network: `openvino`, `onnx`, `pytorch`, or another of the registry.",
        rich_help_panel=ADVANCED,
    ),
]
DEFAULT_RUNTIME = "openvino"
Precision = Annotated[
    PrecisionName,
    typer.Option(
        help="Number format of the network; `auto` takes the fastest one that the bundle has and this CPU supports.",
        rich_help_panel=ADVANCED,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Device of the network: `CPU`; with the runtime `openvino` also another that it finds, such as `GPU`, or `AUTO`.",
        rich_help_panel=ADVANCED,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU cores to score on.", show_default="all cores", rich_help_panel=ADVANCED),
]
Gate = Annotated[
    bool,
    typer.Option(
        "--gate/--no-gate",
        help="Skip the network on frames in which nothing moves, and reuse the evidence of the previous frame.",
        rich_help_panel=ADVANCED,
    ),
]
Update = Annotated[
    UpdateName,
    typer.Option(
        help="Update the memories while scoring: `gated` after normal frames, `always` after every frame, `bounded` slowly "
        "(a score then differs by 0.3 at most from the one without updates). Each source starts from the trained items.",
        rich_help_panel=ADVANCED,
    ),
]
FlowWeights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights of the RAFT flow, for a bundle that was trained with it; a bundle holds none.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="N/UNIT",
        help="Number of false alarms to accept on normal video, such as `2/day`; units: min, h, day, week.",
        show_default=DEFAULT_FALSE_ALARMS,
    ),
]
ModelBudget = Annotated[
    str | None,
    typer.Option(
        metavar="N/UNIT",
        help="Number of false alarms to accept on normal video, such as `2/day`; units: min, h, day, week.",
        show_default=f"{DEFAULT_FALSE_ALARMS}, or more where the training footage is too short for it",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]


def budget_or_default(false_alarms: str | None) -> str:
    """The false-alarm budget asked for, or the default of all commands."""
    from comemory.scoring.config import DEFAULT_FALSE_ALARMS

    return false_alarms or DEFAULT_FALSE_ALARMS


def check_bundle_comes_first(bundle: Path, sources: Sequence[str]) -> None:
    """Refuse swapped arguments: a video in the place of the bundle and the bundle among the videos.

    Raises:
        ConfigError: they are swapped; the text has the right order.
    """
    swapped = next((source for source in sources if _is_bundle(Path(source))), None)
    if swapped is not None and not _is_bundle(bundle):
        raise ConfigError(f"{bundle} is not a bundle, but {swapped} is: give the bundle first, then the video")


def _is_bundle(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def print_json(value: Any) -> None:
    """Print a value as indented JSON; control characters, and those the output cannot encode, are escaped in it."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8", "surrogatepass")
    except (UnicodeEncodeError, LookupError):
        text = json.dumps(value, indent=1)
    print(CONTROL_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_precision(bundle: OpenedBundle, *, runs_network: bool | None = None) -> None:
    """Print in which precision the network runs, where the bundle has several.

    Args:
        bundle: in the precision that was chosen.
        runs_network: whether it runs at all; by default whether the score needs it.
    """
    if bundle.variants and (bundle.calibration.settings.needs_network if runs_network is None else runs_network):
        print_line(error_console, f"note: the network runs in {bundle.precision}", style="dim")


def require_ray_address(text: str) -> None:
    """Check the value of a `--cluster` that means Ray.

    Raises:
        ConfigError: it is neither `auto` nor `ray://HOST:PORT`.
    """
    if text != "auto" and not re.fullmatch(r"ray://[^\s/]+:\d+", text):
        raise ConfigError(f"--cluster {text!r}: expected auto or ray://HOST:PORT")


def report_problems(problems: Sequence[str], code: int = 1) -> None:
    """Print each input that could not be used, and exit with a code if there is any; the rest is done by then."""
    for problem in problems:
        print_line(error_console, f"problem: {problem}", style="yellow")
    if problems:
        raise typer.Exit(code)
