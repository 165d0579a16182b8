"""What an experiment file may contain, and what the shipped ones contain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from research.reproduce import made

from comemory.errors import ConfigError
from comemory.research.reproduce.experiment import find_experiment, find_root, read_experiment
from comemory.research.reproduce.grid import list_runs
from comemory.research.reproduce.unused import unused_differences

SHIPPED = sorted((made.ROOT / "experiments").glob("*.toml"))

REPORTED = {
    "thesis-memory": {
        ("ped2", 0, 10): 0.970,
        ("ped2", 10, 10): 0.997,
        ("avenue", 0, 10): 0.890,
        ("avenue", 10, 10): 0.894,
    },
    "thesis-sizes": {
        ("ped2", 0, 10): 0.970,
        ("ped2", 10, 10): 0.997,
        ("ped2", 15, 15): 0.981,
        ("avenue", 0, 10): 0.890,
        ("avenue", 10, 10): 0.891,
        ("avenue", 15, 15): 0.894,
    },
}
"""The two tables of the thesis: data set, items of the motion memory and of the appearance memory, AUC."""


def write(folder: Path, text: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_are_a_table_or_lines(tmp_path: Path) -> None:
    table = read_experiment(write(tmp_path, made.TINY))
    assert "clips.height=32" in table.settings
    assert 'flow.preset="ultrafast"' in table.settings
    listed = 'settings = ["train.epochs=2"]\ntitle = "x"\n[data.scene]\ntrain = "folder:x"\n'
    assert read_experiment(write(tmp_path, listed)).settings == ("train.epochs=2",)


def test_the_example_of_the_documentation_is_read_and_listed_and_shows_something(tmp_path: Path) -> None:
    page = (made.ROOT / "docs" / "how-to" / "reproduce.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```\n(title = .*?)^```$", page, re.DOTALL | re.MULTILINE)
    runs = list_runs("tiny", read_experiment(write(tmp_path, example)), n_seeds=1)
    assert [run.label for run in runs] == ["ped2/without/0", "ped2/with/0", "ped2/with+speed-alone/0"]
    assert len({run.network for run in runs}) == 2
    assert unused_differences(runs) == []
    without_score = re.sub(r"^settings = .*$", "", example, flags=re.MULTILINE)
    assert unused_differences(list_runs("tiny", read_experiment(write(tmp_path, without_score)))) == [
        "the variants without, with differ only in their networks, of which the score uses no output: their results are "
        "equal, Eq. 16 aside"
    ]


def test_without_variants_there_is_a_default_one(tmp_path: Path) -> None:
    assert [variant.name for variant in read_experiment(write(tmp_path, made.TINY)).variants] == ["default"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("[[variants]]\nname = 'a'\n[[variants]]\nname = 'a'\n", "the variant 'a' is given twice"),
        ("[[variants]]\nname = 'a/b'\n", "variants.0.name"),
        ("[[variants]]\nname = 'a'\nreported = { scene = 0.9 }\n", "name its source in reported_by"),
        ("[[variants]]\nname = 'a'\nreported = { scen = 0.9 }\n", "did you mean 'scene'?"),
        ("[[variants]]\nname = 'a'\nsettngs = []\n", "did you mean 'settings'?"),
        ("[[scorings]]\nname = 'd'\nsettings = []\nof = ['defalt']\n", "did you mean 'default'?"),
        ("evaluate_on = { test = 'folder:x' }\n", "there is a further data set named 'test'"),
        ("test_videos = 0\n", "test_videos"),
        ("[[", "is not valid TOML"),
    ],
)
def test_invalid_experiments_are_refused_in_one_line(tmp_path: Path, more: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_experiment(write(tmp_path, made.TINY + more))
    assert reason in str(refused.value)
    assert "tiny.toml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_selection_needs_its_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is a selection by the data 'pseudo'"):
        read_experiment(write(tmp_path, f"selection = 'pseudo'\n{made.TINY}"))


def test_an_experiment_is_found_by_name_or_path(tmp_path: Path) -> None:
    root = find_root()
    assert find_experiment("synthetic", root).is_file()
    assert find_experiment("some/where.toml", root) == Path("some/where.toml")
    with pytest.raises(ConfigError, match="did you mean 'synthetic'"):
        find_experiment("sinthetic", root)
    with pytest.raises(ConfigError, match=r"cannot read config .*none\.toml"):
        read_experiment(tmp_path / "none.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments_resolve(path: Path) -> None:
    experiment = read_experiment(path)
    assert list_runs(path.stem, experiment)
    for spec in experiment.data.values():
        assert spec.train.startswith("synthetic:") or spec.test_videos is not None


def test_the_avenue_clips_are_called_a_subset() -> None:
    for path in SHIPPED:
        for name, spec in read_experiment(path).data.items():
            assert name != "avenue" or (spec.title, spec.test_videos) == ("Avenue subset", 4)


@pytest.mark.parametrize("name", REPORTED)
def test_reported_results_equal_the_tables_of_the_thesis(name: str) -> None:
    experiment = read_experiment(find_experiment(name, made.ROOT))
    assert experiment.reported_by == "the thesis"
    found = {}
    for run in list_runs(name, experiment, 1):
        network = run.config.network
        if run.data in run.variant.reported:
            cell = (run.data, network.motion_items, network.appearance_items)
            found[cell] = run.variant.reported[run.data]
    assert found == REPORTED[name]


def test_all_sizes_of_the_thesis_are_run() -> None:
    runs = list_runs("thesis-sizes", read_experiment(find_experiment("thesis-sizes", made.ROOT)), 1)
    sizes = {(run.data, run.config.network.motion_items, run.config.network.appearance_items) for run in runs}
    assert sizes == {(data, m, a) for data in ("ped2", "avenue") for m in (0, 10, 15) for a in (10, 15)}
