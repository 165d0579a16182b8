"""MNAD, the network that the thesis builds upon: it predicts or reconstructs a frame through one memory.

Source: Park, Noh and Ham, Learning Memory-guided Normality for Anomaly Detection, CVPR 2020, both variants. Layers are the
published ones, in the published width unless the preset is narrower. Deviations: the losses are those of this package
(squared distances in both, summed over the width), and items begin as directions drawn evenly, where the published ones
begin with positive entries. Items are not updated at test time unless the detector is asked to.

Shape suffixes: B batch, T frames, C channels, H W pixels, h w places of the query map, K queries, D feature width,
N items.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import evidence, losses
from ..contract import Model
from ..memory import Memory, MemoryRead, update
from ..settings import ModelSettings
from .parts import negative_psnr

LEVELS = 4
"""Resolutions; each has twice the channels of the one before, and the queries those of the last."""

MARGIN = 1.0
"""Of the separateness loss, as published."""


class MnadSettings(ModelSettings):
    """Settings of MNAD. The weights of the losses are the published ones."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("frame_error:32",)
    authors_score: ClassVar[dict[str, float]] = {"negative_psnr": 0.6, "query_distance": 0.4}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "small": {"network": {"width": 8}},
        "paper": {
            "network": {"width": 64},
            "clips": {"height": 256, "width": 256, "channels": 3},
            "train": {"epochs": 60, "batch": 4, "lr": 2e-4},
        },
    }

    width: int = Field(
        64,
        ge=4,
        le=256,
        title="Width",
        description="Feature channels of the first level; 64 as published. Each level doubles them.",
    )
    update: Literal["paper", "code"] = Field(
        "paper",
        title="Memory update",
        description="`paper` divides the weight of a query by the highest one among the queries of its item; `code` by the "
        "highest one among all queries, as the authors' program does.",
    )
    items: int = Field(10, ge=1, le=4096, title="Memory items", description="Items of the memory.")
    compactness: float = Field(
        0.1, ge=0, title="Compactness", description="Weight of the squared distance of a query to its nearest item."
    )
    separateness: float = Field(
        0.1, ge=0, title="Separateness", description="Weight of the hinge on the second-nearest item."
    )

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "frame_error", "appearance_distance", "negative_psnr", "query_distance")

    def size_multiple(self) -> int:
        """See `ModelSettings`: three halvings."""
        return 8


class MnadReconstructionSettings(MnadSettings):
    """Settings of the MNAD that reconstructs. The weights of the authors' score are from memory, and were not checked."""

    authors_score: ClassVar[dict[str, float]] = {"negative_psnr": 0.7, "query_distance": 0.3}


class MnadPrediction(NamedTuple):
    """What MNAD predicts from the past frames, or reconstructs from the newest one.

    Shapes:
        frame_BCHW: the predicted next frame, in [-1, 1].
        appearance: the read of the memory.
    """

    frame_BCHW: Tensor
    appearance: MemoryRead


class Mnad(Model):
    """A U-Net of three halvings whose deepest features are joined with what is read from the memory.

    Args:
        settings: see `MnadSettings`.
        channels: 1 for grey, 3 for colour as published.
        n_past: frames that the prediction is made from; 4 as published.
    """

    Settings = MnadSettings
    settings: MnadSettings

    skips: ClassVar[bool] = True
    """Whether the decoder is given the features of the encoder."""

    def __init__(self, settings: MnadSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        widths = [settings.width * 2**level for level in range(LEVELS)]
        self.encoder = nn.ModuleList(
            [
                _conv_block(channels * self.n_inputs(n_past), widths[0]),
                _conv_block(widths[0], widths[1]),
                _conv_block(widths[1], widths[2]),
                _conv_block(widths[2], widths[3])[:-2],  # the last convolution is linear
            ]
        )
        self.halve = nn.MaxPool2d(2)
        self.memory = Memory(settings.items, widths[-1], over_all=settings.update == "code")
        self.enter = _conv_block(2 * widths[-1], widths[-1])
        joined = 2 if self.skips else 1
        self.enlarge = nn.ModuleList(_upsample(widths[level + 1], widths[level]) for level in (2, 1, 0))
        self.decoder = nn.ModuleList(_conv_block(joined * widths[level], widths[level]) for level in (2, 1, 0))
        self.leave = nn.Conv2d(widths[0], channels, 3, padding=1)

    @staticmethod
    def n_inputs(n_past: int) -> int:
        """Frames that the encoder sees."""
        return n_past

    def inputs(self, frames_BTCHW: Tensor) -> Tensor:
        """The frames of a clip that the encoder sees."""
        return frames_BTCHW[:, :-1]

    def memories(self) -> dict[str, Memory]:
        """The memory, under the name that the evidence of the appearance branch has."""
        return {"appearance": self.memory}

    def forward(self, past_BTCHW: Tensor, items_ND: Tensor | None = None) -> MnadPrediction:
        """Predict the next frame.

        Shapes:
            past_BTCHW: float (B, n_inputs, C, H, W) in [-1, 1], H and W multiples of 8; 256x256 as published.
            items_ND: items in place of the stored ones.
        """
        feature = self.encoder[0](past_BTCHW.flatten(1, 2))
        encoded = []
        for level in list(self.encoder)[1:]:
            encoded.append(feature)
            feature = level(self.halve(feature))
        memory_read = self.memory(feature, items_ND)
        joined_BKD = torch.cat([memory_read.query_BKD, memory_read.read_BKD], dim=-1)
        feature = self.enter(joined_BKD.transpose(1, 2).reshape(len(feature), -1, *feature.shape[2:]))
        for enlarge, decode, skipped in zip(self.enlarge, self.decoder, reversed(encoded), strict=True):
            enlarged = enlarge(feature)
            feature = decode(torch.cat([skipped, enlarged], dim=1) if self.skips else enlarged)
        return MnadPrediction(torch.tanh(self.leave(feature)), memory_read)

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`; the flow is not used. In training mode the memory is updated."""
        predicted = self(self.inputs(frames_BTCHW))
        items_ND = self.memory.items.clone()
        parts = {
            "prediction": losses.prediction_loss(predicted.frame_BCHW, frames_BTCHW[:, -1]),
            "appearance_compactness": losses.compactness_loss(predicted.appearance, items_ND),
            "appearance_separateness": losses.separateness_loss(predicted.appearance, items_ND, MARGIN),
        }
        weights = dict(zip(parts, (1.0, self.settings.compactness, self.settings.separateness), strict=True))
        if self.training:
            self.memory.update_items(predicted.appearance.query_BKD)
        return losses.total_loss(parts, weights), parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. The flow reaches the evidence as its means over cells alone."""
        (items_ND,) = items
        frame_BCHW, memory_read = self(self.inputs(frames_BTCHW), items_ND)
        height, width = frames_BTCHW.shape[-2] // 8, frames_BTCHW.shape[-1] // 8
        distance = evidence.memory_distance(memory_read, items_ND, height, width)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "frame_error": evidence.frame_error(frame_BCHW, frames_BTCHW[:, -1]),
            "appearance_distance": distance,
            "negative_psnr": negative_psnr(frame_BCHW, frames_BTCHW[:, -1]),
            "query_distance": distance.flatten(1).mean(dim=1),
            "updated_appearance": update(
                memory_read.query_BKD.flatten(0, 1), items_ND, over_all=self.settings.update == "code"
            ),
        }


class MnadReconstruction(Mnad):
    """The MNAD that reconstructs: one frame in, the same frame out, and no skip connections. Args: see `Mnad`."""

    Settings = MnadReconstructionSettings
    skips = False

    @staticmethod
    def n_inputs(n_past: int) -> int:
        """See `Mnad`."""
        return 1

    def inputs(self, frames_BTCHW: Tensor) -> Tensor:
        """See `Mnad`."""
        return frames_BTCHW[:, -1:]


def _conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _upsample(inputs: int, outputs: int) -> nn.Sequential:
    """A transposed 3x3 convolution that doubles height and width, with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
