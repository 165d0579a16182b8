"""The table of the page on scenes is what the benchmark's stored result gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def test_the_page_on_scenes_shows_the_stored_result() -> None:
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        from channel_subsets import table
    finally:
        sys.path.remove(str(REPOSITORY / "benchmarks"))
    stored = json.loads((REPOSITORY / "benchmarks/results/2026-12-01-channel-subsets.json").read_text(encoding="utf-8"))
    page = (REPOSITORY / "docs/explanation/scenes.md").read_text(encoding="utf-8")
    assert "\n".join(table(stored["auc"], stored["scenes"])) in page
