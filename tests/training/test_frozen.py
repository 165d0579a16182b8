"""A model that cannot be built, or whose frozen weights cannot be had, is refused in one line before it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.cli import main

DATA = "synthetic:seed=3,frames=60,training=2,testing=1,size=96x144"


def said(capsys: pytest.CaptureFixture[str], out: Path, *settings: str) -> str:
    """The last line that a refused training writes."""
    smaller = ("clips.height=32", "clips.width=48", "train.threads=1", "train.calibration_share=0.6", *settings)
    words = [word for setting in smaller for word in ("--set", setting)]
    with pytest.raises(SystemExit, match=r"^1$"):
        main(["train", "--data", DATA, "--preset", "small", *words, "--out", str(out)])
    assert not out.exists()
    return capsys.readouterr().err.splitlines()[-1]


def test_a_missing_file_of_features(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    line = said(capsys, tmp_path / "bundle", "model=tsc", f"network.features={absent}")
    assert line.startswith(f"error: cannot train the model 'tsc': cannot read the features {absent}: No such file")
    assert line.endswith("or correct network.features")


def test_another_file_of_features(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "other.pt").write_bytes(b"other")
    line = said(capsys, tmp_path / "bundle", "model=any-shot", f"network.features={tmp_path / 'other.pt'}")
    assert "is not the file of features that is expected: its sha256 is" in line


def test_a_clip_too_short_for_the_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = said(capsys, tmp_path / "bundle", "model=memae", "clips.n_past=4")
    assert line == (
        "error: cannot train the model 'memae': memae needs clips of a multiple of 8 frames, got clips.n_past=4: set it to 15"
    )
