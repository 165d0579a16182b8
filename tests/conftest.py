"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def real_data() -> Path | None:
    """The folder of real data: `COMEMORY_DATA`, else `../shared/data` beside the repository, if it is there."""
    folder = Path(os.environ.get("COMEMORY_DATA") or REPOSITORY.parent / "shared" / "data")
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data() -> Path:
    """The real data, or a skip that says why."""
    folder = real_data()
    if folder is None:
        pytest.skip("needs the real data: set COMEMORY_DATA to a folder with ped2/ and avenue/")
    return folder
