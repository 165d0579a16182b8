"""AMCorrespondence: one frame gives itself and its flow to the next frame; a discriminator rates frame and flow together.

Source: Nguyen and Meunier, Anomaly Detection in Video Sequence with Appearance-Motion Correspondence, ICCV 2019.
Deviation: the discriminator learns at a tenth of the generator's rate within this project's schedule.

Shape suffixes: B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import evidence, losses
from ..contract import Model
from ..settings import ModelSettings
from .parts import PatchDiscriminator, cross_entropy_losses, gradient_loss, parameter_groups

DROPOUT = 0.3
"""Share of decoder features that are dropped while training."""


class AmCorrespondenceSettings(ModelSettings):
    """Settings of AMCorrespondence. The weights of the losses are the published ones."""

    motion_channels: ClassVar[tuple[str, ...]] = ("flow_error:16",)
    appearance_channels: ClassVar[tuple[str, ...]] = ("frame_error:16",)
    clips: ClassVar[dict[str, object]] = {"flow_of": "next", "flow_ema_decay": 0.0, "flow_shrinkage": 0.0}
    scoring: ClassVar[dict[str, object]] = {"score": "thesis"}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "paper": {"network": {"width": 64}, "clips": {"channels": 3}, "train": {"epochs": 80, "batch": 16, "lr": 2e-4}}
    }

    width: int = Field(8, ge=4, le=256, title="Width", description="Channels of the first level; 64 as published.")
    frame: float = Field(1.0, ge=0, title="Frame loss", description="Weight of squared error and gradient difference.")
    flow: float = Field(2.0, ge=0, title="Flow loss", description="Weight of the absolute error of the flow.")
    adversarial: float = Field(0.25, ge=0, title="Adversarial loss", description="Weight of the adversarial loss.")

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "flow_error", "frame_error")

    def size_multiple(self) -> int:
        """See `ModelSettings`: four halvings."""
        return 16


class AmCorrespondence(Model):
    """An Inception front, one encoder and two decoders; only the flow decoder has skip connections.

    Args: see `contract.Model`.
    """

    Settings = AmCorrespondenceSettings
    settings: AmCorrespondenceSettings

    def __init__(self, settings: AmCorrespondenceSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        width = settings.width
        self.front = _Front(channels, max(1, width // 4))
        widths = (4 * max(1, width // 4), width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.down = nn.ModuleList(
            _down(first, second, number) for number, (first, second) in enumerate(pairwise(widths))
        )
        self.frame_decoder = _Decoder(width, channels, skips=False)
        self.flow_decoder = _Decoder(width, 3, skips=True)
        self.discriminator = PatchDiscriminator(channels + 3, width, norm=True) if settings.adversarial else None

    def forward(self, frame_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstructed frame, and the flow to the next frame (B, 3, H, W): dx, dy and length, pixels."""
        feature = self.front(frame_BCHW)
        encoded = []
        for level in self.down:
            feature = level(feature)
            encoded.append(feature)
        return self.frame_decoder(feature, encoded), self.flow_decoder(feature, encoded)

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`: the second newest frame gives itself and the flow into the newest one."""
        frame_BCHW, target = frames_BTCHW[:, -2], normalise_length(flow_B2HW)
        reconstructed, flow = self(frame_BCHW)
        parts = {
            "frame": losses.prediction_loss(reconstructed, frame_BCHW) + gradient_loss(reconstructed, frame_BCHW),
            "flow": (flow - target).abs().mean(),
        }
        weights = {"frame": self.settings.frame, "flow": self.settings.flow}
        if self.discriminator is not None:
            real, fake = torch.cat([frame_BCHW, target], dim=1), torch.cat([frame_BCHW, flow], dim=1)
            generator, discriminator = cross_entropy_losses(self.discriminator, real, fake)
            parts |= {"adversarial": generator, "discriminator": discriminator}
            weights |= {"adversarial": self.settings.adversarial, "discriminator": 1.0}
        return losses.total_loss(parts, weights), parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. Both errors are those of the second newest frame."""
        frame_BCHW = frames_BTCHW[:, -2]
        reconstructed, flow = self(frame_BCHW)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "flow_error": evidence.flow_error(flow, normalise_length(flow_B2HW)),
            "frame_error": evidence.frame_error(reconstructed, frame_BCHW),
        }

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Adam with the published momenta, the discriminator at a tenth of the rate."""
        return torch.optim.Adam(parameter_groups(self, self.discriminator, 0.1), lr=lr, betas=(0.5, 0.9))


def normalise_length(flow_B2HW: Tensor) -> Tensor:
    """The flow with its length as third channel. The small constant keeps the root differentiable at 0."""
    length = torch.sqrt((flow_B2HW**2).sum(dim=1, keepdim=True) + 1e-12)
    return torch.cat([flow_B2HW, length], dim=1)


class _Front(nn.Module):
    """Four branches with receptive fields of 1, 3, 5 and 7 pixels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for n_pairs in range(4):
            layers: list[nn.Module] = [nn.Conv2d(channels, width, 1)]
            for _ in range(n_pairs):
                layers += [
                    nn.Conv2d(width, width, (1, 3), padding=(0, 1)),
                    nn.Conv2d(width, width, (3, 1), padding=(1, 0)),
                ]
            self.branches.append(nn.Sequential(*layers))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return torch.cat([branch(image_BCHW) for branch in self.branches], dim=1)


def _down(inputs: int, outputs: int, number: int) -> nn.Sequential:
    """A 4x4 convolution; the first keeps the size and has no normalisation, the others halve it."""
    if number == 0:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2))
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
    )


class _Decoder(nn.Module):
    """Four transposed convolutions with dropout; with `skips` each level is joined with the encoder's."""

    def __init__(self, width: int, outputs: int, *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        entering = (8 * width, 4 * width, 4 * width, 2 * width)
        skipped = (0, 8 * width, 4 * width, 2 * width)
        leaving = (4 * width, 4 * width, 2 * width, width)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(first + (extra if skips else 0), second, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(second),
                nn.Dropout(DROPOUT),
                nn.ReLU(),
            )
            for first, extra, second in zip(entering, skipped, leaving, strict=True)
        )
        self.leave = nn.Conv2d(width + (width if skips else 0), outputs, 3, padding=1)

    def forward(self, feature: Tensor, encoded: list[Tensor]) -> Tensor:
        for number, level in enumerate(self.up):
            if self.skips and number:
                feature = torch.cat([feature, encoded[-1 - number]], dim=1)
            feature = level(feature)
        return self.leave(torch.cat([feature, encoded[0]], dim=1) if self.skips else feature)  # type: ignore[no-any-return]
