"""Recipes: presets, files and settings, in this order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comemory.config import build
from comemory.errors import ConfigError
from comemory.training.config import PRESETS, TrainingConfig, read_training_config


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_recipe_that_survives_json(preset: str) -> None:
    recipe = read_training_config(preset)
    stored = json.loads(json.dumps(recipe.model_dump(mode="json"), allow_nan=False))
    assert build(TrainingConfig, stored) == recipe
    assert recipe.model_kwargs()["n_past"] == recipe.clips.n_past
    assert recipe.model_kwargs()["channels"] == recipe.clips.channels


def test_the_preset_paper_is_the_seeds_network() -> None:
    recipe = read_training_config("paper")
    network = recipe.network
    assert network.motion_skips == network.appearance_skips == (0, 1, 2)
    assert network.motion_decodes == network.appearance_decodes == "both"
    assert network.motion_temperature == network.appearance_temperature == 1
    assert (network.base_width, network.motion_items, network.appearance_items, network.momentum) == (64, 10, 10, None)
    assert (recipe.clips.height, recipe.clips.width, recipe.clips.channels) == (256, 256, 3)
    assert (recipe.clips.flow_of, recipe.clips.flow_ema_decay, recipe.scoring.score) == ("seen", 0, "thesis")


def test_a_setting_beats_the_file_and_the_file_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nepochs = 9\nlr = 0.5\n[train.loss]\nflow = 7\n[clips]\nchannels = 3\n")
    recipe = read_training_config("nano", file, ["train.lr=0.25", "network.motion_skips=[0, 2]", "train.devices=auto"])
    assert (recipe.train.epochs, recipe.train.lr, recipe.train.batch) == (9, 0.25, 8)
    assert (recipe.train.loss.flow, recipe.train.loss.prediction) == (7, 1)
    assert (recipe.clips.channels, recipe.clips.height) == (3, 64)
    assert recipe.network.motion_skips == (0, 2)
    assert read_training_config("nano") == read_training_config("nano", settings=[])


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_training_config().train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.epoch=3"], "unknown config key 'train.epoch': did you mean 'epochs'?"),
        (["trian.epochs=3"], "unknown config key 'trian': did you mean 'train'?"),
        (["train.loss.flw=1"], "unknown config key 'train.loss.flw': did you mean 'flow'?"),
        (["network.channels=3"], "unknown config key 'network.channels'"),
        (["train.epochs"], "expected key=value"),
        (["train.epochs=0"], "config key 'train.epochs' does not accept 0"),
        (["train.epochs=many"], "config key 'train.epochs' does not accept 'many'"),
        (["train.lr=NaN"], "config key 'train.lr' does not accept nan"),
        (["train.lr=Infinity"], "config key 'train.lr' does not accept inf"),
        (["train.holdout=0"], "config key 'train.holdout' does not accept 0"),
        (["train.devices=0"], "config key 'train.devices' does not accept 0"),
        (["train.devices=-1"], "config key 'train.devices' does not accept -1"),
        (["train.devices=all"], "expected 'auto' or a number of devices"),
        (["train.seed=-1"], "config key 'train.seed' does not accept -1"),
        (["train.seed=4294967296"], "config key 'train.seed' does not accept 4294967296"),
        (["network.motion_skips=[3]"], "config key 'network.motion_skips.0' does not accept 3"),
        (["network.momentum=1"], "config key 'network.momentum' does not accept 1"),
        (["clips.height=33"], "config key 'clips.height' does not accept 33"),
        (["clips.width=200"], "height and width of clips are multiples of 16, got 128x200"),
        (["network.appearance_levels=4", "clips.width=208"], "multiples of 32, got 128x208"),
        (["network.appearance_stem=1"], "the appearance branch is nowhere finer than the motion branch"),
        (["network.appearance_stem=2"], "the appearance branch is nowhere finer than the motion branch"),
        (["network.appearance_stem=3"], "config key 'network.appearance_stem' does not accept 3"),
        (["train.taught=0"], "config key 'train.taught' does not accept 0"),
        (["flow.name=diss"], "did you mean 'dis'?"),
        (["model=mnad"], "config key 'model' does not accept 'mnad'"),
        (['scoring.motion=["flow_sped:12"]'], "did you mean 'flow_speed'?"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(settings: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_training_config("small", settings=settings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'smal': did you mean 'small'\?"):
        read_training_config("smal")


@pytest.mark.parametrize(("content", "said"), [(b"train = ", "not valid TOML"), (b"\xff\xfe", "not valid TOML")])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_training_config(file=file)
    with pytest.raises(ConfigError, match="cannot read config"):
        read_training_config(file=tmp_path / "absent.toml")


def test_a_memory_that_is_off_takes_the_default_channels_that_need_it_with_it() -> None:
    recipe = read_training_config(settings=["network.appearance_items=0", "scoring.smoothing=0.5"])
    assert not [channel for channel in recipe.scoring.appearance if channel.startswith("appearance_")]
    assert recipe.scoring.motion == read_training_config().scoring.motion
    assert recipe.scoring.smoothing == 0.5
    assert build(TrainingConfig, recipe.model_dump(mode="json")) == recipe
    assert read_training_config(settings=["network.motion_items=0"]).scoring == read_training_config().scoring


@pytest.mark.parametrize("part", ["motion", "appearance"])
def test_a_channel_that_was_asked_for_and_needs_a_memory_that_is_off_is_refused(part: str) -> None:
    settings = [f"network.{part}_items=0", f'scoring.{part}=["frame_error:16", "{part}_distance:16"]']
    with pytest.raises(ConfigError, match=f"'{part}_distance:16' needs a memory, but network.{part}_items is 0"):
        read_training_config(settings=settings)
    assert read_training_config(settings=settings[1:])
