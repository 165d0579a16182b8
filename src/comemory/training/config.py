"""Everything that decides what a training makes: one recipe, from a preset, a TOML file and `--set key=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from comemory.clips.builder import ClipSettings
from comemory.config import apply_settings, build, read_toml
from comemory.config_model import Settings
from comemory.errors import ConfigError, nearest
from comemory.flow import FlowSettings
from comemory.scoring import DecisionSettings, parse_channel
from comemory.types import JSON

Level = Literal[0, 1, 2]


class NetworkSettings(Settings):
    """The arguments of `science.comemory.CoMemory`, which explains them, less those that follow from the clips."""

    stem: Literal[1, 2, 4] = 2
    base_width: int = Field(16, ge=4, le=256)
    motion_encoder: Literal["pair", "recurrent", "volume"] = "pair"
    motion_width: int | None = Field(None, ge=4, le=256)
    appearance_stem: Literal[1, 2, 4] | None = None
    appearance_width: int | None = Field(None, ge=4, le=256)
    appearance_levels: Literal[3, 4] = 4
    motion_items: int = Field(10, ge=0, le=4096)
    appearance_items: int = Field(10, ge=0, le=4096)
    motion_skips: tuple[Level, ...] = ()
    appearance_skips: tuple[Level, ...] = (0, 1, 2)
    motion_decodes: Literal["both", "read"] = "read"
    appearance_decodes: Literal["both", "read"] = "both"
    appearance_predicts: Literal["frame", "change"] = "frame"
    motion_temperature: float = Field(0.1, gt=0)
    appearance_temperature: float = Field(1.0, gt=0)
    unit_queries: bool = False
    momentum: float | None = Field(None, ge=0, lt=1)
    margin: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _branches_fit(self) -> NetworkSettings:
        stem = self.appearance_stem or self.stem
        if stem < self.stem or stem * 2**self.appearance_levels < self.stem * 16:
            raise ValueError(
                f"the appearance branch is nowhere finer than the motion branch, got stem={self.stem}, "
                f"appearance_stem={stem}, appearance_levels={self.appearance_levels}"
            )
        return self

    def coarsest_place(self) -> int:
        """Side in pixels of the largest squares that become one place."""
        return int((self.appearance_stem or self.stem) * 2 ** (self.appearance_levels - 1))


class LossWeights(Settings):
    """The six weights of the seed's Eq. (15)."""

    flow: float = Field(1.0, ge=0)
    prediction: float = Field(1.0, ge=0)
    motion_compactness: float = Field(0.1, ge=0)
    motion_separateness: float = Field(0.1, ge=0)
    appearance_compactness: float = Field(0.1, ge=0)
    appearance_separateness: float = Field(0.1, ge=0)


class TrainSettings(Settings):
    """How training runs.

    Attributes:
        epochs: passes over the training clips.
        batch: clips of a step, of all devices together.
        lr: the highest learning rate of a one-cycle schedule.
        taught: where there are teachers, the share of flow and frame to be learned that is theirs.
        holdout: share of the training video that is kept for the calibration and never trained on.
        precision: `auto` takes bfloat16 where a GPU has it, else fp32.
        devices: `auto` takes the GPUs present, else the CPU; or a number of devices.
        threads: CPU threads; None leaves the choice to torch.
        checkpoint_s: seconds between checkpoints.
    """

    epochs: int = Field(3, ge=1)
    batch: int = Field(4, ge=1)
    lr: float = Field(1e-3, gt=0)
    seed: int = Field(0, ge=0, le=2**32 - 1)
    taught: float = Field(0.5, gt=0, le=1)
    holdout: float = Field(0.2, gt=0, lt=0.9)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    threads: int | None = Field(None, ge=1)
    checkpoint_s: float = Field(60.0, ge=0)
    loss: LossWeights = LossWeights()

    @field_validator("devices", mode="before")
    @classmethod
    def _counted(cls, devices: Any) -> Any:
        if devices == "auto" or (type(devices) is int and devices >= 1):
            return devices
        raise ValueError("expected 'auto' or a number of devices, 1 or more")


class Recipe(Settings):
    """The resolved config; it goes into the bundle as it is.

    Where a memory is switched off, the default channels of the decision that need it go with it; one that was asked
    for is refused, before any training.
    """

    model: Literal["comemory"] = "comemory"
    network: NetworkSettings = NetworkSettings()
    clips: ClipSettings = ClipSettings()
    flow: FlowSettings = FlowSettings()
    decision: DecisionSettings = DecisionSettings()
    train: TrainSettings = TrainSettings()

    @field_validator("clips")
    @classmethod
    def _whole_places(cls, clips: ClipSettings, info: ValidationInfo) -> ClipSettings:
        network = info.data.get("network", NetworkSettings())
        place = network.coarsest_place()
        if clips.height % place or clips.width % place:
            raise ValueError(
                f"with network.stem={network.stem} the height and width of clips are multiples of {place}, "
                f"got {clips.height}x{clips.width}"
            )
        return clips

    @field_validator("decision")
    @classmethod
    def _observed(cls, decision: DecisionSettings, info: ValidationInfo) -> DecisionSettings:
        network = info.data.get("network", NetworkSettings())
        left: dict[str, tuple[str, ...]] = {}
        for part in ("motion", "appearance"):
            channels: tuple[str, ...] = getattr(decision, part)
            blind = tuple(channel for channel in channels if _is_off(channel, network))
            if blind and part in decision.model_fields_set:
                memory = f"{blind[0].partition('_')[0]}_items"
                raise ValueError(f"the {part} channel {blind[0]!r} needs a memory, but network.{memory} is 0")
            left[part] = tuple(channel for channel in channels if channel not in blind)
        return decision.model_copy(update=left)

    def arguments(self) -> JSON:
        """What the model is made with."""
        shared = {"channels": self.clips.channels, "n_past": self.clips.n_past}
        return {**self.network.model_dump(mode="json"), **shared}


PRESETS: Mapping[str, JSON] = {
    "paper": {
        "network": {
            "stem": 1,
            "base_width": 64,
            "motion_skips": [0, 1, 2],
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
            "flow_carry": 0,
        },
        "flow": {"preset": "medium"},
        "decision": {"score": "thesis", "smoothing": 0.0},
        "train": {"epochs": 60, "lr": 2e-4},
    },
    "medium": {},
    "small": {
        "network": {
            "base_width": 8,
            "appearance_stem": 4,
            "appearance_width": 16,
            "appearance_levels": 3,
            "appearance_predicts": "change",
        },
    },
    "nano": {
        "network": {"stem": 1, "base_width": 8},
        "clips": {"height": 64, "width": 96},
        "decision": {"appearance": ["frame_error:16"]},
        "train": {"epochs": 5, "batch": 8, "lr": 2e-3},
    },
}


def read_recipe(preset: str = "small", file: Path | None = None, settings: Sequence[str] = ()) -> Recipe:
    """A preset, then the TOML file over it, then the settings over both.

    Raises:
        ConfigError: an unknown preset or key (with the nearest known one), or a value that does not fit.

    >>> read_recipe("small", settings=["train.epochs=2"]).train.epochs
    2
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: {nearest(preset, PRESETS)}")
    values = _laid_over(PRESETS[preset], read_toml(file) if file else {})
    return build(Recipe, apply_settings(values, settings))


def _is_off(channel: str, network: NetworkSettings) -> bool:
    statistic, _ = parse_channel(channel)
    part, _, measure = statistic.partition("_")
    return measure in ("distance", "novelty") and not getattr(network, f"{part}_items")


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _laid_over(merged[key], value) if nested else value
    return merged
