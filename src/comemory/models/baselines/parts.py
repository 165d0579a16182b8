"""Parts that several baselines share: a U-Net, a patch discriminator, losses, and the whole-frame error in decibels.

Shape suffixes: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


class UNet(nn.Module):
    """An encoder and a decoder with double 3x3 convolutions; `encode` and `decode` can be called separately.

    Source: Ronneberger et al., MICCAI 2015, in the widths that Liu et al., CVPR 2018 and its successors use.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        width: channels of the first level; each further level doubles them.
        levels: number of resolutions, each half of the one before.
        norm: use batch normalisation.
        skips: join the features of the encoder at every level of the decoder.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, *, levels: int = 4, norm: bool = True, skips: bool = True
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.skips = skips
        self.width = widths[-1]
        self.down = nn.ModuleList(
            double_conv(first, second, norm=norm) for first, second in zip([inputs, *widths], widths, strict=False)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2) for level in reversed(range(levels - 1))
        )
        self.up = nn.ModuleList(
            double_conv(widths[level] * (2 if skips else 1), widths[level], norm=norm)
            for level in reversed(range(levels - 1))
        )
        self.leave = nn.Conv2d(width, outputs, 3, padding=1)

    def encode(self, image_BCHW: Tensor) -> list[Tensor]:
        """Features of every level, the deepest last. H and W are multiples of 2**(levels - 1)."""
        features = [self.down[0](image_BCHW)]
        for level in list(self.down)[1:]:
            features.append(level(nnf.max_pool2d(features[-1], 2)))
        return features

    def decode(self, feature_BCHW: Tensor, encoded: Sequence[Tensor]) -> Tensor:
        """The output, unbounded, from the deepest feature and those of the encoder, which are read with `skips` only."""
        for enlarge, level, skipped in zip(self.enlarge, self.up, list(encoded)[-2::-1], strict=True):
            feature_BCHW = enlarge(feature_BCHW)
            if self.skips:
                feature_BCHW = torch.cat([feature_BCHW, skipped], dim=1)
            feature_BCHW = level(feature_BCHW)
        return self.leave(feature_BCHW)  # type: ignore[no-any-return]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Encode and decode."""
        encoded = self.encode(image_BCHW)
        return self.decode(encoded[-1], encoded)


def double_conv(inputs: int, outputs: int, *, norm: bool = True) -> nn.Sequential:
    """Two 3x3 convolutions with ReLU, and batch normalisation before it where `norm` is set."""
    layers: list[nn.Module] = []
    for first in (inputs, outputs):
        layers.append(nn.Conv2d(first, outputs, 3, padding=1, bias=not norm))
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class PatchDiscriminator(nn.Module):
    """Four strided 4x4 convolutions and a last one: one logit for each patch of an image.

    Source: Isola et al., CVPR 2017.

    Args:
        inputs: channels of the image.
        width: channels of the first level; 64 or 128 as published.
        norm: use batch normalisation from the second level on.
    """

    def __init__(self, inputs: int, width: int, *, norm: bool = False) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = []
        for level, (first, second) in enumerate(zip([inputs, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(first, second, 4, stride=2 if level < 3 else 1, padding=1))
            layers += [nn.BatchNorm2d(second)] if norm and level else []
            layers.append(nn.LeakyReLU(0.2))
        self.levels = nn.Sequential(*layers)
        self.leave = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits. Shapes: (B, 1, h, w)."""
        return self.leave(self.levels(image_BCHW))  # type: ignore[no-any-return]


def least_squares_losses(discriminator: nn.Module, real_BCHW: Tensor, fake_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of the generator and that of the discriminator, to be minimised in one step by one optimiser.

    Each sees the other as a constant: the generator's loss runs through detached weights of the discriminator, and the
    discriminator's loss is taken of a detached image. Source: Mao et al., ICCV 2017.
    """
    generator = 0.5 * ((frozen_weights_output(discriminator, fake_BCHW) - 1) ** 2).mean()
    judged_real, judged_fake = discriminator(real_BCHW), discriminator(fake_BCHW.detach())
    return generator, 0.5 * ((judged_real - 1) ** 2).mean() + 0.5 * (judged_fake**2).mean()


def cross_entropy_losses(discriminator: nn.Module, real_BCHW: Tensor, fake_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """As `least_squares_losses`, with the binary cross-entropy of Goodfellow et al., NeurIPS 2014."""
    generator = nnf.softplus(-frozen_weights_output(discriminator, fake_BCHW)).mean()
    judged_real, judged_fake = discriminator(real_BCHW), discriminator(fake_BCHW.detach())
    return generator, 0.5 * (nnf.softplus(-judged_real).mean() + nnf.softplus(judged_fake).mean())


def frozen_weights_output(module: nn.Module, image_BCHW: Tensor) -> Tensor:
    """A module's output through detached weights: gradients reach the image and not the module."""
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    output: Tensor = torch.func.functional_call(module, {**weights, **buffers}, (image_BCHW,))
    return output


def gradient_loss(predicted_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """Mean absolute difference of the absolute image gradients, in x and in y.

    Source: Mathieu et al., ICLR 2016.
    """
    total = predicted_BCHW.new_zeros(())
    for axis in (-1, -2):
        predicted, image = predicted_BCHW.diff(dim=axis).abs(), image_BCHW.diff(dim=axis).abs()
        total = total + (predicted - image).abs().mean()
    return total


def negative_psnr(predicted_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """The negative peak signal-to-noise ratio of whole frames in [-1, 1], decibels: higher is more abnormal.

    Shapes: returns (B,).
    """
    error_B = ((predicted_BCHW - image_BCHW) ** 2).flatten(1).mean(dim=1)
    return 10 * torch.log10(error_B / 4 + 1e-10)  # 4 is the squared range of [-1, 1]


def parameter_groups(generator: nn.Module, discriminator: nn.Module | None, share: float) -> list[dict[str, object]]:
    """Parameter groups of one optimiser: the discriminator learns at `share` of the generator's learning rate."""
    own = {id(weight) for weight in discriminator.parameters()} if discriminator is not None else set()
    groups: list[dict[str, object]] = [
        {"params": [weight for weight in generator.parameters() if id(weight) not in own]}
    ]
    if discriminator is not None:
        groups.append({"params": list(discriminator.parameters()), "lr_scale": share})
    return groups
