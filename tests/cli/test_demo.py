"""The demo: what a newcomer sees first."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest

from comemory.cli.demo import BUNDLE, run_demo, shipped_bundle
from comemory.errors import BundleError


class RecordedProgress:
    """A reporter that remembers its stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, total: int | None) -> None:
        self.stages.append(name)

    def advance(self, note: str = "") -> None:
        """Nothing to remember."""


def test_the_demo_makes_all_that_it_promises(tmp_path: Path) -> None:
    try:
        shipped_bundle(BUNDLE)
    except BundleError as error:
        pytest.skip(str(error))
    reporter = RecordedProgress()
    made = run_demo(tmp_path / "demo", reporter)
    assert made.problems == []
    assert all(path.stat().st_size for path in made.files.values())
    with av.open(str(made.files["annotated"])) as shown, av.open(str(made.files["the scene"])) as scene:
        assert sum(1 for _ in shown.decode(video=0)) == sum(1 for _ in scene.decode(video=0))
    assert json.loads(made.files["events"].read_text(encoding="utf-8"))["frames"] > 0
    assert made.results["causal"]["auc_micro"] is not None
    assert reporter.stages


def test_a_missing_bundle_is_one_line() -> None:
    with pytest.raises(BundleError, match="'nothing-such' that comes with comemory is missing"):
        shipped_bundle("nothing-such")
