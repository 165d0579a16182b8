"""ConvLSTM-AE: a hidden state over ten frames, from which one decoder rebuilds the present and another the past frame.

Source: Luo, Liu and Gao, Remembering History with Convolutional LSTM for Anomaly Detection, ICME 2017.
Deviations: frames are scaled to [-1, 1] where the published ones have the mean image of the training set subtracted;
each clip starts with an empty state and gives the score of its newest frame, where the published windows of ten frames
overlap by five. Appearance comes from one decoder, motion from the other.

Shape suffixes: B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import evidence
from ..contract import Model
from ..settings import ModelSettings


class ConvLstmSettings(ModelSettings):
    """Settings of ConvLSTM-AE."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("clip_error",)
    authors_score: ClassVar[dict[str, float]] = {"clip_error": 1.0}
    clips: ClassVar[dict[str, object]] = {"n_past": 9}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "paper": {
            "network": {"width": 128},
            "clips": {"height": 224, "width": 224},
            "train": {"epochs": 60, "batch": 8, "lr": 1e-3},
        }
    }

    width: int = Field(
        16,
        ge=4,
        le=256,
        title="Width",
        description="Channels of the first level; 128 as published. The state has 4 times as many.",
    )

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "frame_error", "past_error", "clip_error")

    def size_multiple(self) -> int:
        """See `ModelSettings`: strides of 4, 2 and 2."""
        return 16


class ConvLstm(Model):
    """Encoder, one ConvLSTM layer and two decoders that share nothing.

    Args:
        settings: see `ConvLstmSettings`.
        channels: see `contract.Model`; published with 1.
        n_past: see `contract.Model`; published with 9.
    """

    Settings = ConvLstmSettings
    settings: ConvLstmSettings

    def __init__(self, settings: ConvLstmSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        width = settings.width
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 7, stride=4, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.from_input = nn.Conv2d(4 * width, 16 * width, 3, padding=1)
        self.from_state = nn.Conv2d(4 * width, 16 * width, 3, padding=1, bias=False)
        self.decode_now, self.decode_past = _decoder(channels, width), _decoder(channels, width)

    def states(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """The hidden state after each frame, from an empty one."""
        n_clips, n_frames = frames_BTCHW.shape[:2]
        encoded = self.from_input(self.encoder(frames_BTCHW.flatten(0, 1)))
        gates_of = encoded.reshape(n_clips, n_frames, *encoded.shape[1:])
        hidden = cell = encoded.new_zeros(n_clips, encoded.shape[1] // 4, *encoded.shape[2:])
        states = []
        for number in range(n_frames):
            enter, forget, leave, candidate = (gates_of[:, number] + self.from_state(hidden)).chunk(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
            hidden = torch.sigmoid(leave) * torch.tanh(cell)
            states.append(hidden)
        return states

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`: every frame is rebuilt from its state, and from the next one's. The flow is not used."""
        states = torch.stack(self.states(frames_BTCHW), dim=1)
        now = self.decode_now(states.flatten(0, 1)).reshape(frames_BTCHW.shape)
        past = self.decode_past(states[:, 1:].flatten(0, 1)).reshape(frames_BTCHW[:, 1:].shape)
        parts = {"now": ((now - frames_BTCHW) ** 2).mean(), "past": ((past - frames_BTCHW[:, :-1]) ** 2).mean()}
        return parts["now"] + parts["past"], parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. `clip_error` is the root of the summed squared errors of both decoders."""
        state = self.states(frames_BTCHW)[-1]
        now, past = self.decode_now(state), self.decode_past(state)
        squared = ((now - frames_BTCHW[:, -1]) ** 2 + (past - frames_BTCHW[:, -2]) ** 2).flatten(1)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "frame_error": evidence.frame_error(now, frames_BTCHW[:, -1]),
            "past_error": evidence.frame_error(past, frames_BTCHW[:, -2]),
            "clip_error": torch.sqrt(squared.sum(dim=1) + 1e-12),
        }

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """AdaGrad with weight decay, as published."""
        return torch.optim.Adagrad(self.parameters(), lr=lr, weight_decay=5e-4)


def _decoder(channels: int, width: int) -> nn.Sequential:
    """The encoder mirrored; the output is in [-1, 1]."""
    return nn.Sequential(
        nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, channels, 7, stride=4, padding=3, output_padding=3),
        nn.Tanh(),
    )
