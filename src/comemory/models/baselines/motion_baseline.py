"""The motion baseline as a model: nothing is trained, and the length of the optical flow is the evidence.

Ours: a model that is not above it has learned nothing useful. `comemory evaluate` prints a similar baseline next to every
model, on larger patches and an average of four flows.

Shape suffixes: B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from .. import evidence
from ..contract import Model
from ..settings import ModelSettings


class MotionBaselineSettings(ModelSettings):
    """The motion baseline has no settings."""

    motion_channels: ClassVar[tuple[str, ...]] = ("flow_length:16",)
    appearance_channels: ClassVar[tuple[str, ...]] = ()
    clips: ClassVar[dict[str, object]] = {"flow_of": "next", "flow_ema_decay": 0.0, "flow_shrinkage": 0.0}
    presets: ClassVar[dict[str, dict[str, object]]] = {"small": {"train": {"epochs": 1}}}

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "flow_length")


class MotionBaseline(Model):
    """The mean length of the flow in every cell. It has no weights. Args: see `contract.Model`."""

    Settings = MotionBaselineSettings
    settings: MotionBaselineSettings

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`: there is nothing to minimise, and no training asks for it."""
        return flow_B2HW.new_zeros(()), {}

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. `flow_length` is in pixels."""
        length = torch.sqrt((flow_B2HW**2).sum(dim=1, keepdim=True))
        # The frames take part with weight 0, because a graph has every input.
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "flow_length": evidence.cell_means(length + 0 * frames_BTCHW[:, -1, :1]),
        }
