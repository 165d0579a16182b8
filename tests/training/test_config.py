"""The training configuration: preset, file and settings, in this order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comemory.errors import ConfigError
from comemory.models.settings import CoMemorySettings
from comemory.training.config import PRESETS, build_training_config, read_training_config


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_json(preset: str) -> None:
    config = read_training_config(preset)
    stored = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    assert build_training_config(stored) == config
    assert config.model_kwargs()["n_past"] == config.clips.n_past
    assert config.model_kwargs()["channels"] == config.clips.channels


def test_the_preset_paper_is_the_network_of_the_seed() -> None:
    config = read_training_config("paper")
    network = config.network
    assert isinstance(network, CoMemorySettings)
    assert (network.motion_skips, network.motion_decodes, network.motion_temperature) == (True, "both", 1)
    assert (network.base_width, network.motion_items, network.appearance_items) == (64, 10, 10)
    assert (config.clips.height, config.clips.width, config.clips.channels) == (256, 256, 3)
    assert (config.clips.flow_of, config.clips.flow_ema_decay, config.scoring.score) == ("seen", 0, "thesis")


def test_a_setting_overrides_the_file_and_the_file_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nepochs = 9\nlr = 0.5\n[network.loss_weights]\nflow = 7\n[clips]\nchannels = 3\n")
    config = read_training_config("nano", file, ["train.lr=0.25", "network.motion_skips=true", "train.devices=auto"])
    assert (config.train.epochs, config.train.lr, config.train.batch) == (9, 0.25, 8)
    assert isinstance(config.network, CoMemorySettings)
    assert (config.network.loss_weights.flow, config.network.loss_weights.prediction) == (7, 1)
    assert (config.clips.channels, config.clips.height) == (3, 64)
    assert (config.network.motion_skips, config.network.base_width) == (True, 8)
    assert read_training_config("nano") == read_training_config("nano", settings=[])


def test_the_preset_without_a_network_has_the_score_of_small() -> None:
    small, motion = read_training_config("small"), read_training_config("motion")
    assert motion.model == "motion-baseline"
    assert (motion.scoring, motion.clips, motion.flow) == (small.scoring, small.clips, small.flow)
    assert read_training_config("motion", settings=["model=comemory"]).model == "comemory"
    other = read_training_config("motion", settings=["model=autoencoder"])
    assert other == read_training_config("small", settings=["model=autoencoder", "train.epochs=1"])


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_training_config().train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.epoch=3"], "unknown config key 'train.epoch': did you mean 'epochs'?"),
        (["trian.epochs=3"], "unknown config key 'trian': did you mean 'train'?"),
        (["network.loss_weights.flw=1"], "unknown config key 'network.loss_weights.flw': did you mean 'flow'?"),
        (["network.channels=3"], "unknown config key 'network.channels'"),
        (["train.epochs"], "expected key=value"),
        (["train.epochs=0"], "config key 'train.epochs' does not accept 0"),
        (["train.epochs=many"], "config key 'train.epochs' does not accept 'many'"),
        (["train.lr=NaN"], "config key 'train.lr' does not accept nan"),
        (["train.lr=Infinity"], "config key 'train.lr' does not accept inf"),
        (["train.calibration_share=0"], "config key 'train.calibration_share' does not accept 0"),
        (["train.devices=0"], "config key 'train.devices' does not accept 0"),
        (["train.devices=-1"], "config key 'train.devices' does not accept -1"),
        (["train.devices=all"], "expected 'auto' or a number of devices"),
        (["train.seed=-1"], "config key 'train.seed' does not accept -1"),
        (["train.seed=4294967296"], "config key 'train.seed' does not accept 4294967296"),
        (["network.motion_skips=[3]"], "config key 'network.motion_skips' does not accept"),
        (["network.base_widht=8"], "unknown config key 'network.base_widht': did you mean 'base_width'?"),
        (["clips.height=33"], "config key 'clips.height' does not accept 33"),
        (["clips.width=200"], "height and width of clips are multiples of 16, got 128x200"),
        (["network.appearance_levels=4", "clips.width=208"], "multiples of 32, got 128x208"),
        (["network.appearance_stem=1"], "the appearance branch must not be finer than the motion branch"),
        (["network.appearance_stem=2"], "the appearance branch must not be finer than the motion branch"),
        (["network.appearance_stem=3"], "config key 'network.appearance_stem' does not accept 3"),
        (["flow.name=diss"], "did you mean 'dis'?"),
        (["model=mnad"], "there is no such model: known: "),
        (['scoring.motion=["flow_sped:12"]'], "did you mean 'flow_speed'?"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(settings: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_training_config("small", settings=settings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_preset_gets_the_nearest_as_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'smal': did you mean 'small'\?"):
        read_training_config("smal")


@pytest.mark.parametrize(("content", "said"), [(b"train = ", "not valid TOML"), (b"\xff\xfe", "not valid TOML")])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_training_config(file=file)
    with pytest.raises(ConfigError, match="cannot read config"):
        read_training_config(file=tmp_path / "absent.toml")


def test_default_channels_without_evidence_are_left_out() -> None:
    config = read_training_config(settings=["network.appearance_items=0", "scoring.smoothing_s=0.5"])
    assert not [channel for channel in config.scoring.appearance if channel.startswith("appearance_")]
    assert config.scoring.motion == read_training_config().scoring.motion
    assert config.scoring.smoothing_s == 0.5
    assert build_training_config(config.model_dump(mode="json")) == config
    assert read_training_config(settings=["network.motion_items=0"]).scoring == read_training_config().scoring


@pytest.mark.parametrize("part", ["motion", "appearance"])
def test_a_chosen_channel_whose_memory_is_off_is_refused(part: str) -> None:
    settings = [f"network.{part}_items=0", f'scoring.{part}=["frame_error:16", "{part}_distance:16"]']
    with pytest.raises(ConfigError, match=f"'{part}_distance:16' needs a memory, but network.{part}_items is 0"):
        read_training_config(settings=settings)
    assert read_training_config(settings=settings[1:])


def test_another_model_has_settings_and_channels_of_its_own() -> None:
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    config = read_training_config("small", settings=["model=mnad-prediction", "network.items=5"])
    assert config.network.model_dump() == {
        "width": 8,
        "items": 5,
        "compactness": 0.1,
        "separateness": 0.1,
        "update": "paper",
    }
    assert (config.scoring.motion, config.scoring.appearance) == ((), ("frame_error:32",))
    assert build_training_config(json.loads(config.model_dump_json())) == config
    with pytest.raises(ConfigError, match=r"unknown config key 'network\.itms': did you mean 'items'"):
        read_training_config("small", settings=["model=mnad-prediction", "network.itms=5"])
    with pytest.raises(
        ConfigError, match="'flow_residual:8' needs the evidence 'flow_residual', which this model does"
    ):
        read_training_config("small", settings=["model=mnad-prediction", 'scoring.motion=["flow_residual:8"]'])


@pytest.mark.parametrize("setting", ["train.epochs=true", "train.lr=true", "train.seed=false", "train.threads=true"])
def test_true_is_no_number(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"config key '{setting.partition('=')[0]}' .*expected a number"):
        read_training_config("nano", settings=[setting])


def test_true_is_no_number_of_a_network() -> None:
    with pytest.raises(ConfigError, match="expected a number, not true or false, in base_width"):
        read_training_config("nano", settings=["network.base_width=true"])
