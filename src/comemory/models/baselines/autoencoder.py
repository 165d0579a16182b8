"""AE, the convolutional autoencoder: it reconstructs the newest frame from a bottleneck.

Source: Hasan et al., Learning Temporal Regularity in Video Sequences, CVPR 2016, reduced to one frame as the thesis' table
has it. The error of the reconstruction is the score.

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
from .parts import UNet, negative_psnr


class AutoencoderSettings(ModelSettings):
    """Settings of the autoencoder."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("negative_psnr",)
    authors_score: ClassVar[dict[str, float]] = {"negative_psnr": 1.0}

    width: int = Field(8, ge=4, le=256, title="Width", description="Feature channels of the first level.")

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "frame_error", "negative_psnr")

    def size_multiple(self) -> int:
        """See `ModelSettings`: three halvings."""
        return 8


class Autoencoder(Model):
    """A U-Net without skip connections: everything passes the bottleneck. Args: see `contract.Model`."""

    Settings = AutoencoderSettings
    settings: AutoencoderSettings

    def __init__(self, settings: AutoencoderSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.network = UNet(channels, channels, settings.width, skips=False)

    def forward(self, frame_BCHW: Tensor) -> Tensor:
        """The reconstructed frame, in [-1, 1]."""
        return torch.tanh(self.network(frame_BCHW))

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`; past frames and flow are not used."""
        frame_BCHW = frames_BTCHW[:, -1]
        error = losses.prediction_loss(self(frame_BCHW), frame_BCHW)
        return error, {"reconstruction": error}

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`."""
        frame_BCHW = frames_BTCHW[:, -1]
        reconstructed_BCHW = self(frame_BCHW)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "frame_error": evidence.frame_error(reconstructed_BCHW, frame_BCHW),
            "negative_psnr": negative_psnr(reconstructed_BCHW, frame_BCHW),
        }
