"""From uint8 pixels and float16 flow to the floats that a network takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from comemory.clips.config import ClipSettings
from comemory.clips.preparation import PreparedFrame


def to_floats(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale grey levels from [0, 255] to [-1, 1]. Shapes: any.

    >>> to_floats(np.array([0, 255], np.uint8))
    array([-1.,  1.], dtype=float32)
    """
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def round_to_float16(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest float16, as float32: a detector then sees the flow as the training stored it.

    The result equals `flow.astype(np.float16).astype(np.float32)` and takes a third of the time. Shapes: any.

    >>> round_to_float16(np.array([1 / 3], np.float32)) == np.array([1 / 3], np.float16)
    array([ True])
    """
    # A float32 has 13 more bits of fraction. Adding half of the last bit that stays (less one where that bit is 0: round
    # half to even) carries into it where it has to be rounded up; then the 13 bits are cleared.
    bits = flow.view(np.uint32)
    rounded_bits = bits >> np.uint32(13)
    rounded_bits &= np.uint32(1)
    rounded_bits += np.uint32(0xFFF)
    rounded_bits += bits
    rounded_bits &= np.uint32(0xFFFFE000)
    rounded = rounded_bits.view(np.float32)
    size = np.abs(flow)
    # Below float16's smallest normal number its steps are constant. Floats near 0.75 have just these steps.
    np.copyto(rounded, (flow + np.float32(0.75)) - np.float32(0.75), where=size < np.float32(2**-14))
    if size.max(initial=0) >= 65520:  # rounds to infinity
        np.copyto(rounded, np.copysign(np.float32(np.inf), flow), where=size >= np.float32(65520))
    return rounded


def assemble_clip(
    window: list[PreparedFrame], settings: ClipSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The frames and the flow of a clip from its `n_past + 1` prepared frames.

    Shapes:
        returns: float32 (T + 1, C, H, W) in [-1, 1]; float32 (2, H, W), pixels.
    """
    flow = window[-1 if settings.flow_of == "next" else -2].flow
    return to_floats(np.stack([prepared.image for prepared in window])), flow.astype(np.float32)
