"""What `comemory reproduce` refuses, and what it tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from research.reproduce import made

from comemory.cli import main
from comemory.cli.reproduce import RunBars


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main(["reproduce", *map(str, arguments)])
    said = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, " ".join((said.out + said.err).split())


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(made.TINY, encoding="utf-8")
    return path


def test_asking_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys) == (2, "error: nothing to do: name an experiment, or ask for --render")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sinthetic"], "did you mean 'synthetic'"),
        (["synthetic", "--only", "nothing"], "--only 'nothing' names no cell"),
        (["synthetic", "--seeds", "0"], "Input should be greater than or equal to 1"),
        (["synthetic", "--jobs", "0"], "Input should be greater than or equal to 1"),
    ],
)
def test_what_is_asked_wrongly_exits_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], reason: str
) -> None:
    code, said = run(capsys, *arguments, "--table", tmp_path / "rows.jsonl")
    assert code == 2
    assert reason in said


def test_recorded_data_are_asked_for_before_any_work(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_text(made.TINY.replace('train = "synthetic:', 'train = "folder:{data}/').replace(",size=64x96", ""))
    places = ("--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    monkeypatch.delenv("COMEMORY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    code, said = run(capsys, tiny, *places)
    assert (code, "give their folder with --data, or set COMEMORY_DATA" in said) == (2, True)
    code, said = run(capsys, tiny, *places, "--data", tmp_path / "nowhere")
    assert (code, "problem: scene/default/0: " in said) == (1, True)
    assert "nowhere" in said


def test_a_number_of_test_videos_that_the_title_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(made.TINY + 'title = "Half of it"\ntest_videos = 4\n')
    code, said = run(capsys, tiny, "--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    assert code == 1
    assert "has 1 test videos; the experiment calls 4 of them 'Half of it'" in said
    assert not list((tmp_path / "runs").rglob("bundle"))


def test_a_worker_that_dies_is_told(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '-m' in sys.orig_argv: os._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    code, said = run(capsys, tiny, "--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    assert code == 1
    assert "scene/default/0: its process ended with code 7; what it said is in" in said
    assert "tiny: 1 cells, 0 done before, 0 now, 1 failed" in said


def test_a_worker_takes_no_program_from_the_folder_it_is_begun_in(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pydantic.py").write_text("open('taken', 'w').close()")
    monkeypatch.chdir(tmp_path)
    tiny.write_text(tiny.read_text().replace("frames=30", "frames=3"))
    code, said = run(capsys, tiny, "--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    assert (code, "problem: scene/default/0: " in said) == (1, True)
    assert "its process ended" not in said
    assert not (tmp_path / "taken").exists()


def test_a_page_is_rendered_from_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = made.write_rows(tmp_path / "rows.jsonl", [made.row(seed=seed) for seed in range(3)])
    (tmp_path / "words.md.in").write_text("# Words\n\n{{ table tiny }}\n")
    page = tmp_path / "new" / "page.md"
    code, said = run(capsys, "--render", "--table", rows, "--page", page, "--template", tmp_path / "words.md.in")
    assert (code, said) == (0, f"wrote {page}")
    assert "0.9500 ± 0.0000" in page.read_text(encoding="utf-8")


def test_bars_follow_the_cells_on_a_terminal() -> None:
    from rich.console import Console

    console = Console(record=True, force_terminal=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    row = made.row()
    with RunBars(console, 3) as bars:
        bars.started("a/b/0")
        bars.stage("a/b/0", "Training", 10)
        bars.advanced("a/b/0", 4, "loss [1]")
        bars.finished("a/b/0", row)
        bars.started("a/b/1")
        bars.failed("a/b/1", "no [data]")
        bars.finished("a/b/2", row)
    console.file.close()
    said = console.export_text()
    assert "done: a/b/0: AUC 0.9500, 36.0 min" in said
    assert "failed: a/b/1: no [data]" in said
    assert (bars.n_done, bars.problems) == (2, ["a/b/1: no [data]"])
