"""The table survives kills, full disks and several writers."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from research.reproduce import made
from training.made import small_disk

from comemory.errors import ConfigError, SourceError
from comemory.research.reproduce.rows import append_row, read_rows


def test_rows_are_read_in_the_order_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert read_rows(path) == []
    rows = [made.row(seed=seed) for seed in range(3)]
    assert all(append_row(path, row) for row in rows)
    assert read_rows(path) == rows


def test_an_existing_row_is_not_appended_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert append_row(path, made.row())
    content = path.read_bytes()
    assert not append_row(path, made.row(auc=0.5))
    assert path.read_bytes() == content
    assert append_row(path, made.row(experiment="other"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_last_line_cut_anywhere_is_left_out_and_repaired(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    rows = [made.row(seed=seed) for seed in range(3)]
    made.write_rows(path, rows)
    content = path.read_bytes()
    cut = data.draw(st.integers(content.rfind(b"\n", 0, -1) + 1, len(content)))
    path.write_bytes(content[:cut])
    whole = 3 if cut >= len(content) - 1 else 2
    assert read_rows(path) == rows[:whole]
    assert append_row(path, made.row(seed=7))
    assert read_rows(path) == [*rows[:whole], made.row(seed=7)]
    assert path.read_bytes().endswith(b"\n")


def test_bytes_left_by_a_power_failure_are_removed(tmp_path: Path) -> None:
    path = made.write_rows(tmp_path / "rows.jsonl", [made.row()])
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert read_rows(path) == [made.row()]
    append_row(path, made.row(seed=1))
    assert read_rows(path) == [made.row(), made.row(seed=1)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{nonsense\n", "line 2: not a row"),
        ("[1, 2]\n", "line 2: not a row"),
        ("[" * 100_000 + "\n", "line 2: not a row"),
        ('{"format": 1}\n', "line 2: not a row"),
        (json.dumps(made.row(format=9)) + "\n", "line 2: a row of format 9; this version reads 1"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_appended(tmp_path: Path, line: str, reason: str) -> None:
    path = made.write_rows(tmp_path / "rows.jsonl", [made.row()])
    path.write_text(path.read_text() + line + json.dumps(made.row(seed=1)) + "\n")
    before = path.read_bytes()
    for act in (lambda: read_rows(path), lambda: append_row(path, made.row(seed=2))):
        with pytest.raises(ConfigError, match=reason):
            act()
    assert path.read_bytes() == before


def test_a_result_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot store a row of 'default'"):
        append_row(tmp_path / "rows.jsonl", made.row(auc=float("nan")))
    assert read_rows(tmp_path / "rows.jsonl") == []


def test_a_full_disk_leaves_the_table_unchanged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 40_000):
        path = tmp_path / "disk" / "rows.jsonl"
        append_row(path, made.row())
        before = path.read_bytes()
        with pytest.raises(SourceError, match="it is unchanged"):
            append_row(path, made.row(seed=1, problems=["x" * 80_000]))
        assert path.read_bytes() == before
        assert append_row(path, made.row(seed=2))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot write the table"):
        append_row(tmp_path / "file" / "rows.jsonl", made.row())
    with pytest.raises(SourceError, match="cannot read the table"):
        read_rows(tmp_path)


def _append_some(path: Path, first: int) -> None:
    for seed in range(first, first + 20):
        append_row(path, made.row(seed=seed))


def test_several_writers_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_some, args=(path, first)) for first in (0, 10, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(row["seed"] for row in read_rows(path)) == [*range(30), *range(100, 120)]
