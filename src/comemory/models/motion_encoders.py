"""Encoders of the motion branch: two past frames, or all of them.

The thesis' encoder sees the last two frames. Its first future work proposes a longer input, by a recurrent network or by
convolutions over time. All encoders return the features of every level, the queries last, as `layers.Encoder` does.
Shape suffixes: B batch, T frames, P pairs of frames, C channels, H W pixels of the level at hand, D feature width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import Encoder, conv_block
from .settings import UNET_LEVELS


class PairEncoder(Encoder):
    """The last two frames, stacked. Source: thesis, Eq. (1).

    Args:
        channels: channels of one frame.
        n_past: frames of the input; all but the last two are ignored.
        base_width: see `layers.Encoder`.

    Attributes:
        n_seen: newest past frames that the encoder reads.
        width: feature channels of the queries.
    """

    def __init__(self, channels: int, n_past: int, base_width: int) -> None:
        super().__init__(2 * channels, base_width)
        self.n_seen = 2

    def forward(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Features of every level, the queries last."""
        return super().forward(frames_BTCHW[:, -2:].flatten(1, 2))


class RecurrentEncoder(nn.Module):
    """Every pair of neighbouring frames through one encoder, and a convolutional GRU over their queries, oldest first.

    Ours: the first of the thesis' future works. With two past frames the GRU takes one step from zeros. The skip
    connections are those of the newest pair. The arguments are those of `PairEncoder`.
    """

    def __init__(self, channels: int, n_past: int, base_width: int) -> None:
        super().__init__()
        self.n_seen = n_past
        self.pair_encoder = Encoder(2 * channels, base_width)
        self.width = self.pair_encoder.width
        self.cell = ConvGRU(self.width)

    def forward(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Features of every level, the queries last."""
        # All pairs go through the encoder as one batch: that is one call of each layer in place of `n_pairs`.
        batch, n_pairs = len(frames_BTCHW), frames_BTCHW.shape[1] - 1
        pairs_BPCHW = torch.cat([frames_BTCHW[:, :-1], frames_BTCHW[:, 1:]], dim=2)
        features = [
            level.reshape(batch, n_pairs, *level.shape[1:]) for level in self.pair_encoder(pairs_BPCHW.flatten(0, 1))
        ]
        state_BDHW = torch.zeros_like(features[-1][:, 0])
        for pair in range(n_pairs):
            state_BDHW = self.cell(features[-1][:, pair], state_BDHW)
        return [*(level[:, -1] for level in features[:-1]), state_BDHW]


class ConvGRU(nn.Module):
    """One step of a gated recurrent unit whose candidate is a 3x3 convolution.

    Ours: the gates are 1x1 convolutions, so that nearly all of the cost stays in the encoder.

    Args:
        width: D, channels of the input and of the state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * width, 2 * width, 1)
        self.candidate = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, input_BDHW: Tensor, state_BDHW: Tensor) -> Tensor:
        """The next state.

        Shapes:
            input_BDHW, state_BDHW: float. returns: float (B, D, H, W), in [-1, 1] if the state was.
        """
        gates = torch.sigmoid(self.gates(torch.cat([input_BDHW, state_BDHW], dim=1)))
        renew_BDHW, reset_BDHW = gates.chunk(2, dim=1)
        candidate_BDHW = torch.tanh(self.candidate(torch.cat([input_BDHW, reset_BDHW * state_BDHW], dim=1)))
        return (1 - renew_BDHW) * state_BDHW + renew_BDHW * candidate_BDHW


class VolumeEncoder(nn.Module):
    """Convolutions over time and space, two frames deep with stride two, until one frame is left.

    Ours: the first of the thesis' future works. A kernel of 2x3x3 is computed as one of 3x3 over stacked
    neighbours, which is fast in every runtime. An odd number of frames is made even by doubling the oldest one. Where more
    than one frame is left at the queries, they are averaged. The skip connections are the newest features of their
    level. The arguments are those of `PairEncoder`.
    """

    def __init__(self, channels: int, n_past: int, base_width: int) -> None:
        super().__init__()
        self.n_seen = n_past
        widths = [base_width * 2**level for level in range(UNET_LEVELS)]
        self.width = widths[-1]
        self.levels = nn.ModuleList()
        for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True):
            depth = min(n_past, 2)
            self.levels.append(conv_block(depth * inputs, outputs, linear_output=outputs == widths[-1]))
            n_past = (n_past + 1) // 2
        self.halve = nn.MaxPool2d(2)

    def forward(self, frames_BTCHW: Tensor) -> list[Tensor]:
        """Features of every level, the queries last."""
        features, value_BTCHW = [], frames_BTCHW
        for number, level in enumerate(self.levels):
            if number:
                value_BTCHW = _apply_to_frames(self.halve, value_BTCHW)
            value_BTCHW = _apply_to_frames(level, _frame_pairs(value_BTCHW))
            features.append(value_BTCHW[:, -1])
        return [*features[:-1], value_BTCHW.mean(dim=1)]


def _frame_pairs(frames_BTCHW: Tensor) -> Tensor:
    """Stack neighbouring frames as channels, which halves their number; a single frame stays as it is."""
    if frames_BTCHW.shape[1] == 1:
        return frames_BTCHW
    if frames_BTCHW.shape[1] % 2:
        frames_BTCHW = torch.cat([frames_BTCHW[:, :1], frames_BTCHW], dim=1)
    return torch.cat([frames_BTCHW[:, 0::2], frames_BTCHW[:, 1::2]], dim=2)


def _apply_to_frames(layer: nn.Module, frames_BTCHW: Tensor) -> Tensor:
    """Apply a layer to every frame."""
    made: Tensor = layer(frames_BTCHW.flatten(0, 1))
    return made.reshape(*frames_BTCHW.shape[:2], *made.shape[1:])


MOTION_ENCODERS: dict[str, type[PairEncoder | RecurrentEncoder | VolumeEncoder]] = {
    "pair": PairEncoder,
    "recurrent": RecurrentEncoder,
    "volume": VolumeEncoder,
}
"""Motion encoders by the names of `CoMemorySettings.motion_encoder`."""
