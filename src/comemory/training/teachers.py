"""What trained networks make of a clip, as part of what another one is trained towards.

Ours: a teacher's flow and frame are what a memory of normal leaves of the seen ones, without the swing and the noise that
nothing could predict. The mean of several teachers has less of each one's own luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from comemory.bundle import Bundle, open_bundle
from comemory.errors import ConfigError
from comemory.runtimes.pytorch import load_model
from comemory.training.config import Recipe


class Teachers:
    """Networks that are trained already, none of which learns any more.

    Args:
        paths: of their bundles.
        recipe: of the training that they teach in.

    Attributes:
        digests: of the bundles.

    Raises:
        BundleError: one cannot be opened. ConfigError: it was trained on other clips or another flow.
    """

    def __init__(self, paths: Sequence[str | Path], recipe: Recipe) -> None:
        bundles = [open_bundle(path) for path in paths]
        for bundle in bundles:
            _refuse_another_view(bundle, recipe)
        self.digests = [bundle.digest for bundle in bundles]
        self._origins = [(bundle.path, bundle.provenance) for bundle in bundles]
        self.share = recipe.train.taught
        self._models = [
            load_model(bundle.network).requires_grad_(False).to(memory_format=torch.channels_last) for bundle in bundles
        ]

    def __bool__(self) -> bool:
        return bool(self._models)

    def refuse_known(self, trained: Mapping[str, int], held: Mapping[str, int], data_sha256: str) -> None:
        """Refuse a teacher that has learned from video that this training holds out: the calibration would be too good.

        Args:
            trained, held: frames of each video, by name, as they go into the provenance.
            data_sha256: of all of the video; teachers of other video are not asked.

        Raises:
            ConfigError: names the teacher and the videos.
        """
        for path, provenance in self._origins:
            if provenance.get("data_sha256") != data_sha256:
                continue
            theirs = provenance.get("trained_on") or {}
            known = [name for name in held if theirs.get(name, 0) > trained.get(name, 0)]
            if known:
                raise ConfigError(
                    f"the teacher {path} has learned from video that this training holds out for the calibration "
                    f"({', '.join(known[:5])}): train both with one train.holdout"
                )

    def to(self, device: torch.device) -> None:
        """Bring the networks to a device."""
        for model in self._models:
            model.to(device)

    @torch.no_grad()
    def lay_over(self, frames: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The batch with `share` of what is to be learned in it replaced by what the teachers make of the past.

        The squared error towards the mixture has the gradient of both squared errors, weighted by their shares.

        Shapes:
            frames: float (B, n_past + 1, C, H, W). flow: float (B, 2, H, W), pixels. Returns the same, new tensors.
        """
        explained = [model(frames[:, :-1]) for model in self._models]
        taught_flow = torch.stack([one.flow_B2HW for one in explained]).mean(dim=0)
        taught_frame = torch.stack([one.frame_BCHW for one in explained]).mean(dim=0)
        mixed = torch.lerp(frames[:, -1], taught_frame, self.share)
        return torch.cat([frames[:, :-1], mixed.unsqueeze(1)], dim=1), torch.lerp(flow, taught_flow, self.share)


def _refuse_another_view(bundle: Bundle, recipe: Recipe) -> None:
    ours = {"clips": recipe.clips, "flow": recipe.flow.model_copy(update={"weights": None})}
    for what, theirs in (("clips", bundle.clips), ("flow", bundle.flow)):
        told = theirs.model_dump()
        for key, value in ours[what].model_dump().items():
            if told[key] != value:
                raise ConfigError(
                    f"the teacher {bundle.path} was trained with {what}.{key}={told[key]}, this training has "
                    f"{value}: both have to see the same"
                )
