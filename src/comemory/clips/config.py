"""What a clip is made of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from comemory.config import Settings


class ClipSettings(Settings):
    """What a clip is made of: its size, its length and its optical flow."""

    height: int = Field(
        128,
        ge=32,
        le=2048,
        multiple_of=8,
        title="Image height",
        description="Height of the network's image in pixels, a multiple of 8.",
    )
    width: int = Field(
        192,
        ge=32,
        le=2048,
        multiple_of=8,
        title="Image width",
        description="Width of the network's image in pixels, a multiple of 8.",
    )
    channels: Literal[1, 3] = Field(1, title="Colour channels", description="1 for grey, 3 for colour.")
    n_past: int = Field(
        4, ge=2, le=32, title="Past frames", description="Number of frames before the one that is predicted."
    )
    flow_height: int = Field(
        128,
        ge=32,
        le=2048,
        title="Flow height",
        description="Height in pixels of the image on which the flow is estimated.",
    )
    # A coarse search loses small motions: on 128x192 images of Ped2 the flow preset `medium` costs 5 points of AUC
    # against 240x360; `fine` costs none.
    flow_width: int = Field(
        192,
        ge=32,
        le=2048,
        title="Flow width",
        description="Width in pixels of the image on which the flow is estimated.",
    )
    flow_of: Literal["next", "seen"] = Field(
        "next",
        title="Flow pair",
        description="Which flow belongs to a clip. `next`: the motion into the newest frame, which the motion branch has not "
        "seen. `seen`: the motion between the last two frames that it has seen (Eq. 3 of the thesis).",
    )
    flow_ema_decay: float = Field(
        0.7,
        ge=0,
        lt=1,
        title="Flow EMA decay",
        description="Weight of the past in the motion-compensated moving average (EMA) of the flow. 0 uses every flow as it is.",
    )
    flow_shrinkage: float = Field(
        0.7,
        ge=0,
        le=10,
        title="Flow shrinkage",
        description="Each vector of the averaged flow is shortened by this many times its mean absolute deviation, which "
        "suppresses swinging limbs. 0 shortens nothing. Without an average there is no deviation.",
    )
    # The deviation of what moves in Ped2's training video is 0.29 of its speed (median; quartiles 0.19 and 0.43). With 0,
    # the first scored frames are among the fastest tenth three times as often as the others; with 0.3, as often.
    flow_initial_deviation: float = Field(
        0.3,
        ge=0,
        le=10,
        title="Initial flow deviation",
        description="Deviation of a flow that has no history yet, as a share of its length: at the start of a source, after a "
        "gap, and where something enters the image.",
    )
