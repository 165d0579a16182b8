"""The Appearance-Motion Co-memory Network.

Shape suffixes: B batch, T frames, C channels, H W pixels, F channels of a folded map, h w places of the query map,
K = h w queries, D feature width, N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from . import evidence, losses
from .layers import LEVELS, Decoder, Encoder
from .memory import Memory, Reading, update
from .motion_encoders import MOTION_ENCODERS


class Explanation(NamedTuple):
    """What the network makes of the past frames.

    Shapes:
        flow_B2HW: the motion that the memory of normal motion explains, pixels.
        frame_BCHW: the predicted next frame, in [-1, 1].
        motion, appearance: the readings, or the bare queries where that memory is off.
    """

    flow_B2HW: Tensor
    frame_BCHW: Tensor
    motion: Reading | None
    appearance: Reading | None


class CoMemory(nn.Module):
    """Both branches. Source: seed, Eq. (1) to (5).

    Args:
        channels: 1 for grey, 3 for colour.
        n_past: frames that the appearance branch sees; what the motion branch sees of them is `motion_encoder`'s choice.
        stem: side in pixels of the squares that enter the encoders, and leave the decoders, as one place: 2 makes
            everything between four times cheaper. Deviation when not 1: the seed's first level is at full resolution.
        base_width: feature channels of the first level of the encoders and decoders; queries are 8 times as wide.
        motion_encoder: `pair` sees the last two past frames (Eq. 1); `recurrent` all of them, pair by pair; `volume` all
            of them by convolutions over time. Deviation when not `pair`.
        motion_width: `base_width` of the motion encoder where it is to be another one; None takes that of the rest.
        appearance_stem: `stem` of the appearance branch where it is to be another one, a multiple of it: a frame can be
            predicted from a coarser view than a flow. The motion features are averaged to its places before they join.
        appearance_width: `base_width` of the appearance branch where it is to be another one.
        appearance_levels: of its U-Net; 3 with twice the stem has the same places at the bottom and no costly first level.
        motion_items, appearance_items: items of each memory; 0 switches that memory off.
        motion_skips, appearance_skips: levels (0, 1, 2) at which the decoder also sees the encoder.
        motion_decodes: `both` decodes the query beside what was read (Eq. 2); `read` decodes only what was read, so
            that nothing can by-pass the memory. Deviation when `read`.
        appearance_decodes: likewise (Eq. 4).
        appearance_predicts: `frame` is decoded whole; `change` is added to the newest past frame, so that what stands still
            needs no features. Deviation when `change`.
        motion_temperature, appearance_temperature: of the reads; 1 is the seed's.
        unit_queries: a branch whose memory is off goes on with queries of length 1, as one with a memory does; without, with
            those of the encoder as they are. So that what a memory is worth can be told from what that length is worth.
        momentum: of the updates; None is the seed's.
        margin: alpha of Eq. (14).
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        n_past: int = 4,
        stem: int = 1,
        base_width: int = 64,
        motion_encoder: str = "pair",
        motion_width: int | None = None,
        appearance_stem: int | None = None,
        appearance_width: int | None = None,
        appearance_levels: int = LEVELS,
        motion_items: int = 10,
        appearance_items: int = 10,
        motion_skips: Sequence[int] = (),
        appearance_skips: Sequence[int] = (0, 1, 2),
        motion_decodes: str = "both",
        appearance_decodes: str = "both",
        appearance_predicts: str = "frame",
        motion_temperature: float = 1.0,
        appearance_temperature: float = 1.0,
        unit_queries: bool = False,
        momentum: float | None = None,
        margin: float = 1.0,
    ) -> None:
        super().__init__()
        if n_past < 2:
            raise ValueError(f"the motion branch needs two past frames, got n_past={n_past}")
        if appearance_predicts not in ("frame", "change"):
            raise ValueError(f"a frame is predicted as 'frame' or 'change', got {appearance_predicts!r}")
        if motion_encoder not in MOTION_ENCODERS:
            raise ValueError(f"a motion encoder is one of {', '.join(MOTION_ENCODERS)}, got {motion_encoder!r}")
        self.margin, self.stem = margin, stem
        self.appearance_stem = stem if appearance_stem is None else appearance_stem
        self.motion_decodes, self.appearance_decodes = motion_decodes, appearance_decodes
        self.appearance_predicts, self.unit_queries = appearance_predicts, unit_queries
        self.place = _places(stem, self.appearance_stem, appearance_levels)
        motion_base = base_width if motion_width is None else motion_width
        appearance_base = base_width if appearance_width is None else appearance_width
        folded = channels * self.appearance_stem**2
        self.motion_encoder = MOTION_ENCODERS[motion_encoder](channels * stem**2, n_past, motion_base)
        self.appearance_encoder = Encoder(n_past * folded, appearance_base, appearance_levels)
        d_m, d_a = self.motion_encoder.width, self.appearance_encoder.width
        self.motion_memory = Memory(motion_items, d_m, motion_temperature, momentum) if motion_items else None
        self.appearance_memory = (
            Memory(appearance_items, d_a, appearance_temperature, momentum) if appearance_items else None
        )
        joined_m = d_m * self._joined(self.motion_memory, motion_decodes)
        joined_a = d_a * self._joined(self.appearance_memory, appearance_decodes)
        self.motion_decoder = Decoder(joined_m, base_width, 2 * stem**2, motion_skips, motion_base)
        self.appearance_decoder = Decoder(
            joined_a + joined_m, appearance_base, folded, appearance_skips, levels=appearance_levels
        )

    @property
    def squares(self) -> dict[str, int | None]:
        """In what squares `observe_squares` takes a clip: sides, and how many frames are `seen` again in finer ones."""
        finer = self.appearance_stem != self.stem
        return {
            "frames": self.appearance_stem,
            "flow": self.stem,
            "seen": self.stem if finer else None,
            "n_seen": self.motion_encoder.n_seen if finer else 0,
        }

    @staticmethod
    def _joined(memory: Memory | None, decodes: str) -> int:
        if decodes not in ("both", "read"):
            raise ValueError(f"a decoder decodes 'both' or 'read', got {decodes!r}")
        return 2 if memory is not None and decodes == "both" else 1

    def memories(self) -> dict[str, Memory]:
        """The memories that are on, by name."""
        pairs = (("motion", self.motion_memory), ("appearance", self.appearance_memory))
        return {name: memory for name, memory in pairs if memory is not None}

    def forward(self, past_BTCHW: Tensor, items: Mapping[str, Tensor] | None = None) -> Explanation:
        """Explain the flow and predict the next frame.

        Shapes:
            past_BTCHW: float (B, n_past, C, H, W) in [-1, 1], H and W multiples of 8 times the larger stem.
            items: (N, D) by memory name, in place of the stored ones.
        """
        coarse_BTFhw = nnf.pixel_unshuffle(past_BTCHW, self.appearance_stem)
        folded = self._explain(self._fine(past_BTCHW, coarse_BTFhw), coarse_BTFhw, items or {})
        return folded._replace(
            flow_B2HW=nnf.pixel_shuffle(folded.flow_B2HW, self.stem),
            frame_BCHW=nnf.pixel_shuffle(folded.frame_BCHW, self.appearance_stem),
        )

    def _fine(self, past_BTCHW: Tensor, coarse_BTFhw: Tensor) -> Tensor:
        """The frames that the motion branch sees, folded by its stem. Folding moves every pixel: what is folded is kept."""
        if self.appearance_stem == self.stem:
            return coarse_BTFhw
        return nnf.pixel_unshuffle(past_BTCHW[:, -self.motion_encoder.n_seen :], self.stem)

    def _explain(self, fine_BTFhw: Tensor, coarse_BTFhw: Tensor, items: Mapping[str, Tensor]) -> Explanation:
        """What `forward` gives of the past as either branch sees it; flow and frame are folded still."""
        motion_features = self.motion_encoder(fine_BTFhw)
        f_m, motion = self._remember("motion", motion_features[-1], items)
        flow_BFhw = self.motion_decoder(f_m, motion_features)
        features = self.appearance_encoder(coarse_BTFhw.flatten(1, 2))
        f_a, appearance = self._remember("appearance", features[-1], items)
        if self.place["appearance"] != self.place["motion"]:
            f_m = nnf.avg_pool2d(f_m, self.place["appearance"] // self.place["motion"])
        decoded = self.appearance_decoder(torch.cat([f_a, f_m], dim=1), features)
        frame_BFhw = torch.tanh(decoded)
        if self.appearance_predicts == "change":
            frame_BFhw = coarse_BTFhw[:, -1] + frame_BFhw
        return Explanation(flow_BFhw, frame_BFhw, motion, appearance)

    def _remember(self, branch: str, query_BDHW: Tensor, items: Mapping[str, Tensor]) -> tuple[Tensor, Reading | None]:
        """What the decoders of a branch see of its queries, and the reading of its memory."""
        memory: Memory | None = getattr(self, f"{branch}_memory")
        if memory is None:
            return nnf.normalize(query_BDHW, dim=1) if self.unit_queries else query_BDHW, None
        reading = memory(query_BDHW, items.get(branch))
        read_BDHW = reading.read_BKD.transpose(1, 2).reshape(query_BDHW.shape)
        if getattr(self, f"{branch}_decodes") == "read":
            return read_BDHW, reading
        query_BDHW = reading.query_BKD.transpose(1, 2).reshape(query_BDHW.shape)
        return torch.cat([query_BDHW, read_BDHW], dim=1), reading

    def loss(
        self, frames_BTCHW: Tensor, flow_B2HW: Tensor, weights: Mapping[str, float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its terms by name; in training mode the memories learn from the step's queries."""
        explained = self(frames_BTCHW[:, :-1])
        parts = {
            "flow": losses.flow_loss(explained.flow_B2HW, flow_B2HW),
            "prediction": losses.prediction_loss(explained.frame_BCHW, frames_BTCHW[:, -1]),
        }
        for name, memory in self.memories().items():
            reading: Reading = getattr(explained, name)
            items_ND = memory.items.clone()
            parts[f"{name}_compactness"] = losses.compactness_loss(reading, items_ND)
            parts[f"{name}_separateness"] = losses.separateness_loss(reading, items_ND, self.margin)
            if self.training:
                memory.learn(reading.query_BKD)
        return losses.total_loss(parts, weights), parts

    def observe(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """The evidence of clips, and the items as an update with these clips would leave them.

        Shapes:
            frames_BTCHW: float (B, n_past + 1, C, H, W); the last frame is the one that was predicted.
            flow_B2HW: float, pixels.
            items: one (N, D) for each of `memories()`.
            returns: maps (B, 1 or 2, h, w) by name; `updated_<memory>` (N, D).
        """
        frames_BTFhw = nnf.pixel_unshuffle(frames_BTCHW, self.appearance_stem)
        seen = [self._fine(frames_BTCHW[:, :-1], frames_BTFhw)] if self.appearance_stem != self.stem else []
        return self.observe_squares(frames_BTFhw, nnf.pixel_unshuffle(flow_B2HW, self.stem), *seen, *items)

    def observe_squares(self, frames_BTFhw: Tensor, flow_BFhw: Tensor, *others: Tensor) -> dict[str, Tensor]:
        """`observe` of clips that are folded into `squares` already.

        Shapes:
            frames_BTFhw: float (B, n_past + 1, C s**2, H / s, W / s), s that of the appearance branch.
            flow_BFhw: float (B, 2 s**2, H / s, W / s), s that of the motion branch.
            others: where the two differ, the last past frames as the motion branch sees them; then the items.
        """
        coarse_BTFhw = frames_BTFhw[:, :-1]
        fine_BTFhw, *items = others if self.appearance_stem != self.stem else (coarse_BTFhw, *others)
        named = dict(zip(self.memories(), items, strict=True))
        explained = self._explain(fine_BTFhw, coarse_BTFhw, named)
        observed = {
            "flow_error": evidence.flow_error(explained.flow_B2HW, flow_BFhw, self.stem),
            "flow_residual": evidence.flow_residual(explained.flow_B2HW, flow_BFhw, self.stem),
            "flow_mean": evidence.cells(flow_BFhw, self.stem),
            "frame_error": evidence.frame_error(explained.frame_BCHW, frames_BTFhw[:, -1], self.appearance_stem),
        }
        for name, memory in self.memories().items():
            reading: Reading = getattr(explained, name)
            height, width = (side * self.appearance_stem // self.place[name] for side in frames_BTFhw.shape[-2:])
            observed[f"{name}_distance"] = evidence.memory_distance(reading, named[name], height, width)
            observed[f"updated_{name}"] = update(reading.query_BKD.flatten(0, 1), named[name], memory.momentum)
        return observed


def _places(stem: int, appearance_stem: int, appearance_levels: int) -> dict[str, int]:
    """Side in pixels of what one query of either branch stands for."""
    if stem < 1:
        raise ValueError(f"the stem is 1 pixel or more, got stem={stem}")
    if appearance_stem < stem or appearance_stem % stem:
        raise ValueError(f"the appearance stem is a multiple of stem={stem}, got {appearance_stem}")
    places = {"motion": 2 ** (LEVELS - 1) * stem, "appearance": 2 ** (appearance_levels - 1) * appearance_stem}
    if places["appearance"] % places["motion"]:
        raise ValueError(f"the places of the appearance branch are made of those of motion, got {places}")
    return places
