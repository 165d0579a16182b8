"""The encoder and the decoder: a U-Net of three halvings, whose skip connections are a choice.

Source: seed, architecture overview, which takes over the layers of MNAD (Park et al., CVPR 2020).
Shape suffixes: B batch, C channels, H W pixels of the level at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEVELS = 4
"""Resolutions in the U-Net; the last one, at an eighth of the picture, holds the queries."""


def convolutions(inputs: int, outputs: int, *, open_end: bool = False) -> nn.Sequential:
    """Two 3x3 convolutions with batch normalisation and ReLU; with `open_end` the second one is bare."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
    if open_end:
        layers.append(nn.Conv2d(outputs, outputs, 3, padding=1))
    else:
        layers += [
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Pictures to queries.

    Args:
        channels: of the input.
        base_width: feature channels of the first level; each further level doubles them.
        levels: resolutions, each half of the one before.
    """

    def __init__(self, channels: int, base_width: int, levels: int = LEVELS) -> None:
        super().__init__()
        if channels < 1 or base_width < 1:
            raise ValueError(f"an encoder needs channels and a width, got channels={channels}, base_width={base_width}")
        widths = [base_width * 2**level for level in range(levels)]
        self.width = widths[-1]
        self.levels = nn.ModuleList(
            convolutions(inputs, outputs, open_end=outputs == widths[-1])
            for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.halve = nn.MaxPool2d(2)

    def forward(self, picture_BCHW: Tensor) -> list[Tensor]:
        """Features of every level, the queries last.

        Shapes:
            picture_BCHW: float, H and W multiples of 8.
            returns: level l is (B, base_width * 2**l, H / 2**l, W / 2**l).
        """
        features = [self.levels[0](picture_BCHW)]
        for level in list(self.levels)[1:]:
            features.append(level(self.halve(features[-1])))
        return features


class Decoder(nn.Module):
    """Features of the memory's resolution back to a picture or a flow field.

    Args:
        width: channels of the input.
        base_width: feature channels of its own last level; the encoder whose skip connections may be used has the same.
        outputs: channels of what is decoded.
        skips: levels of the encoder joined to the decoder of the same level, of 0, 1, 2. With none, nothing
            reaches the output but what went through the memory.
        encoder_width: `base_width` of the encoder where it is another one.
        levels: see `Encoder`.
    """

    def __init__(
        self,
        width: int,
        base_width: int,
        outputs: int,
        skips: Sequence[int],
        encoder_width: int | None = None,
        levels: int = LEVELS,
    ) -> None:
        super().__init__()
        if not set(skips) <= set(range(LEVELS - 1)):
            raise ValueError(f"skips are levels of {list(range(LEVELS - 1))}, got {list(skips)}")
        self.skips = frozenset(skips) & frozenset(range(levels - 1))
        widths = [base_width * 2**level for level in range(levels)]
        encoder_base = base_width if encoder_width is None else encoder_width
        self.enter = convolutions(width, widths[-1])
        self.enlarge = nn.ModuleList()
        self.levels = nn.ModuleList()
        for level in reversed(range(levels - 1)):
            self.enlarge.append(nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2))
            joined = widths[level] + (encoder_base * 2**level if level in self.skips else 0)
            self.levels.append(convolutions(joined, widths[level]))
        self.leave = nn.Conv2d(base_width, outputs, 3, padding=1)

    def forward(self, feature_BCHW: Tensor, encoded: Sequence[Tensor]) -> Tensor:
        """Decode.

        Shapes:
            feature_BCHW: float (B, width, H / 8, W / 8).
            encoded: what `Encoder.forward` gave; used at `skips` only.
            returns: float (B, outputs, H, W), unbounded.
        """
        feature = self.enter(feature_BCHW)
        for step, level in enumerate(reversed(range(len(self.levels)))):
            feature = self.enlarge[step](feature)
            if level in self.skips:
                feature = torch.cat([feature, encoded[level]], dim=1)
            feature = self.levels[step](feature)
        return self.leave(feature)  # type: ignore[no-any-return]
