"""MemAE: a 3-D convolutional autoencoder that decodes only what it reads from a memory with hard shrinkage.

Source: Gong et al., Memorizing Normality to Detect Anomaly, ICCV 2019.
Deviations: the error is given to the newest frame of the clip, so that the score is causal, where the published one
is given to the centre frame; the similarity is a plain dot product, as in the authors' code, where the paper says cosine.

Shape suffixes: B batch, T frames, C channels, H W pixels, K queries, D feature width, N items.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import evidence
from ..contract import Model
from ..settings import ModelSettings

STRIDES: tuple[tuple[int, int, int], ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
"""Of the four convolutions, in time and space."""

EPSILON = 1e-12
"""Keeps the division by a sum of weights and the logarithm of the entropy finite."""


class MemaeSettings(ModelSettings):
    """Settings of MemAE. Number of items and weight of the entropy are the published ones."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("clip_error",)
    authors_score: ClassVar[dict[str, float]] = {"clip_error": 1.0}
    clips: ClassVar[dict[str, object]] = {"n_past": 15}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "paper": {
            "network": {"widths": [96, 128, 256, 256], "shrinkage": 0.0025},
            "clips": {"height": 256, "width": 256},
            "train": {"epochs": 100, "batch": 10, "lr": 1e-4},
        }
    }

    widths: tuple[int, int, int, int] = Field(
        (12, 16, 32, 32),
        title="Widths",
        description="Feature channels of the four levels; 96, 128, 256, 256 as published.",
    )
    items: int = Field(2000, ge=1, le=16384, title="Memory items", description="Items of the memory.")
    shrinkage: float = Field(
        0.0005,
        ge=0,
        lt=1,
        title="Shrinkage",
        description="Weights of the read below this are set to zero; 0.0025 as published. The default is the weight of an "
        "even read of 2000 items: in the narrow features of the small preset more leaves nothing at first.",
    )
    entropy: float = Field(2e-4, ge=0, title="Entropy loss", description="Weight of the entropy of the read weights.")

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "frame_error", "clip_error")

    def size_multiple(self) -> int:
        """See `ModelSettings`: four halvings."""
        return 16


class Memae(Model):
    """3-D convolutions down, a memory at every place, transposed 3-D convolutions up.

    Args:
        settings: see `MemaeSettings`.
        channels: see `contract.Model`; published with 1.
        n_past: see `contract.Model`; n_past + 1 is a multiple of 8, 16 as published.
    """

    Settings = MemaeSettings
    settings: MemaeSettings

    def __init__(self, settings: MemaeSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        if (n_past + 1) % 8:
            raise ValueError(f"memae needs clips of a multiple of 8 frames, got clips.n_past={n_past}: set it to 15")
        widths = settings.widths
        self.encoder = nn.Sequential(
            *(
                _block(nn.Conv3d(first, second, 3, stride=stride, padding=1), second)
                for first, second, stride in zip((channels, *widths), widths, STRIDES, strict=False)
            )
        )
        outputs = (*reversed(widths[:-1]), channels)
        inputs = tuple(reversed(widths))
        layers: list[nn.Module] = []
        for number, (first, second, stride) in enumerate(zip(inputs, outputs, reversed(STRIDES), strict=True)):
            up = nn.ConvTranspose3d(first, second, 3, stride=stride, padding=1, output_padding=(stride[0] - 1, 1, 1))
            layers.append(_block(up, second) if number < 3 else up)
        self.decoder = nn.Sequential(*layers)
        bound = 1 / math.sqrt(widths[-1])
        self.items_ND = nn.Parameter(torch.empty(settings.items, widths[-1]).uniform_(-bound, bound))

    def read(self, query_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """What the memory gives for the queries, and the weights (B, K, N), which sum to 1 over the items."""
        weight_BKN = torch.softmax(query_BKD @ self.items_ND.T, dim=-1)
        # The published relu(w - s) w / (|w - s| + 1e-12) without its quotient of two tiny numbers, which some runtimes turn
        # into NaN: where w is above the shrinkage, it is w.
        weight_BKN = torch.where(weight_BKN > self.settings.shrinkage, weight_BKN, torch.zeros_like(weight_BKN))
        weight_BKN = weight_BKN / weight_BKN.sum(dim=-1, keepdim=True).clamp(min=EPSILON)
        return weight_BKN @ self.items_ND, weight_BKN

    def forward(self, clip_BTCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstructed clip, (B, T, C, H, W), unbounded, and the read weights."""
        feature = self.encoder(clip_BTCHW.transpose(1, 2))
        read_BKD, weight_BKN = self.read(feature.flatten(2).transpose(1, 2))
        decoded = self.decoder(read_BKD.transpose(1, 2).reshape(feature.shape))
        return decoded.transpose(1, 2), weight_BKN

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`; the flow is not used."""
        decoded, weight_BKN = self(frames_BTCHW)
        parts = {
            "reconstruction": ((decoded - frames_BTCHW) ** 2).mean(),
            "entropy": -(weight_BKN * torch.log(weight_BKN + EPSILON)).sum(dim=-1).mean(),
        }
        return parts["reconstruction"] + self.settings.entropy * parts["entropy"], parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. `clip_error` is the mean absolute error over the whole clip."""
        decoded, _ = self(frames_BTCHW)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "frame_error": evidence.frame_error(decoded[:, -1], frames_BTCHW[:, -1]),
            "clip_error": (decoded - frames_BTCHW).abs().flatten(1).mean(dim=1),
        }


def _block(convolution: nn.Module, outputs: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.LeakyReLU(0.2))
