"""The interface of every network: its settings, its loss, its evidence.

Shape suffixes: B batch, T frames, C channels, H W pixels, N items, D feature width.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .memory import Memory
from .settings import ModelSettings


class Model(nn.Module):
    """Base class of networks. A subclass says its `Settings` and defines `__init__`, `loss` and `infer`.

    `infer` is what is exported. It holds no state: memory items come in as arguments and go out updated, so that a
    runtime is a short file and the detector decides whether updated items are used.

    A model without a trainable parameter is calibrated without a training, and its `loss` is never called. One that only
    fills buffers in `loss` has a parameter on which its loss depends with factor 0, see `baselines.any_shot`.

    Args:
        settings: an instance of `Settings`.
        channels: 1 for grey, 3 for colour.
        n_past: frames of a clip before its newest one.
    """

    Settings: ClassVar[type[ModelSettings]]

    def __init__(self, settings: ModelSettings, *, channels: int, n_past: int) -> None:
        super().__init__()
        self.settings, self.channels, self.n_past = settings, channels, n_past

    @classmethod
    def from_kwargs(cls, *, channels: int, n_past: int, **settings: Any) -> Self:
        """Build the network from plain JSON values, as a bundle stores them.

        Raises:
            ValueError: a value does not fit a setting, or the setting is unknown.
        """
        return cls(cls.Settings(**settings), channels=channels, n_past=n_past)

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What a training step minimises, and its terms by name for the log.

        Shapes:
            frames_BTCHW: float (B, n_past + 1, C, H, W) in [-1, 1], oldest first.
            flow_B2HW: float (B, 2, H, W), (dx, dy) in pixels.
            returns: a scalar, and scalars.
        """
        raise NotImplementedError

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """The evidence of clips, by the names of `ModelSettings.evidence`, and the updated items of each memory.

        A map is a mean over cells of `evidence.CELL` pixels, or coarser by a whole factor. A number for each clip is
        evidence too. Higher is more abnormal, vector maps aside.

        Shapes:
            frames_BTCHW, flow_B2HW: as in `loss`.
            items: one (N, D) for each of `memories()`.
            returns: maps (B, C, h, w) and numbers (B,); `updated_<memory>` (N, D).
        """
        raise NotImplementedError

    def memories(self) -> dict[str, Memory]:
        """The memories by name, in the order in which `infer` takes their items."""
        return {}

    def load_frozen(self) -> None:
        """Read weights that are never trained, once, before a training. A bundle has them among its own weights.

        Raises:
            ValueError: they are missing, or are not the expected ones; one line with what to do.
        """

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """The optimiser of a training.

        Args:
            lr: the highest learning rate of the schedule.
        """
        return torch.optim.AdamW(self.parameters(), lr=lr)

    @property
    def input_layout(self) -> dict[str, int | None]:
        """Block sides in which `infer_unshuffled` takes a clip: the fields of `runtimes.InputLayout`; none by default."""
        return {}

    def infer_unshuffled(self, frames_BTFhw: Tensor, flow_BFhw: Tensor, *others: Tensor) -> dict[str, Tensor]:
        """`infer` of clips to which space-to-depth by `input_layout` was applied already, once for each frame."""
        return self.infer(frames_BTFhw, flow_BFhw, *others)
