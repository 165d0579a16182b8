"""What the tests of training may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the frames that are prepared once for all tests."""
    return tmp_path_factory.mktemp("cache")
