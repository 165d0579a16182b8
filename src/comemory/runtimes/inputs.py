"""What a network is given of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.config import Settings
from comemory.types import Clip

BlockSize = Literal[1, 2, 4]


class InputLayout(Settings):
    """In what squares of pixels a graph takes its clips; see `types.Folding`.

    Ours: a network with a stem folds its pictures before anything else. Left to the runtimes that takes a tenth of
    the network's time, for every frame of every clip; here each frame is folded once.

    Attributes:
        frames, flow: side of their squares in pixels; 1 is as they are.
        seen: side of those in which the last `n_seen` past frames are given once more; None where they are not.
    """

    frames: BlockSize = 1
    flow: BlockSize = 1
    seen: BlockSize | None = None
    n_seen: int = Field(0, ge=0, le=32)

    @model_validator(mode="after")
    def _seen_or_not(self) -> InputLayout:
        if (self.seen is None) != (self.n_seen == 0):
            raise ValueError(
                f"frames are seen again in squares or not at all, got seen={self.seen}, n_seen={self.n_seen}"
            )
        return self

    @property
    def input_names(self) -> Sequence[str]:
        """Of the inputs, in the graph's order; the memory items follow."""
        return ("frames", "flow") if self.seen is None else ("frames", "flow", "seen")

    def build_inputs(self, clip: Clip) -> dict[str, NDArray[np.float32]]:
        """The clip as a batch of one, by name.

        Shapes:
            frames: (1, T + 1, C frames**2, H / frames, W / frames). flow: (1, 2 flow**2, H / flow, W / flow).
            seen: (1, n_seen, C seen**2, H / seen, W / seen).
        """
        given = {
            "frames": np.stack([picture.space_to_depth(self.frames) for picture in clip.images])[None],
            "flow": clip.motion.space_to_depth(self.flow)[None],
        }
        if self.seen is not None:
            past = clip.images[-1 - self.n_seen : -1]
            given["seen"] = np.stack([picture.space_to_depth(self.seen) for picture in past])[None]
        return given
