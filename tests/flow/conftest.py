"""Fixtures for the tests of flow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def raft_weights() -> str:
    """The published weights of RAFT-small, in `COMEMORY_WEIGHTS` or `../shared/weights`; else a skip that says why."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    folder = Path(os.environ.get("COMEMORY_WEIGHTS") or REPOSITORY.parent / "shared" / "weights")
    if not (folder / "raft-small.pth").is_file():
        pytest.skip("needs raft-small.pth: set COMEMORY_WEIGHTS to its folder")
    torch.set_num_threads(1)
    return str(folder / "raft-small.pth")
