"""Frames to clips: the only place where pixels become floats, for training, scoring, streaming and export alike.

Shape suffixes are those of `types.Clip`: T frames, C channels, H W pixels of the model's size.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from comemory.settings import Settings
from comemory.types import Clip, FlowEstimator, Frame
from comemory.video.resize import resize


class ClipSettings(Settings):
    """What a clip is made of.

    Attributes:
        height, width: of the model's picture, multiples of 8.
        channels: 1 for grey, 3 for colour.
        n_past: frames before the one to be predicted.
        flow_height, flow_width: of the picture on which the flow is estimated. Small motions drown when this is small:
            on Ped2 the flow of 128x192 pictures is worth 7 points of AUC less than that of 240x360.
        flow_of: `next` pairs the clip with the motion into the newest frame, which the motion branch has not seen;
            `seen` with the motion between the last two frames it has seen (the seed's Eq. 3).
        flow_carry: share of the running average that is carried along the flow itself; 0 takes each flow as it is.
    """

    height: int = Field(128, ge=32, le=2048, multiple_of=8)
    width: int = Field(192, ge=32, le=2048, multiple_of=8)
    channels: Literal[1, 3] = 1
    n_past: int = Field(4, ge=2, le=32)
    flow_height: int = Field(240, ge=32, le=2048)
    flow_width: int = Field(360, ge=32, le=2048)
    flow_of: Literal["next", "seen"] = "next"
    flow_carry: float = Field(0.7, ge=0, lt=1)


class Prepared(NamedTuple):
    """One frame as the model will see it, before pixels become floats.

    Attributes:
        picture: uint8 (C, H, W).
        flow: float16 (2, H, W), displacement from the frame before in pixels of the model's size.
    """

    picture: NDArray[np.uint8]
    flow: NDArray[np.float16]


class Preparation:
    """Frames of one source, in order, to prepared frames. Keeps the last picture and the carried flow."""

    def __init__(self, settings: ClipSettings, estimator: FlowEstimator) -> None:
        self.settings = settings
        self.estimator = estimator
        self.reset()

    def reset(self) -> None:
        """Forget the source; the next frame is a first one."""
        self._previous: NDArray[np.uint8] | None = None
        self._carried: NDArray[np.float32] | None = None

    def push(self, image: NDArray[np.uint8]) -> Prepared:
        """Prepare the next picture; the flow of a first picture is zero.

        Shapes:
            image: uint8 (H', W', 3), RGB, any size.
        """
        spec = self.settings
        working = resize(image, (spec.flow_height, spec.flow_width))
        small = resize(working, (spec.height, spec.width))
        picture = small if spec.channels == 3 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)[..., None]
        flow = self._flow(working).transpose(2, 0, 1)
        return Prepared(np.ascontiguousarray(picture.transpose(2, 0, 1)), np.ascontiguousarray(flow, dtype=np.float16))

    def _flow(self, working: NDArray[np.uint8]) -> NDArray[np.float32]:
        spec = self.settings
        previous, self._previous = self._previous, working
        if previous is None:
            return np.zeros((spec.height, spec.width, 2), np.float32)
        flow = np.asarray(
            cv2.resize(
                self.estimator.estimate(previous, working), (spec.width, spec.height), interpolation=cv2.INTER_AREA
            ),
            dtype=np.float32,
        )
        flow *= np.array([spec.width / spec.flow_width, spec.height / spec.flow_height], np.float32)
        if spec.flow_carry:
            flow = carry(self._carried, flow, spec.flow_carry)
            self._carried = flow
        return flow


def carry(carried: NDArray[np.float32] | None, flow: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Move the running average of the flow along the flow, then mix the flow in.

    Ours: A <- share * warp(A) + (1 - share) * F. A walker's legs swing and average out; what rolls goes on.

    Shapes:
        carried, flow: float32 (H, W, 2), pixels.
    """
    if carried is None:
        return flow
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(carried, x - flow[..., 0], y - flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(share * moved + (1 - share) * flow, dtype=np.float32)


def to_floats(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels 0 to 255 to [-1, 1].

    >>> to_floats(np.array([0, 255], np.uint8))
    array([-1.,  1.], dtype=float32)
    """
    return pictures.astype(np.float32) / np.float32(127.5) - np.float32(1)


class ClipBuilder:
    """Frames of one source, in order, to clips: None until enough consecutive frames are there."""

    def __init__(self, settings: ClipSettings, estimator: FlowEstimator) -> None:
        self.settings = settings
        self.preparation = Preparation(settings, estimator)
        self._window: deque[Prepared] = deque(maxlen=settings.n_past + 1)
        self._last_index: int | None = None

    def reset(self) -> None:
        """Forget the source."""
        self.preparation.reset()
        self._window.clear()
        self._last_index = None

    def push(self, frame: Frame) -> Clip | None:
        """The clip whose newest frame this is; None until `n_past` consecutive frames came before it."""
        if self._last_index is not None and frame.index != self._last_index + 1:
            self.reset()
        self._window.append(self.preparation.push(frame.image))
        self._last_index = frame.index
        if len(self._window) <= self.settings.n_past:
            return None
        frames, flow = assemble(list(self._window), self.settings)
        return Clip(frames, flow, frame.index, frame.time_s)


def assemble(window: list[Prepared], settings: ClipSettings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The arrays of a clip from its `n_past + 1` prepared frames.

    Shapes:
        returns: float32 (T + 1, C, H, W) in [-1, 1]; float32 (2, H, W), pixels.
    """
    flow = window[-1 if settings.flow_of == "next" else -2].flow
    return to_floats(np.stack([prepared.picture for prepared in window])), flow.astype(np.float32)
