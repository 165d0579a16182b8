"""The demo: a scene that nobody filmed, a detector that has never seen it, and what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from comemory.batch import score_sources
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import BundleError
from comemory.evaluation.evaluate import evaluate, write_evaluation_report
from comemory.files import require_writable
from comemory.types import JSON
from comemory.video.source import open_source
from comemory.video.writer import write_video

SCENE = "synthetic:seed=7,frames=240,training=6,testing=2"
BUNDLE = "synthetic-nano"


class DemoProgress(Protocol):
    """Who is told how far the demo is."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins; `total` steps if known."""

    def advance(self, note: str = "") -> None:
        """One step of the stage is done."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        files: path by what it shows.
        figures: of the evaluation, as `evaluate --json`.
        problems: one line each.
    """

    files: dict[str, Path]
    results: JSON
    problems: list[str]


def shipped_bundle(name: str) -> Path:
    """A bundle that comes with comemory.

    Raises:
        BundleError: it is not there.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "bundles", here.parents[3] / "models"):
        if (folder / name).is_dir():
            return folder / name
    raise BundleError(f"the bundle {name!r} that comes with comemory is missing: install comemory again")


def run_demo(out: Path, reporter: DemoProgress) -> DemoResult:
    """Render a scene to mp4, score the file, and evaluate on the scene's own labels.

    Raises:
        ConfigError: `out` cannot be written.
        BundleError: the bundle that comes with comemory is missing.
    """
    for name in ("scene.mp4", "report.html"):
        require_writable(out / name)
    detector = Detector.open(shipped_bundle(BUNDLE))
    reporter.stage("Rendering the scene", None)
    scene = out / "scene.mp4"
    first = open_dataset(SCENE).testing()[0]
    write_video(open_source(first.source), scene, 10.0)
    result = score_sources(
        detector, [str(scene)], out / "scores", video=True, on_source=reporter.stage, on_frame=reporter.advance
    )
    done = evaluate(detector, SCENE, images=True, on_video=reporter.stage, on_frame=reporter.advance)
    write_evaluation_report(done, detector.bundle, "openvino", out / "report.html")
    files = {
        "the scene": scene,
        "annotated": out / "scores" / "scene.mp4",
        "report": out / "report.html",
        "scores": out / "scores" / "scores.csv",
        "events": out / "scores" / "events.json",
    }
    return DemoResult(files, done.results, [*result.problems, *done.problems])
