"""Abnormal GAN: two conditional GANs, frame to flow and flow to frame; what they cannot generate is abnormal.

Source: Ravanbakhsh et al., Abnormal Event Detection in Videos using Generative Adversarial Nets, ICIP 2017. No code of the
authors is known: the layers are those of pix2pix (Isola et al., CVPR 2017), which the paper builds on.
Deviations: appearance is compared in the features of the own discriminator, where the paper uses AlexNet's; the noise,
dropout in the first decoder blocks, is off when scoring, so that scores are repeatable; maps are divided by their maximum
over normal video (by the calibration), where the paper divides by the maximum of each test video.

Shape suffixes: B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import evidence, losses
from ..contract import Model
from ..settings import ModelSettings
from .am_correspondence import normalise_length
from .parts import PatchDiscriminator, cross_entropy_losses, parameter_groups

N_LEVELS = 5
"""Halvings of the generators; 8 as published, at 256x256."""


class AbnormalGanSettings(ModelSettings):
    """Settings of Abnormal GAN."""

    motion_channels: ClassVar[tuple[str, ...]] = ("flow_difference:16",)
    appearance_channels: ClassVar[tuple[str, ...]] = ("appearance_difference:32",)
    authors_score: ClassVar[dict[str, float]] = {"largest_flow_difference": 2.0, "largest_appearance_difference": 1.0}
    clips: ClassVar[dict[str, object]] = {"flow_of": "next", "flow_ema_decay": 0.0, "flow_shrinkage": 0.0}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "paper": {
            "network": {"width": 64},
            "clips": {"height": 256, "width": 256, "channels": 3},
            "train": {"epochs": 10, "batch": 1, "lr": 2e-4},
        }
    }

    width: int = Field(8, ge=4, le=256, title="Width", description="Channels of the first level; 64 as published.")
    reconstruction: float = Field(
        100.0,
        ge=0,
        title="Reconstruction loss",
        description="Weight of the absolute error beside the adversarial loss.",
    )

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return (
            "flow_mean",
            "flow_difference",
            "appearance_difference",
            "largest_flow_difference",
            "largest_appearance_difference",
        )

    def size_multiple(self) -> int:
        """See `ModelSettings`: five halvings."""
        return 1 << N_LEVELS


class AbnormalGan(Model):
    """Two generators and two discriminators. Args: see `contract.Model`."""

    Settings = AbnormalGanSettings
    settings: AbnormalGanSettings

    def __init__(self, settings: AbnormalGanSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        width = settings.width
        self.to_flow, self.to_frame = _Generator(channels, 3, width), _Generator(3, channels, width)
        self.judge_flow = PatchDiscriminator(channels + 3, width, norm=True)
        self.judge_frame = PatchDiscriminator(channels + 3, width, norm=True)

    def forward(self, frame_BCHW: Tensor, flow_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """The flow generated from the frame, and the frame generated from the flow."""
        return self.to_flow(frame_BCHW), torch.tanh(self.to_frame(flow_B3HW))

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`: the second newest frame and the flow from it to the newest one."""
        frame, flow = frames_BTCHW[:, -2], normalise_length(flow_B2HW)
        generated_flow, generated_frame = self(frame, flow)
        real = torch.cat([frame, flow], dim=1)
        of_flow = cross_entropy_losses(self.judge_flow, real, torch.cat([frame, generated_flow], dim=1))
        of_frame = cross_entropy_losses(self.judge_frame, real, torch.cat([generated_frame, flow], dim=1))
        parts = {
            "flow": (generated_flow - flow).abs().mean(),
            "frame": (generated_frame - frame).abs().mean(),
            "adversarial": of_flow[0] + of_frame[0],
            "discriminator": of_flow[1] + of_frame[1],
        }
        weights = dict.fromkeys(("flow", "frame"), self.settings.reconstruction)
        return losses.total_loss(parts, {**weights, "adversarial": 1.0, "discriminator": 1.0}), parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. The largest differences are taken of means over 16x16 pixels."""
        frame, flow = frames_BTCHW[:, -2], normalise_length(flow_B2HW)
        generated_flow, generated_frame = self(frame, flow)
        flow_difference = evidence.cell_means((flow - generated_flow).abs().sum(dim=1, keepdim=True))
        real = self.judge_frame.levels(torch.cat([frame, flow], dim=1))
        fake = self.judge_frame.levels(torch.cat([generated_frame, flow], dim=1))
        difference = ((real - fake) ** 2).mean(dim=1, keepdim=True)
        height, width = flow_difference.shape[2:]
        appearance = nn.functional.interpolate(difference, size=(height, width), mode="bilinear", align_corners=False)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "flow_difference": flow_difference,
            "appearance_difference": appearance,
            "largest_flow_difference": nn.functional.avg_pool2d(flow_difference, 4, 1).flatten(1).amax(dim=1),
            "largest_appearance_difference": nn.functional.avg_pool2d(appearance, 4, 1).flatten(1).amax(dim=1),
        }

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Adam with the published momentum, generators and discriminators at one rate."""
        return torch.optim.Adam(parameter_groups(self, None, 1.0), lr=lr, betas=(0.5, 0.999))


class _Generator(nn.Module):
    """The U-Net of pix2pix: strided 4x4 convolutions down, transposed ones up, skip connections."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(N_LEVELS)]
        self.down = nn.ModuleList()
        for number, (first, second) in enumerate(zip([inputs, *widths], widths, strict=False)):
            layers: list[nn.Module] = [nn.Conv2d(first, second, 4, stride=2, padding=1)]
            layers += [nn.BatchNorm2d(second)] if number else []
            self.down.append(nn.Sequential(*layers))
        self.up = nn.ModuleList()
        for number, level in enumerate(reversed(range(N_LEVELS))):
            first = widths[level] * (2 if number else 1)
            second = widths[level - 1] if level else outputs
            layers = [nn.ReLU(), nn.ConvTranspose2d(first, second, 4, stride=2, padding=1)]
            if level:
                layers.append(nn.BatchNorm2d(second))
            if number < 3 and level:
                layers.append(nn.Dropout(0.5))
            self.up.append(nn.Sequential(*layers))

    def forward(self, image: Tensor) -> Tensor:
        features = []
        for number, level in enumerate(self.down):
            image = level(nn.functional.leaky_relu(image, 0.2) if number else image)
            features.append(image)
        for number, level in enumerate(self.up):
            image = level(torch.cat([image, features[-1 - number]], dim=1) if number else image)
        return image
