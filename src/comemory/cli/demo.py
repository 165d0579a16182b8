"""The demo: render a scene, score it with a bundle that was not trained on that clip, and report on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import START, PlainCommand, app
from comemory.cli.options import console, error_console, report_problems
from comemory.cli.terminal import ProgressBars, StageProgress, print_results, print_table
from comemory.errors import BundleError, install_hint
from comemory.files import require_writable_file

if TYPE_CHECKING:
    from comemory.types import JSON

SCENE = "synthetic:seed=7,frames=240,training=6,testing=2"
BUNDLE = "synthetic-nano"


@dataclass(frozen=True)
class DemoResult:
    """What the demo wrote.

    Attributes:
        files: path by what it shows.
        results: metrics of the evaluation, as `evaluate --json` writes them.
        problems: one line each.
    """

    files: dict[str, Path]
    results: JSON
    problems: list[str]


@app.command(rich_help_panel=START, cls=PlainCommand)
def demo(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the video, the report and the tables.")
    ] = Path("demo-out"),
) -> None:
    """Render a scene, score it with the bundle that comes with comemory, and write an annotated video and a report.

    Example: `comemory demo --out demo-out`
    """
    with ProgressBars(error_console) as bars:
        made = run_demo(out, bars)
    print_results(console, made.results)
    print_table(console, "Look at", [(name, str(path)) for name, path in made.files.items()])
    report_problems(made.problems)


def shipped_bundle(name: str) -> Path:
    """The folder of a bundle that comes with comemory.

    Raises:
        BundleError: it is missing.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "bundles", here.parents[3] / "models"):
        if (folder / name).is_dir():
            return folder / name
    raise BundleError(f"the bundle {name!r} that comes with comemory is missing: {install_hint()}")


def run_demo(out: Path, progress: StageProgress) -> DemoResult:
    """Render a scene to mp4, score the file, and evaluate on the labels of the scene.

    Raises:
        ConfigError: `out` cannot be written.
        BundleError: the bundle that comes with comemory is missing.
    """
    from comemory.batch import score_sources
    from comemory.datasets import open_dataset
    from comemory.detector import Detector
    from comemory.evaluation.evaluate import evaluate, write_evaluation_report
    from comemory.video.source import open_source
    from comemory.video.writer import write_video

    for name in ("scene.mp4", "report.html"):
        require_writable_file(out / name)
    detector = Detector.open(shipped_bundle(BUNDLE))
    progress.stage("Rendering the scene", None)
    scene = out / "scene.mp4"
    dataset = open_dataset(SCENE)
    write_video(open_source(dataset.testing()[0].source), scene, 10.0)
    scored = score_sources(
        detector, [str(scene)], out / "scores", video=True, on_source=progress.stage, on_frame=progress.advance
    )
    done = evaluate(detector, dataset, images=True, on_video=progress.stage, on_frame=progress.advance)
    write_evaluation_report(done, detector.bundle, "openvino", out / "report.html")
    files = {
        "the scene": scene,
        "annotated": out / "scores" / "scene.mp4",
        "report": out / "report.html",
        "scores": out / "scores" / "scores.csv",
        "events": out / "scores" / "events.json",
    }
    return DemoResult(files, done.results, [*scored.problems, *done.problems])
