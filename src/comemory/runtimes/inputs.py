"""The arrays that a network's graph takes for a clip."""

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
    """The space-to-depth layout in which a graph takes its clips; see `types.PixelArray`.

    Ours: a network with a stem starts with space-to-depth. A runtime would spend a tenth of the network's time on it, for
    every frame of every clip; here it is done once for each frame.
    """

    frames: BlockSize = Field(
        1, description="Side of the blocks of the input `frames` in pixels; 1 leaves them as they are."
    )
    flow: BlockSize = Field(1, description="Side of the blocks of the input `flow` in pixels.")
    seen: BlockSize | None = Field(
        None,
        description="Side of the blocks of the input `seen`, the newest past frames once more; None without that input.",
    )
    n_seen: int = Field(0, ge=0, le=32, description="Number of frames in the input `seen`.")

    @model_validator(mode="after")
    def _require_both_or_none(self) -> InputLayout:
        if (self.seen is None) != (self.n_seen == 0):
            raise ValueError(
                f"`seen` needs `n_seen`, and the other way round: got seen={self.seen}, n_seen={self.n_seen}"
            )
        return self

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs in the graph's order; the memory items follow them."""
        return ("frames", "flow") if self.seen is None else ("frames", "flow", "seen")

    def build_inputs(self, clip: Clip) -> dict[str, NDArray[np.float32]]:
        """The clip as a batch of one, by input name.

        Shapes:
            frames: (1, T + 1, C frames**2, H / frames, W / frames).
            flow: (1, 2 flow**2, H / flow, W / flow).
            seen: (1, n_seen, C seen**2, H / seen, W / seen).
        """
        inputs = {
            "frames": np.stack([image.space_to_depth(self.frames) for image in clip.images])[None],
            "flow": clip.motion.space_to_depth(self.flow)[None],
        }
        if self.seen is not None:
            past = clip.images[-1 - self.n_seen : -1]
            inputs["seen"] = np.stack([image.space_to_depth(self.seen) for image in past])[None]
        return inputs
