"""The encoder and the decoder of a U-Net, with or without skip connections.

Source: thesis, architecture overview, which uses the layers of MNAD (Park et al., CVPR 2020).
Shape suffixes: B batch, C channels, H W pixels of the level at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .settings import UNET_LEVELS


def conv_block(inputs: int, outputs: int, *, linear_output: bool = False) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU.

    Args:
        inputs: number of channels.
        outputs: number of channels.
        linear_output: the second convolution has neither normalisation nor ReLU.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
    if linear_output:
        layers.append(nn.Conv2d(outputs, outputs, 3, padding=1))
    else:
        layers += [
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Frames to the features of every level.

    Args:
        channels: channels of the input.
        base_width: feature channels of the first level; each further level doubles them.
        levels: number of resolutions, each half of the one before.

    Attributes:
        width: feature channels of the last level.
    """

    def __init__(self, channels: int, base_width: int, levels: int = UNET_LEVELS) -> None:
        super().__init__()
        if channels < 1 or base_width < 1:
            raise ValueError(f"an encoder needs channels and a width, got channels={channels}, base_width={base_width}")
        widths = [base_width * 2**level for level in range(levels)]
        self.width = widths[-1]
        self.levels = nn.ModuleList(
            conv_block(inputs, outputs, linear_output=outputs == widths[-1])
            for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.halve = nn.MaxPool2d(2)

    def forward(self, frame_BCHW: Tensor) -> list[Tensor]:
        """Features of every level, the queries last.

        Shapes:
            frame_BCHW: float, H and W multiples of 2**(levels - 1).
            returns: level l is (B, base_width * 2**l, H / 2**l, W / 2**l).
        """
        features = [self.levels[0](frame_BCHW)]
        for level in list(self.levels)[1:]:
            features.append(level(self.halve(features[-1])))
        return features


class Decoder(nn.Module):
    """Features at the resolution of the queries back to a frame or a flow field.

    Args:
        width: channels of the input.
        base_width: feature channels of the last level, at full resolution.
        outputs: channels of the output.
        skips: join the features of the encoder at every level. Without them only what went through the memory
            reaches the output.
        encoder_width: `base_width` of the encoder, where it differs.
        levels: see `Encoder`.
    """

    def __init__(
        self,
        width: int,
        base_width: int,
        outputs: int,
        *,
        skips: bool,
        encoder_width: int | None = None,
        levels: int = UNET_LEVELS,
    ) -> None:
        super().__init__()
        self.skips = skips
        widths = [base_width * 2**level for level in range(levels)]
        encoder_base = base_width if encoder_width is None else encoder_width
        self.enter = conv_block(width, widths[-1])
        self.enlarge = nn.ModuleList()
        self.levels = nn.ModuleList()
        for level in reversed(range(levels - 1)):
            self.enlarge.append(nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2))
            joined = widths[level] + (encoder_base * 2**level if skips else 0)
            self.levels.append(conv_block(joined, widths[level]))
        self.leave = nn.Conv2d(base_width, outputs, 3, padding=1)

    def forward(self, feature_BCHW: Tensor, encoded: Sequence[Tensor]) -> Tensor:
        """Decode.

        Shapes:
            feature_BCHW: float (B, width, h, w).
            encoded: the features that `Encoder.forward` returned; read with `skips` only.
            returns: float (B, outputs, h 2**(levels - 1), w 2**(levels - 1)), unbounded.
        """
        feature = self.enter(feature_BCHW)
        for step, level in enumerate(reversed(range(len(self.levels)))):
            feature = self.enlarge[step](feature)
            if self.skips:
                feature = torch.cat([feature, encoded[level]], dim=1)
            feature = self.levels[step](feature)
        return self.leave(feature)  # type: ignore[no-any-return]
