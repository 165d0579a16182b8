"""The configuration of a training: a preset, then a TOML file, then `--set key=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, ValidationInfo, create_model, field_validator

from comemory.clips.config import ClipSettings
from comemory.config import Settings, apply_settings, build, read_toml
from comemory.errors import ConfigError, suggest
from comemory.flow import FlowSettings
from comemory.models import MODELS, SETTINGS
from comemory.models.settings import CoMemorySettings, ModelSettings
from comemory.registry import Registry
from comemory.scoring import STATISTICS, ScoringSettings, evidence_name
from comemory.scoring.channels import OBJECT_STATISTICS
from comemory.training.footage_sampling import MAX_FRAMES
from comemory.types import INPUT_MAPS, JSON


class TrainSettings(Settings):
    """How a training runs."""

    epochs: int = Field(3, ge=1, title="Epochs", description="Passes over the training clips.")
    batch: int = Field(4, ge=1, title="Batch size", description="Clips of a step, of all devices together.")
    lr: float = Field(1e-3, gt=0, title="Learning rate", description="Highest learning rate of the one-cycle schedule.")
    seed: int = Field(
        0, ge=0, le=2**32 - 1, title="Seed", description="Of the first weights and of the order of the clips."
    )
    calibration_share: float = Field(
        0.2,
        gt=0,
        lt=0.9,
        title="Calibration share",
        description="Share of the training video that is never trained on: scores are calibrated on it.",
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", title="Precision", description="`auto` is bfloat16 where a GPU computes in it, else fp32."
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(
        "auto", title="Accelerator", description="`auto` is the GPU where there is one, else the CPU."
    )
    devices: int | Literal["auto"] = Field(
        "auto", title="Devices", description="Number of devices; `auto` is all of them."
    )
    threads: int | None = Field(
        None, ge=1, title="CPU threads", description="CPU threads of the training; unset leaves the choice to torch."
    )
    max_frames: int = Field(
        MAX_FRAMES,
        ge=100,
        title="Frames that are used",
        description="The most frames to use. Of longer footage, one-minute segments spread evenly over all of it are used.",
    )
    checkpoint_s: float = Field(
        60.0,
        ge=0,
        title="Checkpoint interval",
        description="Seconds between checkpoints within an epoch; each epoch ends with one.",
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _counted(cls, devices: Any) -> Any:
        if devices == "auto" or (type(devices) is int and devices >= 1):
            return devices
        raise ValueError("expected 'auto' or a number of devices, 1 or more")


class TrainingConfig(Settings):
    """Everything that determines the outcome of a training; the bundle stores it.

    The fields of `network` are those of the model's own settings. Channels that are not set are the defaults of the
    scoring, less those whose evidence the model does not give, or the model's own. A channel that is set and whose
    evidence the model does not give is refused before the training.
    """

    model: str = Field("comemory", title="Model", description="Name of the network in the registry of models.")
    network: SerializeAsAny[ModelSettings] = Field(
        CoMemorySettings(), title="Network", description="Settings of the network, and weights of its losses."
    )
    clips: ClipSettings = Field(
        ClipSettings(), title="Clips", description="Size and number of the frames, and how the flow is filtered."
    )
    flow: FlowSettings = Field(FlowSettings(), title="Flow", description="The optical flow estimator.")
    scoring: ScoringSettings = Field(
        ScoringSettings(), title="Scoring", description="From evidence to scores, and from scores to events."
    )
    train: TrainSettings = Field(TrainSettings(), title="Training", description="How the training runs.")

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model not in MODELS:
            raise ValueError(f"there is no such model: {suggest(model, MODELS)}")
        return model

    @field_validator("network", mode="before")
    @classmethod
    def _of_the_model(cls, network: Any, info: ValidationInfo) -> ModelSettings:
        settings = model_settings_class(info.data.get("model", "comemory"))
        return network if type(network) is settings else settings.model_validate(_plain(network))

    @field_validator("clips")
    @classmethod
    def _fits_the_network(cls, clips: ClipSettings, info: ValidationInfo) -> ClipSettings:
        multiple = info.data["network"].size_multiple() if "network" in info.data else 1
        if clips.height % multiple or clips.width % multiple:
            raise ValueError(
                f"with this network the height and width of clips are multiples of {multiple}, "
                f"got {clips.height}x{clips.width}"
            )
        return clips

    @field_validator("scoring")
    @classmethod
    def _has_evidence(cls, scoring: ScoringSettings, info: ValidationInfo) -> ScoringSettings:
        if "network" not in info.data:
            return scoring
        network: ModelSettings = info.data["network"]
        channels = {part: _channels(scoring, part, network) for part in ("motion", "appearance")}
        _require_use(network, scoring, [channel for part in channels.values() for channel in part])
        return scoring.model_copy(update=channels)

    def model_kwargs(self) -> JSON:
        """The arguments of the model's `from_kwargs`."""
        shared = {"channels": self.clips.channels, "n_past": self.clips.n_past}
        return {**self.network.model_dump(mode="json"), **shared}


SCENE_SCORING: JSON = {
    "fusion": "sum",
    "motion": ["directional_speed:8", "agitation:12", "descent:4", "object_distance:4"],
    "appearance": [],
    "descent_resolution": 0.03,
    "smoothing_s": 0.15,
}
"""The score of the presets for cameras. It was chosen over four recorded scenes, see docs/explanation/scenes.md; the
network's evidence is not part of it, because it lowered the mean AUC."""

PRESETS: Mapping[str, JSON] = {
    "paper": {
        "network": {
            "stem": 1,
            "base_width": 64,
            "motion_skips": True,
            "motion_decodes": "both",
            "motion_temperature": 1.0,
        },
        "clips": {
            "height": 256,
            "width": 256,
            "channels": 3,
            "flow_height": 256,
            "flow_width": 256,
            "flow_of": "seen",
            "flow_ema_decay": 0,
        },
        "flow": {"preset": "medium"},
        "scoring": {"score": "thesis", "smoothing_s": 0.0},
        "train": {"epochs": 60, "lr": 2e-4},
    },
    "medium": {"scoring": SCENE_SCORING},
    "small": {
        "network": {
            "base_width": 8,
            "appearance_stem": 4,
            "appearance_width": 16,
            "appearance_levels": 3,
            "appearance_predicts": "change",
        },
        "scoring": SCENE_SCORING,
    },
    "motion": {"model": "motion-baseline", "scoring": SCENE_SCORING, "train": {"epochs": 1}},
    "nano": {
        "network": {"stem": 1, "base_width": 8},
        "clips": {"height": 64, "width": 96},
        "scoring": SCENE_SCORING,
        "train": {"epochs": 5, "batch": 8, "lr": 2e-3},
    },
}
"""What each preset changes of the defaults. Its `network` and `scoring` are for its own model, `comemory` unless it names
another; any other model starts from its own defaults. `motion` has the score of `small`, and trains no network for it."""


def read_training_config(
    preset: str = "small", file: Path | None = None, settings: Sequence[str] = ()
) -> TrainingConfig:
    """A preset, then the TOML file over it, then the settings over both.

    Args:
        preset: its name.
        file: a TOML file; None for none.
        settings: `key=value` each, such as `train.epochs=2`.

    Raises:
        ConfigError: an unknown preset or key (with the nearest known one), or a value that does not fit.
        RuntimeMissing: the settings of the model are beside its layers, and torch is not installed.

    >>> read_training_config("small", settings=["train.epochs=2"]).train.epochs
    2
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: {suggest(preset, PRESETS)}")
    chosen = apply_settings(read_toml(file) if file else {}, settings)
    model = str(chosen.get("model", _model_of(preset)))
    return build_training_config(_merged(_preset_of(model, preset), chosen))


def _model_of(preset: str) -> str:
    return str(PRESETS[preset].get("model", "comemory"))


def _preset_of(model: str, preset: str) -> Mapping[str, Any]:
    """The settings of a preset for a model: all models share its sizes and training, unless a model defines its own."""
    if model == _model_of(preset) or model not in MODELS:
        return PRESETS[preset]
    own = model_settings_class(model)
    common = {key: value for key, value in PRESETS[preset].items() if key not in ("model", "network", "scoring")}
    needed = _merged(common, {"clips": dict(own.clips), "scoring": dict(own.scoring)})
    return _merged(needed, own.presets.get(preset, {}))


def build_training_config(values: Mapping[str, Any]) -> TrainingConfig:
    """A configuration from nested plain values. See `read_training_config` for the errors."""
    name, network = values.get("model", "comemory"), values.get("network", {})
    if name in MODELS and not isinstance(network, ModelSettings):
        # Validated on its own first: the error then names the nearest setting of this very model.
        settings = model_settings_class(name)
        alone = create_model("Network", __base__=Settings, network=(settings, Field(default_factory=settings)))
        values = {**values, "network": build(alone, {"network": network}).network}  # type: ignore[attr-defined]
    return build(TrainingConfig, values)


def model_settings_class(model: str) -> type[ModelSettings]:
    """The class of a model's settings; imports torch unless `models.SETTINGS` lists it.

    Raises:
        ConfigError: there is no such model. RuntimeMissing: torch is needed and not installed.
    """
    if model in SETTINGS:
        found: type[ModelSettings] = Registry("model", SETTINGS).load(model)
        return found
    return model_class(model).Settings  # type: ignore[no-any-return]


def model_class(model: str) -> Any:
    """The class of a model, a `models.contract.Model`.

    Raises:
        ConfigError: there is no such model. RuntimeMissing: torch is not installed.
    """
    return Registry("model", MODELS, dict.fromkeys(MODELS, "train")).load(model)


def _channels(scoring: ScoringSettings, part: str, network: ModelSettings) -> tuple[str, ...]:
    """The channels of one part of the score, as far as the network gives the evidence for them.

    Raises:
        ValueError: a channel was set, and its evidence is not given.
    """
    given = {*network.evidence(), *INPUT_MAPS, *OBJECT_STATISTICS}
    is_set = part in scoring.model_fields_set
    own: tuple[str, ...] | None = None if is_set else getattr(network, f"{part}_channels")
    channels: tuple[str, ...] = getattr(scoring, part) if own is None else own
    missing = [channel for channel in channels if evidence_name(channel) not in given]
    if missing and (is_set or own is not None):
        known = sorted({*given, *(name for name in STATISTICS if evidence_name(f"{name}:4") in given)})
        raise ValueError(_refusal(part, missing[0], network, known))
    return tuple(channel for channel in channels if channel not in missing)


def _require_use(network: ModelSettings, scoring: ScoringSettings, channels: Sequence[str]) -> None:
    """Raise ValueError where neither the model nor the configuration names channels, and the defaults use nothing of the model.

    Its evidence would silently not be scored.
    """
    own = [name for name in network.evidence() if name != "flow_mean"]
    is_named = any(
        part in scoring.model_fields_set or getattr(network, f"{part}_channels") is not None
        for part in ("motion", "appearance")
    )
    if own and not is_named and scoring.score != "thesis" and not {evidence_name(one) for one in channels} & set(own):
        raise ValueError(
            f"no channel uses the evidence of this model ({', '.join(own)}): name channels such as '{own[0]}:16' in the "
            "class variables motion_channels and appearance_channels of its settings, or in scoring.motion"
        )


def _refusal(part: str, channel: str, network: ModelSettings, known: Sequence[str]) -> str:
    evidence = evidence_name(channel)
    memory = f"{evidence.partition('_')[0]}_items"
    if getattr(network, memory, None) == 0:
        return f"the {part} channel {channel!r} needs a memory, but network.{memory} is 0"
    nearest = suggest(channel.partition(":")[0], known)
    return f"the {part} channel {channel!r} needs the evidence {evidence!r}, which this model does not give: {nearest}"


def _plain(network: Any) -> Any:
    return network.model_dump() if isinstance(network, ModelSettings) else network


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
