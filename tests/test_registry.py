"""Registries: names to classes, and a hint where a package is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comemory.config import Settings
from comemory.errors import ConfigError, RuntimeMissing
from comemory.registry import Registry

REGISTRY = Registry(
    "shape",
    {"settings": "comemory.config:Settings", "absent": "comemory.no_such:Thing", "needy": "needy_entry:Thing"},
    extras={"needy": "train"},
)


def test_a_registry_is_a_mapping_of_names() -> None:
    assert list(REGISTRY) == ["settings", "absent", "needy"]
    assert len(REGISTRY) == 3
    assert REGISTRY["settings"] == "comemory.config:Settings"
    assert "settings" in REGISTRY
    assert "comemory.config:Settings" not in REGISTRY


def test_an_entry_is_imported_when_it_is_loaded() -> None:
    assert REGISTRY.load("settings") is Settings


@pytest.mark.parametrize("name", ["setings", "Settings", "settings "])
def test_an_unknown_name_is_refused_with_the_closest_one(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown shape .*did you mean 'settings'"):
        REGISTRY.load(name)


@given(st.text() | st.sampled_from(["os:system", "comemory.config:Settings", "os.path:join", "builtins:eval"]))
def test_a_dotted_path_is_an_unknown_name(name: str) -> None:
    if name not in REGISTRY:
        with pytest.raises(ConfigError, match="unknown shape"):
            REGISTRY.load(name)


def entry(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "needy_entry.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "needy_entry", raising=False)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "import no_such_package_at_all\n", monkeypatch)
    with pytest.raises(RuntimeMissing) as caught:
        REGISTRY.load("needy")
    assert str(caught.value) == (
        "shape 'needy' needs no_such_package_at_all, which is not installed: "
        "in a checkout of comemory, run pip install '.[train]'"
    )
    assert isinstance(caught.value, ImportError)


def test_a_broken_package_is_not_reported_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "raise ImportError('libGL.so.1: cannot open\\nshared object file')\n", monkeypatch)
    with pytest.raises(RuntimeMissing, match=r"needs what does not load \('libGL.so.1: cannot open") as caught:
        REGISTRY.load("needy")
    assert "\n" not in str(caught.value)


def test_without_an_extra_the_hint_is_to_install_comemory_again() -> None:
    with pytest.raises(RuntimeMissing, match=r"in a checkout of comemory, run pip install '\.'"):
        REGISTRY.load("absent")


def test_a_registry_copies_its_entries() -> None:
    entries = {"a": "comemory.config:Settings"}
    registry = Registry("thing", entries)
    entries["b"] = "os:system"
    assert list(registry) == ["a"]
