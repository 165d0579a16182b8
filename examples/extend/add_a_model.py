"""A model in one file. Copy it to `src/comemory/models/patch_code.py` and add one line to `MODELS` in that package:

    "patch-code": "comemory.models.patch_code:PatchCode",

`comemory train --set model=patch-code …` then trains, calibrates and exports it, and every command opens the bundle.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from comemory.models.contract import Model
from comemory.models.evidence import cell_means
from comemory.models.settings import ModelSettings


class PatchCodeSettings(ModelSettings):
    """What a user can set: `network.width`."""

    motion_channels = ()
    appearance_channels = ("reconstruction_error:16", "mean_error")
    width: int = Field(16, ge=1, title="Width", description="Numbers in the code of a patch.")

    def evidence(self) -> tuple[str, ...]:
        """A map and a number."""
        return ("reconstruction_error", "mean_error")


class PatchCode(Model):
    """Reconstructs each patch of 4x4 pixels of the newest frame from a code of `width` numbers."""

    Settings = PatchCodeSettings

    def __init__(self, settings: PatchCodeSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.encode = nn.Conv2d(channels, settings.width, 4, stride=4)
        self.decode = nn.ConvTranspose2d(settings.width, channels, 4, stride=4)

    def error(self, frames_BTCHW: Tensor) -> Tensor:
        """Squared error of the newest frame. Shapes: (B, C, H, W)."""
        frame_BCHW = frames_BTCHW[:, -1]
        return (self.decode(torch.relu(self.encode(frame_BCHW))) - frame_BCHW) ** 2

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Model`."""
        loss = self.error(frames_BTCHW).mean()
        return loss, {"reconstruction": loss}

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `Model`."""
        error_BCHW = self.error(frames_BTCHW)
        return {
            "reconstruction_error": cell_means(error_BCHW).mean(dim=1, keepdim=True),
            "mean_error": error_BCHW.mean(dim=(1, 2, 3)),
        }
