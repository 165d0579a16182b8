"""The public names."""

from __future__ import annotations

import pytest

import comemory


@pytest.mark.parametrize("name", comemory.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(comemory, name).__module__.startswith("comemory.")
    assert name in dir(comemory)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'detector'"):
        comemory.detector  # noqa: B018
