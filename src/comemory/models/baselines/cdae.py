"""CDAE: one autoencoder rebuilds the last frame, another the differences to it; clusters of their joined embeddings.

Source: Chang, Tu, Xie and Yuan, Clustering Driven Deep Autoencoder for Video Anomaly Detection, ECCV 2020, with the
split of the paper: the last individual frame is the appearance input, the frames before it are the target of the sum.
Deviations: cluster centres start at random directions and learn by gradient together with the network, where the
published schedule alternates after k-means++; one learning rate for all.

Shape suffixes: B batch, T frames, C channels, H W pixels, h w places of the embedding, D width, K clusters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as nnf

from .. import evidence
from ..contract import Model
from ..settings import ModelSettings
from .parts import gradient_loss

SHARPNESS = 25.0
"""Of the soft assignment to clusters: softmax(-SHARPNESS * distance)."""


class CdaeSettings(ModelSettings):
    """Settings of CDAE. The weights of the losses are the published ones."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("clip_error",)
    authors_score: ClassVar[dict[str, float]] = {"clip_error": 1.0}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "paper": {
            "network": {"width": 32},
            "clips": {"height": 256, "width": 256, "channels": 3},
            "train": {"epochs": 60, "lr": 1e-5},
        }
    }

    width: int = Field(8, ge=4, le=256, title="Width", description="Channels of the first level; 32 as published.")
    clusters: int = Field(32, ge=2, le=1024, title="Clusters", description="Cluster centres.")
    gradient: float = Field(
        0.01, ge=0, title="Gradient loss", description="Weight of the difference of image gradients."
    )
    cluster: float = Field(0.1, ge=0, title="Cluster loss", description="Weight of the distance to the clusters.")

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "weighted_error", "clip_error")

    def size_multiple(self) -> int:
        """See `ModelSettings`: three halvings."""
        return 8


class Cdae(Model):
    """An autoencoder of the last frame, one of the differences to it, and clusters of their joined embeddings.

    Args: see `contract.Model`; published with 3 channels and 4 past frames.
    """

    Settings = CdaeSettings
    settings: CdaeSettings

    def __init__(self, settings: CdaeSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        width = settings.width
        self.appearance = _Encoder(channels, width, norm=True, attention=False)
        self.motion = _Encoder(channels * n_past, width, norm=False, attention=True)
        self.appearance_decoder = _Decoder(width, channels, skips=False)
        self.motion_decoder = _Decoder(width, channels * n_past, skips=True)
        self.centres_KD = nn.Parameter(nnf.normalize(torch.randn(settings.clusters, 16 * width), dim=1))

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rebuilt last frame (B, C, H, W), the rebuilt differences (B, T, C, H, W), and the cluster distance (B, 1, h, w)."""
        images = self.appearance(frames_BTCHW[:, -1])
        motions = self.motion(frames_BTCHW[:, :-1].flatten(1, 2))
        image = _unit(torch.relu(images[-1]))
        motion = _unit(motions[-1])
        embedding = nnf.normalize(torch.cat([image, motion], dim=1), dim=1)
        places_BKD = embedding.flatten(2).transpose(1, 2)
        squared = (
            (places_BKD**2).sum(-1, keepdim=True) - 2 * places_BKD @ self.centres_KD.T + (self.centres_KD**2).sum(-1)
        )
        distance = torch.sqrt(torch.relu(squared) + 1e-12)
        assigned = (distance * torch.softmax(-SHARPNESS * distance, dim=-1)).sum(dim=-1)
        cluster_B1hw = assigned.reshape(len(embedding), 1, *embedding.shape[2:])
        frame = torch.tanh(self.appearance_decoder(images[-1], images))
        differences = self.motion_decoder(motions[-1], motions).reshape(frames_BTCHW[:, :-1].shape)
        return frame, differences, cluster_B1hw

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`; the flow is not used."""
        last, target = frames_BTCHW[:, -1], frames_BTCHW[:, :-1] - frames_BTCHW[:, -1:]
        frame, differences, cluster = self(frames_BTCHW)
        parts = {
            "appearance": ((frame - last) ** 2).mean(),
            "motion": ((differences - target) ** 2).mean(),
            "gradient": gradient_loss(frame, last),
            "cluster": cluster.mean(),
        }
        total = parts["appearance"] + parts["motion"] + self.settings.gradient * parts["gradient"]
        return total + self.settings.cluster * parts["cluster"], parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. The squared error of the rebuilt frames, weighted by the distance to the clusters."""
        frame, differences, cluster = self(frames_BTCHW)
        error = ((frame[:, None] + differences - frames_BTCHW[:, :-1]) ** 2).mean(dim=(1, 2))[:, None]
        scale = [whole // part for whole, part in zip(error.shape[2:], cluster.shape[2:], strict=True)]
        weighted = error * cluster.repeat_interleave(scale[0], dim=2).repeat_interleave(scale[1], dim=3)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "weighted_error": evidence.cell_means(weighted),
            "clip_error": weighted.flatten(1).mean(dim=1),
        }


class _Encoder(nn.Module):
    """A 3x3 convolution, then three residual blocks that halve the size; the last feature has 8 times the width."""

    def __init__(self, inputs: int, width: int, *, norm: bool, attention: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        widths = (width, 2 * width, 4 * width, 8 * width)
        self.levels = nn.ModuleList(_Residual(first, second, norm=norm) for first, second in pairwise(widths))
        self.attention = nn.ModuleList(_VarianceAttention(second) for second in widths[1:]) if attention else None
        self.leave = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Features of every level, the embedding last."""
        features = [self.enter(image_BCHW)]
        for number, level in enumerate(self.levels):
            feature = level(features[-1])
            features.append(feature if self.attention is None else self.attention[number](feature))
        features[-1] = self.leave(features[-1])
        return features


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs) if norm else nn.Identity()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        feature = self.norm(feature)
        inner = self.second(nnf.leaky_relu(self.first(feature), 0.2))
        return nnf.leaky_relu(inner + self.shortcut(feature), 0.2)


class _VarianceAttention(nn.Module):
    """Places whose features vary over the channels count more: x * exp(softmax of the variance over the places)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, feature: Tensor) -> Tensor:
        coarse = nnf.avg_pool2d(self.mix(feature), 2)
        # Written out, because not every runtime has a variance.
        variance = ((coarse - coarse.mean(dim=1, keepdim=True)) ** 2).mean(dim=1, keepdim=True)
        share = torch.softmax(variance.flatten(1), dim=1).reshape(variance.shape)
        return feature * torch.exp(share.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


class _Decoder(nn.Module):
    """Three levels of convolution and pixel shuffle."""

    def __init__(self, width: int, outputs: int, *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        widths = (8 * width, 4 * width, 2 * width, width)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(first, 4 * second, 3, padding=1), nn.PixelShuffle(2))
            for first, second in pairwise(widths)
        )
        self.mix = nn.ModuleList(
            nn.Sequential(nn.Conv2d(second * (2 if skips else 1), second, 3, padding=1), nn.LeakyReLU(0.2))
            for second in widths[1:]
        )
        self.leave = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, feature: Tensor, encoded: list[Tensor]) -> Tensor:
        for up, mix, skipped in zip(self.up, self.mix, encoded[-2::-1], strict=True):
            feature = up(feature)
            feature = mix(torch.cat([feature, skipped], dim=1) if self.skips else feature)
        return self.leave(feature)  # type: ignore[no-any-return]


def _unit(feature: Tensor) -> Tensor:
    """L1-normalised over the channels."""
    return feature / (feature.abs().sum(dim=1, keepdim=True) + 1e-8)
