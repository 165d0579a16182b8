"""Which runs an experiment has, what their keys depend on, and which ones a pattern matches."""

from __future__ import annotations

from pathlib import Path

import pytest
from research.reproduce import made

from comemory.errors import ConfigError
from comemory.research.reproduce import grid
from comemory.research.reproduce.experiment import read_experiment
from comemory.research.reproduce.grid import Run, differences, list_runs, result_settings, select
from comemory.training.config import read_training_config

VARIANTS = """
[data.other]
train = "folder:x"
test = "folder:y"

[[variants]]
name = "plain"

[[variants]]
name = "longer"
settings.train.epochs = 2

[[scorings]]
name = "speed"
settings.scoring = { motion = ["flow_speed:8"], appearance = [] }
"""


def grid_of(folder: Path, text: str = made.TINY + VARIANTS, n_seeds: int | None = 2) -> list[Run]:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return list_runs("tiny", read_experiment(path), n_seeds)


def by_label(listed: list[Run]) -> dict[str, Run]:
    return {run.label: run for run in listed}


def test_runs_are_data_by_variants_by_seeds(tmp_path: Path) -> None:
    labels = [run.label for run in grid_of(tmp_path)]
    variants = ["plain", "plain+speed", "longer", "longer+speed"]
    assert labels == [f"{data}/{name}/{seed}" for seed in (0, 1) for data in ("scene", "other") for name in variants]


def test_keys_are_all_different(tmp_path: Path) -> None:
    listed = grid_of(tmp_path)
    assert len({run.key for run in listed}) == len(listed)
    assert len({run.group for run in listed}) == len(listed) / 2


def test_runs_that_differ_in_scoring_only_share_the_network(tmp_path: Path) -> None:
    found = by_label(grid_of(tmp_path))
    assert found["scene/plain/0"].network == found["scene/plain+speed/0"].network
    assert len({run.network for run in found.values()}) == 8


def test_environment_settings_are_not_part_of_a_key(tmp_path: Path) -> None:
    before = grid_of(tmp_path)
    settings = "epochs = 1, threads = 2, checkpoint_s = 1.0, accelerator = 'cpu',"
    after = grid_of(tmp_path, (made.TINY + VARIANTS).replace("epochs = 1,", settings))
    assert [run.key for run in before] == [run.key for run in after]
    assert after[0].config.train.threads == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("calibration_share = 0.5", "calibration_share = 0.4"),
        ("seed=3", "seed=4"),
        ('preset = "nano"', 'preset = "nano"\nfalse_alarms = "2/h"'),
        ('crowd=3"', "crowd=3\"\nevaluate_on = { more = 'folder:z' }"),
    ],
)
def test_everything_that_determines_results_is_part_of_a_key(tmp_path: Path, old: str, new: str) -> None:
    text = made.TINY + VARIANTS
    assert old in text
    before, after = grid_of(tmp_path)[0], grid_of(tmp_path, text.replace(old, new))[0]
    assert before.key != after.key
    assert (before.network != after.network) == (old in ("calibration_share = 0.5", "seed=3"))


def test_the_versions_of_the_code_are_part_of_a_key(tmp_path: Path) -> None:
    before = grid_of(tmp_path)[0]
    now = (grid.TRAINING_VERSION, grid.evaluation_version(before.settings))
    assert grid.group_key(before.config, {}, "1/h") == grid.group_key(before.config, {}, "1/h", now)
    keys = {grid.group_key(before.config, {}, "1/h", (now[0] + a, now[1] + b)) for a in (0, 1) for b in (0, 1)}
    assert len(keys) == 4
    assert grid.network_key(before.config, "folder:x", now[0] + 1) != grid.network_key(before.config, "folder:x")


LEARNED = ('scoring.motion=["flow_residual:8"]', 'scoring.appearance=["frame_error:32"]')


@pytest.mark.parametrize(
    ("settings", "version"),
    [
        ((), 4),
        (LEARNED, 4),
        (("scoring.fusion=maximum",), 4),
        (("scoring.fusion=maximum", *LEARNED), 5),
        (("scoring.score=thesis", *LEARNED), 4),
        (("model=autoencoder",), 5),
    ],
)
def test_the_evaluation_has_another_version_where_its_results_changed(settings: tuple[str, ...], version: int) -> None:
    assert grid.evaluation_version(result_settings(read_training_config("small", settings=settings))) == version


def test_results_without_a_channel_of_the_descent_do_not_depend_on_its_resolution() -> None:
    def scoring(*settings: str) -> dict[str, object]:
        return dict(result_settings(read_training_config("small", settings=settings))["scoring"])

    assert scoring()["descent_resolution"] > 0
    assert "descent_resolution" not in scoring('scoring.motion=["directional_speed:8"]')
    assert "descent_resolution" not in scoring("scoring.descent_resolution=0"), "results from before it keep their key"


def test_differences_are_those_from_the_preset(tmp_path: Path) -> None:
    found = by_label(grid_of(tmp_path))
    assert differences(found["scene/longer/1"].settings, "nano")["train.epochs"] == 2
    changed = differences(found["scene/plain+speed/0"].settings, "nano")
    assert changed["scoring.motion"] == ["flow_speed:8"]
    assert "scoring.appearance" not in changed, "the preset has no channel of appearance either"
    assert not {"train.seed", "train.devices", "train.lr"} & set(differences(found["scene/longer/1"].settings, "nano"))


def test_differences_name_the_settings_that_differ() -> None:
    config = read_training_config("small", settings=["clips.flow_shrinkage=0", 'network.appearance_predicts="frame"'])
    expected = {"clips.flow_shrinkage": 0.0, "network.appearance_predicts": "frame"}
    assert differences(result_settings(config), "small") == expected


@pytest.mark.parametrize(
    ("seeds", "n_seeds", "expected"),
    [("[0]", None, [0]), ("[4, 2]", 1, [4]), ("[4, 2]", 4, [4, 2, 5, 6]), ("[0, 1, 2]", 3, [0, 1, 2])],
)
def test_seeds_are_cut_or_continued(tmp_path: Path, seeds: str, n_seeds: int | None, expected: list[int]) -> None:
    listed = grid_of(tmp_path, made.TINY.replace("seeds = [0]", f"seeds = {seeds}"), n_seeds)
    assert [run.seed for run in listed] == expected
    assert [run.config.train.seed for run in listed] == expected


@pytest.mark.parametrize(
    ("pattern", "n_runs"),
    [("plain", 4), ("plain*", 8), ("scene/*", 8), ("*/plain+speed", 4), ("other/longer/1", 1), ("*/*/0", 8), ("*", 16)],
)
def test_patterns_match_runs(tmp_path: Path, pattern: str, n_runs: int) -> None:
    assert len(select(grid_of(tmp_path), [pattern])) == n_runs


def test_several_patterns_select_in_the_order_of_the_grid(tmp_path: Path) -> None:
    listed = grid_of(tmp_path)
    assert select(listed, []) == listed
    assert [run.label for run in select(listed, ["scene/longer/1", "plain/?", "scene/plain/0"][::2])] == [
        "scene/plain/0",
        "scene/longer/1",
    ]
    with pytest.raises(ConfigError, match="--only 'plane' matches no run: did you mean 'plain'"):
        select(listed, ["plain", "plane"])


def test_a_scoring_may_not_change_the_network(tmp_path: Path) -> None:
    changed = VARIANTS.replace("settings.scoring = {", "settings.network.base_width = 8\n#")
    with pytest.raises(ConfigError, match=r"variant 'plain\+speed': a scoring may only set scoring.\*"):
        grid_of(tmp_path, made.TINY + changed)


def test_a_setting_that_does_not_fit_names_its_variant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"variant 'longer': unknown config key 'train\.epoch'"):
        grid_of(tmp_path, made.TINY + VARIANTS.replace("settings.train.epochs", "settings.train.epoch"))


def test_the_version_of_pseudo_anomalies_is_part_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        made.TINY + VARIANTS + '\n[data.selected]\ntrain = "folder:x"\nevaluate_on = { pseudo = "pseudo:folder:x" }\n'
    )
    before = by_label(grid_of(tmp_path, text))
    monkeypatch.setattr(grid, "PSEUDO_VERSION", grid.PSEUDO_VERSION + 1)
    after = by_label(grid_of(tmp_path, text))
    assert before["selected/plain/0"].key != after["selected/plain/0"].key
    assert before["selected/plain/0"].network == after["selected/plain/0"].network
    assert before["scene/plain/0"].key == after["scene/plain/0"].key
