"""What `comemory reproduce` refuses and prints."""

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


def test_nothing_to_do_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys) == (2, "error: nothing to do: give the name of an experiment, or --render")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sinthetic"], "did you mean 'synthetic'"),
        (["synthetic", "--only", "nothing"], "--only 'nothing' matches no run"),
        (["synthetic", "--seeds", "0"], "expected 1 or more"),
        (["synthetic", "--jobs", "0"], "expected 1 or more"),
    ],
)
def test_usage_errors_exit_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], reason: str
) -> None:
    code, said = run(capsys, *arguments, "--table", tmp_path / "rows.jsonl")
    assert code == 2
    assert reason in said


def test_missing_recorded_data_is_reported_before_any_work(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_text(made.TINY.replace('train = "synthetic:', 'train = "folder:{data}/').replace(",size=64x96", ""))
    paths = ("--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    monkeypatch.delenv("COMEMORY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    code, said = run(capsys, tiny, *paths)
    assert (code, "give their folder with --data, or set COMEMORY_DATA" in said) == (2, True)
    code, said = run(capsys, tiny, *paths, "--data", tmp_path / "nowhere")
    assert (code, "problem: scene/default/0: " in said) == (1, True)
    assert "nowhere" in said


def test_a_number_of_test_videos_that_does_not_fit_the_title_is_refused(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(made.TINY + 'title = "Half of it"\ntest_videos = 4\n')
    code, said = run(capsys, tiny, "--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    assert code == 1
    assert "has 1 test videos, but 'Half of it' stands for 4" in said
    assert not list((tmp_path / "runs").rglob("bundle"))


def test_a_worker_that_dies_is_reported(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '-m' in sys.orig_argv: os._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    code, said = run(capsys, tiny, "--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    assert code == 1
    assert "scene/default/0: its process ended with code 7; its output is in" in said
    assert "tiny: 1 run, 0 done before, 0 now, 1 failed" in said


def test_a_worker_imports_nothing_from_the_working_folder(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pydantic.py").write_text("open('imported', 'w').close()")
    monkeypatch.chdir(tmp_path)
    tiny.write_text(tiny.read_text().replace("frames=30", "frames=3"))
    code, said = run(capsys, tiny, "--table", tmp_path / "rows.jsonl", "--bundles", tmp_path / "runs")
    assert (code, "problem: scene/default/0: " in said) == (1, True)
    assert "its process ended" not in said
    assert not (tmp_path / "imported").exists()


def test_a_page_is_rendered_from_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = made.write_rows(tmp_path / "rows.jsonl", [made.row(seed=seed) for seed in range(3)])
    (tmp_path / "words.md.in").write_text("# Words\n\n{{ table tiny }}\n")
    page = tmp_path / "new" / "page.md"
    code, said = run(capsys, "--render", "--table", rows, "--page", page, "--template", tmp_path / "words.md.in")
    assert (code, said) == (0, f"wrote {page}")
    assert "0.9500 ± 0.0000" in page.read_text(encoding="utf-8")


def test_progress_bars_follow_the_runs_on_a_terminal() -> None:
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


def test_an_experiment_gets_a_page_of_its_own(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    rows = made.write_rows(tmp_path / "rows.jsonl", [made.row()])
    page = tmp_path / "own.md"
    code, said = run(capsys, tiny, "--list", "--render", "--table", rows, "--page", page)
    assert code == 0, said
    text = page.read_text(encoding="utf-8")
    assert "# Tiny" in text
    assert "0.9500" in text
    assert "No rows yet" not in text
