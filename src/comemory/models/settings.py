"""Settings of networks, and what is known of a network before it is built. Does not import torch.

A configuration is read, shown and checked where torch need not be installed, so the settings of the shipped network
are here, and not beside its layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

UNET_LEVELS = 4
"""Resolutions in the U-Net; the last one, at an eighth of the input, holds the queries."""


class ModelSettings(BaseModel):
    """Base class of the settings of a network: frozen, and it refuses unknown keys, NaN and infinity.

    A network with settings of its own derives from it, with one field for each setting. The class also says what
    has to be known of the network before it is built.

    Attributes:
        motion_channels: motion channels of the score unless the configuration names some; None takes the defaults of
            the scoring as far as the network gives the evidence for them.
        appearance_channels: the same for the appearance channels.
        authors_score: the score of the network's authors, for the paper protocol: the weight of each number of the evidence,
            after it was scaled to 0 to 1 within each video. Empty where the default score or Eq. (16) is meant. The
            bundle states it, see `evaluation.authors_score`.
        clips: settings of the clips that the network needs; the configuration overrides them.
        scoring: settings of the scoring that the network needs; the configuration overrides them.
        presets: by name of a preset, the groups of settings that it changes for this network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    motion_channels: ClassVar[tuple[str, ...] | None] = None
    appearance_channels: ClassVar[tuple[str, ...] | None] = None
    authors_score: ClassVar[Mapping[str, float]] = {}
    clips: ClassVar[Mapping[str, object]] = {}
    scoring: ClassVar[Mapping[str, object]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    def evidence(self) -> tuple[str, ...]:
        """Names of the evidence that `infer` gives with these settings, without the `updated_` memory items."""
        raise NotImplementedError(f"{type(self).__name__} does not say which evidence its model gives")

    def size_multiple(self) -> int:
        """Height and width of the input are multiples of this many pixels."""
        return 1


class LossWeights(BaseModel):
    """The six weights of the loss. Source: thesis, Eq. (15)."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    flow: float = Field(
        1.0, ge=0, title="Flow loss", description="Weight of the squared error of the decoded flow, Eq. (11)."
    )
    prediction: float = Field(
        1.0, ge=0, title="Prediction loss", description="Weight of the squared error of the predicted frame, Eq. (12)."
    )
    motion_compactness: float = Field(
        0.1,
        ge=0,
        title="Motion compactness",
        description="Weight of the squared distance of each motion query to its nearest memory item, Eq. (13).",
    )
    motion_separateness: float = Field(
        0.1,
        ge=0,
        title="Motion separateness",
        description="Weight of the hinge that keeps the second-nearest motion item away from the query, Eq. (14).",
    )
    appearance_compactness: float = Field(
        0.1, ge=0, title="Appearance compactness", description="As `motion_compactness`, for the appearance memory."
    )
    appearance_separateness: float = Field(
        0.1, ge=0, title="Appearance separateness", description="As `motion_separateness`, for the appearance memory."
    )


class CoMemorySettings(ModelSettings):
    """Settings of the Appearance-Motion Co-memory Network, `comemory.models.comemory.CoMemory`."""

    stem: Literal[1, 2, 4] = Field(
        2,
        title="Stem",
        description="Side in pixels of the blocks that space-to-depth turns into channels before the encoders. 2 makes "
        "the network four times cheaper than 1, the thesis'.",
    )
    base_width: int = Field(
        16,
        ge=4,
        le=256,
        title="Base width",
        description="Feature channels of the first level; each level doubles them, and queries have 8 times as many.",
    )
    motion_encoder: Literal["pair", "recurrent", "volume"] = Field(
        "pair",
        title="Motion encoder",
        description="`pair` sees the last two past frames, Eq. (1); `recurrent` all of them, pair by pair; `volume` all of "
        "them by convolutions over time.",
    )
    motion_width: int | None = Field(
        None, ge=4, le=256, title="Motion width", description="`base_width` of the motion encoder, where it differs."
    )
    appearance_stem: Literal[1, 2, 4] | None = Field(
        None,
        title="Appearance stem",
        description="`stem` of the appearance branch, where it differs: a multiple of `stem`. A frame can be predicted "
        "from a coarser view than a flow.",
    )
    appearance_width: int | None = Field(
        None,
        ge=4,
        le=256,
        title="Appearance width",
        description="`base_width` of the appearance branch, where it differs.",
    )
    appearance_levels: Literal[3, 4] = Field(
        4,
        title="Appearance levels",
        description="Resolutions in the U-Net of the appearance branch. 3 with twice the stem has queries of the same "
        "size and no costly first level.",
    )
    appearance_predicts: Literal["frame", "change"] = Field(
        "frame",
        title="Appearance predicts",
        description="`frame` decodes the next frame whole; `change` decodes its difference from the newest past frame, so "
        "that a static background needs no features.",
    )
    motion_items: int = Field(
        10, ge=0, le=4096, title="Motion items", description="Items of the motion memory; 0 switches it off."
    )
    appearance_items: int = Field(
        10, ge=0, le=4096, title="Appearance items", description="Items of the appearance memory; 0 switches it off."
    )
    motion_skips: bool = Field(
        False,
        title="Motion skip connections",
        description="Give the flow decoder the features of the motion encoder at every level. With them it learns to "
        "estimate flow, also that of anomalies.",
    )
    motion_decodes: Literal["both", "read"] = Field(
        "read",
        title="Motion decoder input",
        description="`both` decodes the flow from the query and what was read from the memory, Eq. (2); `read` from what "
        "was read alone, so that nothing bypasses the memory.",
    )
    motion_temperature: float = Field(
        0.1,
        gt=0,
        title="Motion temperature",
        description="Temperature of the softmax over the motion items, Eq. (7). 1 is the thesis'; lower is sharper.",
    )
    loss_weights: LossWeights = Field(
        LossWeights(), title="Loss weights", description="Weights of the terms of the loss, Eq. (15)."
    )

    @model_validator(mode="after")
    def _branches_fit(self) -> CoMemorySettings:
        stem = self.appearance_stem or self.stem
        if stem < self.stem or stem * 2**self.appearance_levels < self.stem * 2**UNET_LEVELS:
            raise ValueError(
                f"the appearance branch must not be finer than the motion branch, got stem={self.stem}, "
                f"appearance_stem={stem}, appearance_levels={self.appearance_levels}"
            )
        return self

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`. A memory that is off gives no distance."""
        distances = {"motion_distance": self.motion_items, "appearance_distance": self.appearance_items}
        on = (name for name, n_items in distances.items() if n_items)
        return ("flow_error", "flow_residual", "flow_mean", "frame_error", *on)

    def size_multiple(self) -> int:
        """See `ModelSettings`: the side of the pixels under one query, of the coarser branch."""
        return int((self.appearance_stem or self.stem) * 2 ** (self.appearance_levels - 1))
