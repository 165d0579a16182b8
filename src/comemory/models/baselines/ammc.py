"""AMCM (AMMC-Net): two streams with vector-quantised memories, joined by a bridge before they decode.

Source: Cai, Zhang, Liu, Gao and Hao, Appearance-Motion Memory Consistency Network, AAAI 2021.
Deviations: a clip has the flow of its last pair only, so the motion stream reads differences of the past frames where the
published one reads three past flow fields, and predicts the flow as published; both streams are trained together from
the start; the flow loss on the predicted frame is left out, since its gradient is detached in the authors' code; the
score mixes frame and commitment with the fixed weights 0.96 and 0.04, where the published ones are chosen per data set on
its test labels, and is not smoothed across videos.

Shape suffixes: B batch, T frames, C channels, H W pixels, K queries, D code width, N codes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as nnf

from .. import evidence, losses
from ..contract import Model
from ..settings import ModelSettings
from .parts import PatchDiscriminator, UNet, gradient_loss, least_squares_losses, negative_psnr, parameter_groups

DECAY = 0.99
"""Of the moving averages that the codes are."""


class AmmcSettings(ModelSettings):
    """Settings of AMMC-Net. The weights of the losses are the published ones; that of the commitment loss has its usual value."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("negative_psnr",)
    authors_score: ClassVar[dict[str, float]] = {"negative_psnr": 0.96, "commitment": 0.04}
    clips: ClassVar[dict[str, object]] = {"flow_of": "next", "flow_ema_decay": 0.0, "flow_shrinkage": 0.0}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "paper": {
            "network": {"width": 64, "discriminator_width": 64, "code_width": 64},
            "clips": {"height": 256, "width": 256, "channels": 3},
            "train": {"epochs": 60, "batch": 8, "lr": 2e-4},
        }
    }

    width: int = Field(8, ge=4, le=256, title="Width", description="Channels of the first level; 64 as published.")
    codes: int = Field(256, ge=2, le=8192, title="Codes", description="Codes of each memory.")
    code_width: int = Field(16, ge=2, le=512, title="Code width", description="Width of a code; 64 as published.")
    discriminator_width: int = Field(
        8, ge=4, le=256, title="Discriminator width", description="Channels of its first level."
    )
    intensity: float = Field(
        1e-3, ge=0, title="Intensity loss", description="Weight of the squared error of the frame."
    )
    gradient: float = Field(
        1.0, ge=0, title="Gradient loss", description="Weight of the difference of image gradients."
    )
    flow: float = Field(2.0, ge=0, title="Flow loss", description="Weight of the squared error of the flow.")
    commitment: float = Field(
        0.25, ge=0, title="Commitment loss", description="Weight of the distance between a query and its code."
    )
    adversarial: float = Field(0.05, ge=0, title="Adversarial loss", description="Weight of the adversarial loss.")

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "flow_error", "frame_error", "negative_psnr", "commitment")

    def size_multiple(self) -> int:
        """See `ModelSettings`: three halvings."""
        return 8


class Ammc(Model):
    """Two U-Nets, of the frame and of the flow, each with a vector-quantised memory; a bridge joins them before they decode.

    Args: see `contract.Model`; published with 3 channels and 4 past frames.
    """

    Settings = AmmcSettings
    settings: AmmcSettings

    def __init__(self, settings: AmmcSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.appearance = UNet(channels * n_past, channels, settings.width)
        self.motion = UNet(channels * (n_past - 1), 2, settings.width)
        deepest = self.appearance.width
        self.appearance_codes = QuantisedMemory(deepest, settings.codes, settings.code_width)
        self.motion_codes = QuantisedMemory(deepest, settings.codes, settings.code_width)
        self.to_appearance, self.to_motion = _bridge(deepest), _bridge(deepest)
        self.discriminator = (
            PatchDiscriminator(channels, settings.discriminator_width) if settings.adversarial else None
        )

    def forward(self, past_BTCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predicted frame and flow, and the commitment (B,) of the appearance and the motion memory."""
        images = self.appearance.encode(past_BTCHW.flatten(1, 2))
        motions = self.motion.encode(past_BTCHW.diff(dim=1).flatten(1, 2))
        image, image_commitment = self.appearance_codes(images[-1])
        motion, motion_commitment = self.motion_codes(motions[-1])
        joined, joined_motion = image + self.to_appearance(motion), motion + self.to_motion(image)
        frame_BCHW = torch.tanh(self.appearance.decode(joined, images))
        return frame_BCHW, self.motion.decode(joined_motion, motions), image_commitment, motion_commitment

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`."""
        settings, target_BCHW = self.settings, frames_BTCHW[:, -1]
        frame_BCHW, flow, image_commitment, motion_commitment = self(frames_BTCHW[:, :-1])
        parts = {
            "intensity": losses.prediction_loss(frame_BCHW, target_BCHW),
            "gradient": gradient_loss(frame_BCHW, target_BCHW),
            "flow": losses.flow_loss(flow, flow_B2HW),
            "commitment": (image_commitment + motion_commitment).mean(),
        }
        weights = {name: float(getattr(settings, name)) for name in parts}
        if self.discriminator is not None:
            generator, discriminator = least_squares_losses(self.discriminator, target_BCHW, frame_BCHW)
            parts |= {"adversarial": generator, "discriminator": discriminator}
            weights |= {"adversarial": settings.adversarial, "discriminator": 1.0}
        return losses.total_loss(parts, weights), parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. `commitment` is that of the appearance memory."""
        frame_BCHW, flow, commitment, _ = self(frames_BTCHW[:, :-1])
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "flow_error": evidence.flow_error(flow, flow_B2HW),
            "frame_error": evidence.frame_error(frame_BCHW, frames_BTCHW[:, -1]),
            "negative_psnr": negative_psnr(frame_BCHW, frames_BTCHW[:, -1]),
            "commitment": commitment,
        }

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Adam, with the discriminator at a tenth of the rate."""
        return torch.optim.Adam(parameter_groups(self, self.discriminator, 0.1), lr=lr)


class QuantisedMemory(nn.Module):
    """A vector-quantised memory: the two codes nearest to a query, concatenated, are added to the feature.

    Codes are moving averages of the queries nearest to them and take no gradient. Source: van den Oord et al., NeurIPS 2017.
    """

    codes_ND: Tensor
    counts_N: Tensor
    sums_ND: Tensor

    def __init__(self, width: int, n_codes: int, code_width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width, code_width, 1)
        self.leave = nn.Conv2d(2 * code_width, width, 1)
        codes = torch.randn(n_codes, code_width)
        self.register_buffer("codes_ND", codes)
        self.register_buffer("counts_N", torch.ones(n_codes))
        self.register_buffer("sums_ND", codes.clone())

    def forward(self, feature_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The feature with what was read added, and the mean squared distance of the queries to their codes, (B,)."""
        query = self.enter(feature_BCHW)
        query_BKD = query.flatten(2).transpose(1, 2)
        codes_ND = self.codes_ND.clone()
        distance_BKN = (query_BKD**2).sum(-1, keepdim=True) - 2 * query_BKD @ codes_ND.T + (codes_ND**2).sum(-1)
        nearest_BK2 = torch.topk(-distance_BKN, 2, dim=-1).indices
        if self.training:
            self._update(query_BKD.detach(), nearest_BK2[..., 0])
        read = codes_ND[nearest_BK2].flatten(2).transpose(1, 2).reshape(len(query), -1, *query.shape[2:])
        commitment_B = ((query_BKD - codes_ND[nearest_BK2[..., 0]]) ** 2).flatten(1).mean(dim=1)
        return feature_BCHW + self.leave(read), commitment_B

    @torch.no_grad()
    def _update(self, query_BKD: Tensor, nearest_BK: Tensor) -> None:
        chosen = nnf.one_hot(nearest_BK.flatten(), len(self.codes_ND)).to(query_BKD.dtype)
        self.counts_N.mul_(DECAY).add_(chosen.sum(dim=0), alpha=1 - DECAY)
        self.sums_ND.mul_(DECAY).add_(chosen.T @ query_BKD.flatten(0, 1), alpha=1 - DECAY)
        self.codes_ND.copy_(self.sums_ND / (self.counts_N[:, None] + 1e-5))


def _bridge(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
