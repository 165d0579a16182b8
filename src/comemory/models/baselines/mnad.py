"""MNAD, the network that the seed builds upon: one frame predicted from four, through one memory.

Source: Park, Noh and Ham, Learning Memory-guided Normality for Anomaly Detection, CVPR 2020, the variant that predicts.
The layers and the cost are theirs. The losses are those of this package (squared distances in both, summed over the width),
and items begin as directions drawn evenly, where theirs begin as positive ones.

Shape suffixes: B batch, T frames, C channels, H W pixels, h w cells or places of the query map, K queries,
D feature width, N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import evidence, losses
from ..memory import Memory, Reading, update

WIDTHS = (64, 128, 256, 512)
"""Feature channels of the four levels; the queries have the last one."""


class Prediction(NamedTuple):
    """What MNAD makes of the past frames.

    Shapes:
        frame_BCHW: the predicted next frame, in [-1, 1].
        appearance: the reading of the memory.
    """

    frame_BCHW: Tensor
    appearance: Reading


class Mnad(nn.Module):
    """A U-Net of three halvings whose deepest features are joined with what the memory has for them.

    Args:
        channels: 1 for grey, 3 for colour.
        n_past: frames that are seen.
        n_items: items of the memory.
        margin: of the separateness loss.
    """

    def __init__(self, *, channels: int = 3, n_past: int = 4, n_items: int = 10, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin
        self.encoder = nn.ModuleList(
            [
                _pair(channels * n_past, WIDTHS[0]),
                _pair(WIDTHS[0], WIDTHS[1]),
                _pair(WIDTHS[1], WIDTHS[2]),
                _pair(WIDTHS[2], WIDTHS[3])[:-2],
            ]
        )
        self.halve = nn.MaxPool2d(2)
        self.memory = Memory(n_items, WIDTHS[-1])
        self.enter = _pair(2 * WIDTHS[-1], WIDTHS[-1])
        self.enlarge = nn.ModuleList(_double(WIDTHS[level + 1], WIDTHS[level]) for level in (2, 1, 0))
        self.decoder = nn.ModuleList(_pair(WIDTHS[level + 1], WIDTHS[level]) for level in (2, 1, 0))
        self.leave = nn.Conv2d(WIDTHS[0], channels, 3, padding=1)

    def memories(self) -> dict[str, Memory]:
        """The one memory, under the name of the branch it stands for."""
        return {"appearance": self.memory}

    def forward(self, past_BTCHW: Tensor, items_ND: Tensor | None = None) -> Prediction:
        """Predict the next frame.

        Shapes:
            past_BTCHW: float (B, n_past, C, H, W) in [-1, 1], H and W multiples of 8; 256x256 as published.
            items_ND: in place of the stored ones.
        """
        feature = self.encoder[0](past_BTCHW.flatten(1, 2))
        encoded = []
        for level in list(self.encoder)[1:]:
            encoded.append(feature)
            feature = level(self.halve(feature))
        reading = self.memory(feature, items_ND)
        joined_BKD = torch.cat([reading.query_BKD, reading.read_BKD], dim=-1)
        feature = self.enter(joined_BKD.transpose(1, 2).reshape(len(feature), -1, *feature.shape[2:]))
        for enlarge, decode, skipped in zip(self.enlarge, self.decoder, reversed(encoded), strict=True):
            feature = decode(torch.cat([skipped, enlarge(feature)], dim=1))
        return Prediction(torch.tanh(self.leave(feature)), reading)

    def loss(
        self, frames_BTCHW: Tensor, flow_B2HW: Tensor, weights: Mapping[str, float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its terms by name; the flow is not used. In training mode the memory learns."""
        del flow_B2HW
        predicted = self(frames_BTCHW[:, :-1])
        items_ND = self.memory.items.clone()
        parts = {
            "prediction": losses.prediction_loss(predicted.frame_BCHW, frames_BTCHW[:, -1]),
            "appearance_compactness": losses.compactness_loss(predicted.appearance, items_ND),
            "appearance_separateness": losses.separateness_loss(predicted.appearance, items_ND, self.margin),
        }
        if self.training:
            self.memory.learn(predicted.appearance.query_BKD)
        return losses.total_loss(parts, weights), parts

    def observe(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """The evidence of clips, and the items as an update with these clips would leave them.

        Shapes:
            frames_BTCHW: float (B, n_past + 1, C, H, W); the last frame is the one that was predicted.
            flow_B2HW: float, pixels; passed on as its means over cells.
            items: the (N, D) items of the memory.
            returns: maps (B, 1 or 2, h, w) by name; `updated_appearance` (N, D).
        """
        (items_ND,) = items
        frame_BCHW, reading = self(frames_BTCHW[:, :-1], items_ND)
        height, width = frames_BTCHW.shape[-2] // 8, frames_BTCHW.shape[-1] // 8
        return {
            "flow_mean": evidence.cells(flow_B2HW),
            "frame_error": evidence.frame_error(frame_BCHW, frames_BTCHW[:, -1]),
            "appearance_distance": evidence.memory_distance(reading, items_ND, height, width),
            "updated_appearance": update(reading.query_BKD.flatten(0, 1), items_ND, self.memory.momentum),
        }


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _double(inputs: int, outputs: int) -> nn.Sequential:
    """A transposed 3x3 convolution to twice the size, with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
