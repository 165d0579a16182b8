"""The plot of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install '.[report]'")

from comemory.training.plot import plot_history


def test_a_model_without_a_loss_is_drawn_without_a_warning(tmp_path: Path) -> None:
    plot_history([{"epoch": 0, "loss": {"nothing": 0.0}, "item_usage": {}}], tmp_path / "training.png")
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
