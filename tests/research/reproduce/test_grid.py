"""Which cells an experiment has, what their keys depend on, and which ones a pattern names."""

from __future__ import annotations

from pathlib import Path

import pytest
from research.reproduce import made

from comemory.errors import ConfigError
from comemory.research.reproduce import grid
from comemory.research.reproduce.experiment import read_experiment
from comemory.research.reproduce.grid import Cell, cells, differences, select, told
from comemory.training.config import read_recipe

VARIANTS = """
[data.other]
train = "folder:x"
test = "folder:y"

[[variants]]
name = "plain"

[[variants]]
name = "longer"
settings.train.epochs = 2

[[decisions]]
name = "speed"
settings.decision = { motion = ["flow_speed:8"], appearance = [] }
"""


def grid_of(folder: Path, text: str = made.TINY + VARIANTS, n_seeds: int | None = 2) -> list[Cell]:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return cells("tiny", read_experiment(path), n_seeds)


def by_label(listed: list[Cell]) -> dict[str, Cell]:
    return {cell.label: cell for cell in listed}


def test_cells_are_data_by_variants_by_seeds(tmp_path: Path) -> None:
    labels = [cell.label for cell in grid_of(tmp_path)]
    variants = ["plain", "plain+speed", "longer", "longer+speed"]
    assert labels == [f"{data}/{name}/{seed}" for seed in (0, 1) for data in ("scene", "other") for name in variants]


def test_keys_are_all_different(tmp_path: Path) -> None:
    listed = grid_of(tmp_path)
    assert len({cell.key for cell in listed}) == len(listed)
    assert len({cell.group for cell in listed}) == len(listed) / 2


def test_cells_that_differ_in_their_decision_share_the_network(tmp_path: Path) -> None:
    found = by_label(grid_of(tmp_path))
    assert found["scene/plain/0"].network == found["scene/plain+speed/0"].network
    assert len({cell.network for cell in found.values()}) == 8


def test_where_and_how_it_is_trained_is_no_part_of_a_key(tmp_path: Path) -> None:
    before = grid_of(tmp_path)
    settings = "epochs = 1, threads = 2, checkpoint_s = 1.0, accelerator = 'cpu',"
    after = grid_of(tmp_path, (made.TINY + VARIANTS).replace("epochs = 1,", settings))
    assert [cell.key for cell in before] == [cell.key for cell in after]
    assert after[0].recipe.train.threads == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("holdout = 0.5", "holdout = 0.4"),
        ("seed=3", "seed=4"),
        ('preset = "nano"', 'preset = "nano"\nfalse_alarms = "2/h"'),
        ('crowd=3"', "crowd=3\"\nevaluate_on = { more = 'folder:z' }"),
    ],
)
def test_what_decides_a_row_is_part_of_its_key(tmp_path: Path, old: str, new: str) -> None:
    text = made.TINY + VARIANTS
    assert old in text
    before, after = grid_of(tmp_path)[0], grid_of(tmp_path, text.replace(old, new))[0]
    assert before.key != after.key
    assert (before.network != after.network) == (old in ("holdout = 0.5", "seed=3"))


def test_a_version_of_the_code_is_part_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = grid_of(tmp_path)[0]
    monkeypatch.setattr(grid, "EVALUATION", grid.EVALUATION + 1)
    evaluated = grid_of(tmp_path)[0]
    assert (evaluated.network, evaluated.key != before.key) == (before.network, True)
    monkeypatch.setattr(grid, "TRAINING", grid.TRAINING + 1)
    assert grid_of(tmp_path)[0].network != before.network


def test_a_row_of_older_code_for_training_is_none_of_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = grid_of(tmp_path)[0]
    monkeypatch.setattr(grid, "TRAINING", grid.TRAINING + 1)
    assert grid_of(tmp_path)[0].key != before.key


def test_a_setting_added_later_changes_no_key_at_its_old_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = grid_of(tmp_path)
    monkeypatch.setattr(grid, "ADDED", {**grid.ADDED, "network.margin": 1.0})
    after = grid_of(tmp_path)
    assert before[0].key != after[0].key
    monkeypatch.setattr(grid, "ADDED", {**grid.ADDED, "network.margin": 2.0})
    assert [cell.key for cell in grid_of(tmp_path)] == [cell.key for cell in before]


def test_teachers_are_part_of_the_key_of_what_they_teach(tmp_path: Path) -> None:
    plain = by_label(grid_of(tmp_path, made.TINY.replace("seeds = [0]", "seeds = [0, 1]") + VARIANTS, None))
    text = made.TINY.replace("seeds = [0]", "seeds = [0, 1]") + VARIANTS
    taught = by_label(grid_of(tmp_path, text.replace('name = "longer"', 'name = "longer"\nteacher = "plain"'), None))
    for label, cell in taught.items():
        data, variant, _ = label.split("/")
        if variant.startswith("longer"):
            assert cell.network != plain[label].network
            assert list(cell.teachers) == [plain[f"{data}/plain/{seed}"].network for seed in (0, 1)]
            assert [recipe.train.seed for recipe in cell.teachers.values()] == [0, 1]
        else:
            assert (cell.key, cell.network, cell.teachers) == (plain[label].key, plain[label].network, {})
    assert len({cell.key for cell in taught.values()}) == len(taught)


def test_settings_are_what_differs_from_the_preset(tmp_path: Path) -> None:
    found = by_label(grid_of(tmp_path))
    assert differences(found["scene/longer/1"].told, "nano")["train.epochs"] == 2
    assert differences(found["scene/plain+speed/0"].told, "nano")["decision.appearance"] == []
    assert not {"train.seed", "train.devices", "train.lr"} & set(differences(found["scene/longer/1"].told, "nano"))


def test_a_setting_that_came_later_is_told_as_well() -> None:
    """With the value of before it is no part of a key, and yet it is another one than the preset's."""
    recipe = read_recipe("small", settings=["clips.flow_steady=0", 'network.appearance_predicts="frame"'])
    expected = {"clips.flow_steady": 0.0, "network.appearance_predicts": "frame"}
    assert differences(told(recipe), "small") == expected


@pytest.mark.parametrize(
    ("seeds", "n_seeds", "taken"),
    [("[0]", None, [0]), ("[4, 2]", 1, [4]), ("[4, 2]", 4, [4, 2, 5, 6]), ("[0, 1, 2]", 3, [0, 1, 2])],
)
def test_seeds_are_cut_or_continued(tmp_path: Path, seeds: str, n_seeds: int | None, taken: list[int]) -> None:
    listed = grid_of(tmp_path, made.TINY.replace("seeds = [0]", f"seeds = {seeds}"), n_seeds)
    assert [cell.seed for cell in listed] == taken
    assert [cell.recipe.train.seed for cell in listed] == taken


@pytest.mark.parametrize(
    ("pattern", "n_cells"),
    [("plain", 4), ("plain*", 8), ("scene/*", 8), ("*/plain+speed", 4), ("other/longer/1", 1), ("*/*/0", 8), ("*", 16)],
)
def test_patterns_name_cells(tmp_path: Path, pattern: str, n_cells: int) -> None:
    assert len(select(grid_of(tmp_path), [pattern])) == n_cells


def test_patterns_add_up_in_the_order_of_the_grid(tmp_path: Path) -> None:
    listed = grid_of(tmp_path)
    assert select(listed, []) == listed
    assert [cell.label for cell in select(listed, ["scene/longer/1", "plain/?", "scene/plain/0"][::2])] == [
        "scene/plain/0",
        "scene/longer/1",
    ]
    with pytest.raises(ConfigError, match="--only 'plane' names no cell: did you mean 'plain'"):
        select(listed, ["plain", "plane"])


def test_a_decision_may_not_change_the_network(tmp_path: Path) -> None:
    changed = VARIANTS.replace("settings.decision = {", "settings.network.base_width = 8\n#")
    with pytest.raises(ConfigError, match=r"variant 'plain\+speed': a decision may set decision.\* alone"):
        grid_of(tmp_path, made.TINY + changed)


def test_a_setting_that_does_not_fit_names_its_variant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"variant 'longer': unknown config key 'train\.epoch'"):
        grid_of(tmp_path, made.TINY + VARIANTS.replace("settings.train.epochs", "settings.train.epoch"))


def test_other_pseudo_anomalies_are_other_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made.TINY + VARIANTS + '\n[data.judged]\ntrain = "folder:x"\nevaluate_on = { pseudo = "pseudo:folder:x" }\n'
    before = by_label(grid_of(tmp_path, text))
    monkeypatch.setattr(grid, "PSEUDO", grid.PSEUDO + 1)
    after = by_label(grid_of(tmp_path, text))
    assert before["judged/plain/0"].key != after["judged/plain/0"].key
    assert before["judged/plain/0"].network == after["judged/plain/0"].network
    assert before["scene/plain/0"].key == after["scene/plain/0"].key
