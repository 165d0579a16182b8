"""Tables of strings: names to classes, and a cure where a package is absent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comemory.config import Settings
from comemory.errors import ConfigError, RuntimeMissing
from comemory.registry import Registry

TABLE = Registry(
    "shape",
    {"settings": "comemory.config:Settings", "absent": "comemory.no_such:Thing", "needy": "needy_entry:Thing"},
    extras={"needy": "train"},
)


def test_it_is_a_mapping_of_names() -> None:
    assert list(TABLE) == ["settings", "absent", "needy"]
    assert len(TABLE) == 3
    assert TABLE["settings"] == "comemory.config:Settings"
    assert "settings" in TABLE
    assert "comemory.config:Settings" not in TABLE


def test_an_entry_is_imported_when_it_is_asked_for() -> None:
    assert TABLE.load("settings") is Settings


@pytest.mark.parametrize("name", ["setings", "Settings", "settings "])
def test_an_unknown_name_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown shape .*did you mean 'settings'"):
        TABLE.load(name)


@given(st.text() | st.sampled_from(["os:system", "comemory.config:Settings", "os.path:join", "builtins:eval"]))
def test_a_dotted_path_is_a_name_like_any_other(name: str) -> None:
    if name not in TABLE:
        with pytest.raises(ConfigError, match="unknown shape"):
            TABLE.load(name)


def entry(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "needy_entry.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "needy_entry", raising=False)


def test_a_package_that_is_absent_comes_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "import no_such_package_at_all\n", monkeypatch)
    with pytest.raises(RuntimeMissing) as caught:
        TABLE.load("needy")
    assert str(caught.value) == (
        "shape 'needy' needs no_such_package_at_all, which is not installed: pip install 'comemory[train]'"
    )
    assert isinstance(caught.value, ImportError)


def test_a_package_that_is_there_and_broken_is_not_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry(tmp_path, "raise ImportError('libGL.so.1: cannot open\\nshared object file')\n", monkeypatch)
    with pytest.raises(RuntimeMissing, match=r"needs what does not load \('libGL.so.1: cannot open") as caught:
        TABLE.load("needy")
    assert "\n" not in str(caught.value)


def test_without_an_extra_the_cure_is_to_install_anew() -> None:
    with pytest.raises(RuntimeMissing, match="reinstall comemory"):
        TABLE.load("absent")


def test_the_table_keeps_its_own_copy() -> None:
    entries = {"a": "comemory.config:Settings"}
    table = Registry("thing", entries)
    entries["b"] = "os:system"
    assert list(table) == ["a"]
