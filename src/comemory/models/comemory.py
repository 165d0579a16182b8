"""The Appearance-Motion Co-memory Network.

Shape suffixes: B batch, T frames, C channels, H W pixels, F channels after space-to-depth, h w places of the query map,
K = h w queries, D feature width, N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor

from . import evidence, losses
from .contract import Model
from .layers import Decoder, Encoder
from .memory import Memory, MemoryRead, update
from .motion_encoders import MOTION_ENCODERS
from .settings import UNET_LEVELS, CoMemorySettings

MARGIN = 1.0
"""Alpha of Eq. (14). Squared distances between unit vectors lie in [0, 4]."""


class CoMemoryPrediction(NamedTuple):
    """What the network predicts from the past frames.

    Shapes:
        flow_B2HW: the flow decoded from the motion memory, pixels.
        frame_BCHW: the predicted next frame, in [-1, 1].
        motion: the read of the motion memory; None where it is off.
        appearance: the read of the appearance memory; None where it is off.
    """

    flow_B2HW: Tensor
    frame_BCHW: Tensor
    motion: MemoryRead | None
    appearance: MemoryRead | None


class CoMemory(Model):
    """A motion branch that decodes the flow, and an appearance branch that predicts the next frame with its help.

    Source: thesis, Eq. (1) to (5). Deviations: `CoMemorySettings` says for each setting which value is the thesis'. A branch
    whose memory is off passes on the queries as its encoder gives them; with a memory they have length 1.

    Args:
        settings: see `CoMemorySettings`.
        channels: 1 for grey, 3 for colour.
        n_past: frames of a clip before its newest one, 2 or more.

    Raises:
        ValueError: `n_past` is less than 2, or `channels` less than 1.
    """

    Settings = CoMemorySettings
    settings: CoMemorySettings

    def __init__(self, settings: CoMemorySettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        if n_past < 2:
            raise ValueError(f"the motion branch needs two past frames, got n_past={n_past}")
        self.stem = settings.stem
        self.appearance_stem = settings.appearance_stem or settings.stem
        self.query_stride = {
            "motion": 2 ** (UNET_LEVELS - 1) * self.stem,
            "appearance": settings.size_multiple(),
        }
        motion_base = settings.motion_width or settings.base_width
        appearance_base = settings.appearance_width or settings.base_width
        frame_channels = channels * self.appearance_stem**2
        # Weights are drawn in the order of these lines: another order would train another network from the same seed.
        self.motion_encoder = MOTION_ENCODERS[settings.motion_encoder](channels * self.stem**2, n_past, motion_base)
        self.appearance_encoder = Encoder(n_past * frame_channels, appearance_base, settings.appearance_levels)
        d_m, d_a = self.motion_encoder.width, self.appearance_encoder.width
        self.motion_memory = (
            Memory(settings.motion_items, d_m, settings.motion_temperature) if settings.motion_items else None
        )
        self.appearance_memory = Memory(settings.appearance_items, d_a) if settings.appearance_items else None
        width_m = 2 * d_m if self.motion_memory is not None and settings.motion_decodes == "both" else d_m
        width_a = 2 * d_a if self.appearance_memory is not None else d_a
        self.motion_decoder = Decoder(
            width_m, settings.base_width, 2 * self.stem**2, skips=settings.motion_skips, encoder_width=motion_base
        )
        self.appearance_decoder = Decoder(
            width_a + width_m, appearance_base, frame_channels, skips=True, levels=settings.appearance_levels
        )

    @property
    def input_layout(self) -> dict[str, int | None]:
        """Block sides of `infer_unshuffled`; where the branches differ, the motion branch gets `n_seen` frames of its own."""
        finer = self.appearance_stem != self.stem
        return {
            "frames": self.appearance_stem,
            "flow": self.stem,
            "seen": self.stem if finer else None,
            "n_seen": self.motion_encoder.n_seen if finer else 0,
        }

    def memories(self) -> dict[str, Memory]:
        """The memories that are on, by name."""
        pairs = (("motion", self.motion_memory), ("appearance", self.appearance_memory))
        return {name: memory for name, memory in pairs if memory is not None}

    def forward(self, past_BTCHW: Tensor, items: Mapping[str, Tensor] | None = None) -> CoMemoryPrediction:
        """Decode the flow and predict the next frame.

        Shapes:
            past_BTCHW: float (B, n_past, C, H, W) in [-1, 1], H and W multiples of `settings.size_multiple()`.
            items: (N, D) by memory name, in place of the stored ones.
        """
        coarse_BTFhw = nnf.pixel_unshuffle(past_BTCHW, self.appearance_stem)
        unshuffled = self._predict(self._motion_view(past_BTCHW, coarse_BTFhw), coarse_BTFhw, items or {})
        return unshuffled._replace(
            flow_B2HW=nnf.pixel_shuffle(unshuffled.flow_B2HW, self.stem),
            frame_BCHW=nnf.pixel_shuffle(unshuffled.frame_BCHW, self.appearance_stem),
        )

    def _motion_view(self, past_BTCHW: Tensor, coarse_BTFhw: Tensor) -> Tensor:
        """The past frames for the motion branch, after space-to-depth by its own stem.

        With equal stems the tensor of the appearance branch is used again, because space-to-depth copies every pixel.
        """
        if self.appearance_stem == self.stem:
            return coarse_BTFhw
        return nnf.pixel_unshuffle(past_BTCHW[:, -self.motion_encoder.n_seen :], self.stem)

    def _predict(self, fine_BTFhw: Tensor, coarse_BTFhw: Tensor, items: Mapping[str, Tensor]) -> CoMemoryPrediction:
        """`forward` of unshuffled frames: fine ones for the motion branch, coarse ones for the appearance branch."""
        motion_features = self.motion_encoder(fine_BTFhw)
        f_m, motion = self._read_memory("motion", motion_features[-1], items)
        flow_BFhw = self.motion_decoder(f_m, motion_features)
        features = self.appearance_encoder(coarse_BTFhw.flatten(1, 2))
        f_a, appearance = self._read_memory("appearance", features[-1], items)
        if self.query_stride["appearance"] != self.query_stride["motion"]:
            # Motion features are averaged to the coarser queries of the appearance branch before they are joined.
            f_m = nnf.avg_pool2d(f_m, self.query_stride["appearance"] // self.query_stride["motion"])
        decoded = self.appearance_decoder(torch.cat([f_a, f_m], dim=1), features)
        frame_BFhw = torch.tanh(decoded)
        if self.settings.appearance_predicts == "change":
            frame_BFhw = coarse_BTFhw[:, -1] + frame_BFhw
        return CoMemoryPrediction(flow_BFhw, frame_BFhw, motion, appearance)

    def _read_memory(
        self, branch: str, query_BDHW: Tensor, items: Mapping[str, Tensor]
    ) -> tuple[Tensor, MemoryRead | None]:
        """The features that the decoders get from a branch, and the read of its memory."""
        memory: Memory | None = getattr(self, f"{branch}_memory")
        if memory is None:
            return query_BDHW, None
        memory_read = memory(query_BDHW, items.get(branch))
        read_BDHW = memory_read.read_BKD.transpose(1, 2).reshape(query_BDHW.shape)
        if branch == "motion" and self.settings.motion_decodes == "read":
            return read_BDHW, memory_read
        query_BDHW = memory_read.query_BKD.transpose(1, 2).reshape(query_BDHW.shape)
        return torch.cat([query_BDHW, read_BDHW], dim=1), memory_read

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`. Source: thesis, Eq. (15). In training mode the memories are updated with the step's queries."""
        predicted = self(frames_BTCHW[:, :-1])
        parts = {
            "flow": losses.flow_loss(predicted.flow_B2HW, flow_B2HW),
            "prediction": losses.prediction_loss(predicted.frame_BCHW, frames_BTCHW[:, -1]),
        }
        for name, memory in self.memories().items():
            memory_read: MemoryRead = getattr(predicted, name)
            items_ND = memory.items.clone()
            parts[f"{name}_compactness"] = losses.compactness_loss(memory_read, items_ND)
            parts[f"{name}_separateness"] = losses.separateness_loss(memory_read, items_ND, MARGIN)
            if self.training:
                memory.update_items(memory_read.query_BKD)
        return losses.total_loss(parts, self.settings.loss_weights.model_dump()), parts

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. The last frame of a clip is the one that is predicted from those before it."""
        frames_BTFhw = nnf.pixel_unshuffle(frames_BTCHW, self.appearance_stem)
        seen = [self._motion_view(frames_BTCHW[:, :-1], frames_BTFhw)] if self.appearance_stem != self.stem else []
        return self.infer_unshuffled(frames_BTFhw, nnf.pixel_unshuffle(flow_B2HW, self.stem), *seen, *items)

    def infer_unshuffled(self, frames_BTFhw: Tensor, flow_BFhw: Tensor, *others: Tensor) -> dict[str, Tensor]:
        """`infer` of clips to which space-to-depth by `input_layout` was applied.

        Shapes:
            frames_BTFhw: float (B, n_past + 1, C s**2, H / s, W / s), s the stem of the appearance branch.
            flow_BFhw: float (B, 2 s**2, H / s, W / s), s the stem of the motion branch.
            others: where the stems differ, the last past frames for the motion branch; then the memory items.
        """
        coarse_BTFhw = frames_BTFhw[:, :-1]
        fine_BTFhw, *items = others if self.appearance_stem != self.stem else (coarse_BTFhw, *others)
        named = dict(zip(self.memories(), items, strict=True))
        predicted = self._predict(fine_BTFhw, coarse_BTFhw, named)
        found = {
            "flow_error": evidence.flow_error(predicted.flow_B2HW, flow_BFhw, self.stem),
            "flow_residual": evidence.flow_residual(predicted.flow_B2HW, flow_BFhw, self.stem),
            "flow_mean": evidence.cell_means(flow_BFhw, self.stem),
            "frame_error": evidence.frame_error(predicted.frame_BCHW, frames_BTFhw[:, -1], self.appearance_stem),
        }
        for name in self.memories():
            memory_read: MemoryRead = getattr(predicted, name)
            height, width = (side * self.appearance_stem // self.query_stride[name] for side in frames_BTFhw.shape[-2:])
            found[f"{name}_distance"] = evidence.memory_distance(memory_read, named[name], height, width)
            found[f"updated_{name}"] = update(memory_read.query_BKD.flatten(0, 1), named[name])
        return found
