"""Frame Prediction: a U-Net predicts the next frame, trained with intensity, gradient and adversarial losses.

Source: Liu, Luo, Lian and Gao, Future Frame Prediction for Anomaly Detection, CVPR 2018.
Deviations: the flow loss is left out, because its flow network (FlowNet-SD) cannot be shipped and gradients would have
to pass a flow estimator; the discriminator pads with zeros. Learning rates follow the schedule of this project's trainer,
the discriminator's at a tenth, as published.

Shape suffixes: B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from .. import evidence, losses
from ..contract import Model
from ..settings import ModelSettings
from .parts import PatchDiscriminator, UNet, gradient_loss, least_squares_losses, negative_psnr, parameter_groups


class FramePredictionSettings(ModelSettings):
    """Settings of Frame Prediction. The weights of the losses are the published ones; 0 switches a loss off."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("negative_psnr",)
    authors_score: ClassVar[dict[str, float]] = {"negative_psnr": 1.0}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "paper": {
            "network": {"width": 64, "discriminator_width": 128},
            "clips": {"height": 256, "width": 256, "channels": 3},
            "train": {"epochs": 60, "lr": 2e-4},
        }
    }

    width: int = Field(
        8, ge=4, le=256, title="Width", description="Feature channels of the first level; 64 as published."
    )
    discriminator_width: int = Field(
        8, ge=4, le=256, title="Discriminator width", description="Channels of its first level; 128 as published."
    )
    intensity: float = Field(1.0, ge=0, title="Intensity loss", description="Weight of the squared error.")
    gradient: float = Field(
        1.0, ge=0, title="Gradient loss", description="Weight of the difference of image gradients."
    )
    adversarial: float = Field(
        0.05, ge=0, title="Adversarial loss", description="Weight of the least-squares adversarial loss."
    )

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "frame_error", "negative_psnr")

    def size_multiple(self) -> int:
        """See `ModelSettings`: three halvings."""
        return 8


class FramePrediction(Model):
    """A U-Net without batch normalisation, and a patch discriminator on the single frame. Args: see `contract.Model`."""

    Settings = FramePredictionSettings
    settings: FramePredictionSettings

    def __init__(self, settings: FramePredictionSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.network = UNet(channels * n_past, channels, settings.width, norm=False)
        self.discriminator = (
            PatchDiscriminator(channels, settings.discriminator_width) if settings.adversarial else None
        )

    def forward(self, past_BTCHW: Tensor) -> Tensor:
        """The predicted frame, in [-1, 1]."""
        return torch.tanh(self.network(past_BTCHW.flatten(1, 2)))

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`; the flow is not used."""
        predicted_BCHW, frame_BCHW = self(frames_BTCHW[:, :-1]), frames_BTCHW[:, -1]
        parts = {
            "intensity": losses.prediction_loss(predicted_BCHW, frame_BCHW),
            "gradient": gradient_loss(predicted_BCHW, frame_BCHW),
        }
        weights = {"intensity": self.settings.intensity, "gradient": self.settings.gradient}
        if self.discriminator is not None:
            generator, discriminator = least_squares_losses(self.discriminator, frame_BCHW, predicted_BCHW)
            parts |= {"adversarial": generator, "discriminator": discriminator}
            weights |= {"adversarial": self.settings.adversarial, "discriminator": 1.0}
        return losses.total_loss(parts, weights), parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`."""
        predicted_BCHW, frame_BCHW = self(frames_BTCHW[:, :-1]), frames_BTCHW[:, -1]
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "frame_error": evidence.frame_error(predicted_BCHW, frame_BCHW),
            "negative_psnr": negative_psnr(predicted_BCHW, frame_BCHW),
        }

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Adam, with the discriminator at a tenth of the rate, as published."""
        return torch.optim.Adam(parameter_groups(self, self.discriminator, 0.1), lr=lr)
