"""RAFT-small: learned flow, slow on a CPU; a reference, and another training target.

Source: Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020; the small variant. Module
names follow the published weight file, so that it loads as it is.

Shape suffixes: B batch, C channels, D feature width, H W cells of 8 x 8 pixels, K = H * W cells of the first image,
2 for (x, y).
"""

# ruff: noqa: N803, N806

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from comemory.errors import ConfigError
from comemory.flow import FlowSettings, check_pair

CELL = 8
LEVELS = 4
RADIUS = 3
HIDDEN = 96
CONTEXT = 64
MIN_SIDE = CELL * 2 ** (LEVELS - 1)
MAX_CORRELATION_GIB = 2.0

Activation = Callable[[Tensor], Tensor]


class Bottleneck(nn.Module):
    """A residual block whose inner convolutions have a quarter of the channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs // 4, 1)
        self.conv2 = nn.Conv2d(outputs // 4, outputs // 4, 3, stride=stride, padding=1)
        self.conv3 = nn.Conv2d(outputs // 4, outputs, 1)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride)) if stride > 1 else None
        self._norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        residual = x
        for convolution in (self.conv1, self.conv2, self.conv3):
            residual = functional.relu(self._norm(convolution(residual)))
        if self.downsample is not None:
            x = self._norm(self.downsample(x))
        return functional.relu(x + residual)


class FeatureEncoder(nn.Module):
    """Encodes an image to features at an eighth of its size."""

    def __init__(self, outputs: int, norm: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, stride=2, padding=3)
        self.layer1 = nn.Sequential(Bottleneck(32, 32, 1, norm), Bottleneck(32, 32, 1, norm))
        self.layer2 = nn.Sequential(Bottleneck(32, 64, 2, norm), Bottleneck(64, 64, 1, norm))
        self.layer3 = nn.Sequential(Bottleneck(64, 96, 2, norm), Bottleneck(96, 96, 1, norm))
        self.conv2 = nn.Conv2d(96, outputs, 1)
        self._norm = norm

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Shapes: (B, 3, 8 H, 8 W) to (B, outputs, H, W)."""
        x = functional.relu(self._norm(self.conv1(image_B3HW)))
        features: Tensor = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        return features


class MotionEncoder(nn.Module):
    """Encodes sampled correlations and the current flow to motion features."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * (2 * RADIUS + 1) ** 2, 96, 1)
        self.convf1 = nn.Conv2d(2, 64, 7, padding=3)
        self.convf2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv = nn.Conv2d(96 + 32, 80, 3, padding=1)

    def forward(self, correlation_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) and (B, 2, H, W) to (B, 82, H, W)."""
        correlation = functional.relu(self.convc1(correlation_BCHW))
        flow = functional.relu(self.convf2(functional.relu(self.convf1(flow_B2HW))))
        motion = functional.relu(self.conv(torch.cat([correlation, flow], dim=1)))
        return torch.cat([motion, flow_B2HW], dim=1)


class ConvGru(nn.Module):
    """A gated recurrent unit whose matrices are 3x3 convolutions."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.convz = nn.Conv2d(HIDDEN + inputs, HIDDEN, 3, padding=1)
        self.convr = nn.Conv2d(HIDDEN + inputs, HIDDEN, 3, padding=1)
        self.convq = nn.Conv2d(HIDDEN + inputs, HIDDEN, 3, padding=1)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The next hidden state. Shapes: (B, HIDDEN, H, W) and (B, inputs, H, W) to (B, HIDDEN, H, W)."""
        both = torch.cat([hidden, x], dim=1)
        update, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        candidate = torch.tanh(self.convq(torch.cat([reset * hidden, x], dim=1)))
        return torch.lerp(hidden, candidate, update)


class FlowHead(nn.Module):
    """Decodes the hidden state to an update of the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 128, 3, padding=1)
        self.conv2 = nn.Conv2d(128, 2, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Shapes: (B, HIDDEN, H, W) to (B, 2, H, W), in cells."""
        step: Tensor = self.conv2(functional.relu(self.conv1(hidden)))
        return step


class UpdateBlock(nn.Module):
    """One iteration: from correlations, flow and context to the next hidden state and an update of the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MotionEncoder()
        self.gru = ConvGru(CONTEXT + 80 + 2)
        self.flow_head = FlowHead()

    def forward(self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden state, and the update of the flow in cells. Shapes: (B, ..., H, W) each."""
        motion = self.encoder(correlation, flow)
        hidden = self.gru(hidden, torch.cat([context, motion], dim=1))
        return hidden, self.flow_head(hidden)


class RaftSmall(nn.Module):
    """The network, 0.99 M parameters: refines the flow from zero, with the correlations of all pairs of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = FeatureEncoder(128, functional.instance_norm)
        self.cnet = FeatureEncoder(HIDDEN + CONTEXT, lambda x: x)
        self.update_block = UpdateBlock()

    def forward(self, first: Tensor, second: Tensor, iterations: int) -> Tensor:
        """Estimate the flow of one pair of images.

        Shapes:
            first, second: float32 (1, 3, 8 H, 8 W) in [-1, 1], sides of 64 pixels or more.
            returns: float32 (1, 2, 8 H, 8 W), (dx, dy) in pixels.
        """
        pyramid = correlation_pyramid(self.fnet(first), self.fnet(second))
        hidden, context = torch.split(self.cnet(first), [HIDDEN, CONTEXT], dim=1)
        hidden, context = torch.tanh(hidden), torch.relu(context)
        flow = first.new_zeros(1, 2, first.shape[2] // CELL, first.shape[3] // CELL)
        for _ in range(iterations):
            hidden, step = self.update_block(hidden, context, sample_correlations(pyramid, flow), flow)
            flow = flow + step
        return CELL * functional.interpolate(flow, scale_factor=CELL, mode="bilinear", align_corners=True)


def correlation_pyramid(first_1DHW: Tensor, second_1DHW: Tensor) -> list[Tensor]:
    """Correlate every cell of the first image with every cell of the second, at four scales of the second.

    Shapes:
        first_1DHW, second_1DHW: float32 (1, D, H, W).
        returns: for level l float32 (K, 1, H / 2**l, W / 2**l), dot products divided by sqrt(D).
    """
    _, width_D, height, width = first_1DHW.shape
    pairs = first_1DHW.flatten(2).mT @ second_1DHW.flatten(2) / math.sqrt(width_D)
    pyramid = [pairs.reshape(height * width, 1, height, width)]
    for _ in range(LEVELS - 1):
        pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
    return pyramid


def sample_correlations(pyramid: list[Tensor], flow_12HW: Tensor) -> Tensor:
    """Sample the correlations in a window of 7 x 7 cells around the target of each cell, at every level; zero outside.

    The window is read column by column (x is the slow index), the order that the published weights expect.

    Shapes:
        flow_12HW: float32 (1, 2, H, W), in cells.
        returns: float32 (1, 4 * 49, H, W).
    """
    _, _, height, width = flow_12HW.shape
    reach = torch.arange(-RADIUS, RADIUS + 1, dtype=flow_12HW.dtype)
    window = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), dim=-1)
    ys, xs = torch.meshgrid(
        torch.arange(height, dtype=reach.dtype), torch.arange(width, dtype=reach.dtype), indexing="ij"
    )
    centre_K2 = (torch.stack((xs, ys)) + flow_12HW[0]).flatten(1).mT
    found = []
    for level, correlation in enumerate(pyramid):
        place = centre_K2[:, None, None, :] / 2**level + window
        size = place.new_tensor([correlation.shape[3], correlation.shape[2]])
        sampled = functional.grid_sample(correlation, (2 * place + 1) / size - 1, align_corners=False)
        found.append(sampled.flatten(1))
    return torch.cat(found, dim=1).mT.reshape(1, -1, height, width)


class Raft:
    """RAFT-small with its published weights; about 35 times the cost of `dis`.

    It works on cells of 8 x 8 pixels. It is exact to a tenth of a pixel where everything moves together, but underestimates the
    speed of people who are one or two cells wide (UCSD Ped2: about a third of the speed that `dis` measures).

    Source: thesis, Eq. (11): f(I[t-1], I[t]), for which the seed uses a trained network; Teed and Deng, ECCV 2020.

    Args:
        settings: its `weights` is the path of `raft-small.pth`.
        iterations: of the recurrent unit; more is slower and a little more accurate.

    Raises:
        ConfigError: the weights are not given, cannot be read, or are not those of RAFT-small.
    """

    name = "raft"

    def __init__(self, settings: FlowSettings, iterations: int = 12) -> None:
        if settings.weights is None:
            raise ConfigError(
                "flow 'raft' has no weights: set flow.weights to the path of raft-small.pth, "
                "or flow.name to 'dis', which needs none"
            )
        self._iterations = iterations
        self._network = RaftSmall().eval().requires_grad_(False)
        _load(self._network, Path(settings.weights))

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Estimate the flow; see `types.FlowEstimator`.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2), (dx, dy) in pixels.

        Raises:
            ConfigError: they are not two RGB images of one size, or are too large for the all-pairs correlations.
        """
        check_pair(previous, current)
        height, width = previous.shape[:2]
        top, bottom = _margins(height)
        left, right = _margins(width)
        _check_memory(height + top + bottom, width + left + right)
        padding = (left, right, top, bottom)
        with torch.inference_mode():
            flow = self._network(_prepare(previous, padding), _prepare(current, padding), self._iterations)
        inside = flow[0, :, top : top + height, left : left + width].permute(1, 2, 0)
        return np.ascontiguousarray(inside.numpy(), dtype=np.float32)


def _margins(side: int) -> tuple[int, int]:
    """Pixels to pad at both ends of a side, so that it has whole cells, and the coarsest level has at least one."""
    missing = max(MIN_SIDE, -(-side // CELL) * CELL) - side
    return missing // 2, missing - missing // 2


def _check_memory(height: int, width: int) -> None:
    needed_gib = (height * width / CELL**2) ** 2 * 4 * 4 / 3 / 2**30
    if needed_gib > MAX_CORRELATION_GIB:
        raise ConfigError(
            f"flow 'raft' would need {needed_gib:.1f} GiB to correlate images of {height}x{width}, "
            f"more than {MAX_CORRELATION_GIB:.0f} GiB: use smaller images, or flow 'dis'"
        )


def _prepare(image: NDArray[np.uint8], padding: tuple[int, int, int, int]) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))[None]
    return functional.pad(x / 127.5 - 1, padding, mode="replicate")


def _load(network: RaftSmall, path: Path) -> None:
    """Load a file of plain tensors into the network. Anything else in the file is refused, never executed.

    Raises:
        ConfigError: it cannot be read, or does not fit the network.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(
            f"cannot read flow weights {path}: {error.strerror or error}: expected raft-small.pth"
        ) from None
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ):
        raise ConfigError(f"flow weights {path} are not a file of tensors: expected raft-small.pth") from None
    expected = network.state_dict()
    found = (
        {str(name).removeprefix("module."): value for name, value in state.items()} if isinstance(state, dict) else {}
    )
    for name in sorted(expected.keys() | found.keys()):
        wanted, given = expected.get(name), found.get(name)
        if wanted is None or not isinstance(given, Tensor) or given.shape != wanted.shape:
            raise ConfigError(
                f"flow weights {path} do not fit RAFT-small: {name!r} is {_shape(given)}, expected {_shape(wanted)}: "
                "give the published raft-small.pth"
            )
    network.load_state_dict(found)


def _shape(tensor: object) -> str:
    return str(tuple(tensor.shape)) if isinstance(tensor, Tensor) else "absent" if tensor is None else "not a tensor"
