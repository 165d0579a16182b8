"""Frames to clips: the only place where pixels become floats, for training, scoring, streaming and export alike.

Shape suffixes are those of `types.Clip`: T frames, C channels, H W pixels of the model's size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from comemory.clips.agitation import Restlessness
from comemory.clips.flow_filter import Carried, carry, fade, steady
from comemory.clips.static_gate import StaticFrameGate
from comemory.config_model import Settings
from comemory.types import Clip, FlowEstimator, Folding, Frame
from comemory.video.image_folder import DEFAULT_RATE_HZ
from comemory.video.resize import resize


class ClipSettings(Settings):
    """What a clip is made of.

    Attributes:
        height, width: of the model's picture, multiples of 8.
        channels: 1 for grey, 3 for colour.
        n_past: frames before the one to be predicted.
        flow_height, flow_width: of the picture on which the flow is estimated. Small motions drown in a coarse search:
            on 128x192 pictures of Ped2, a flow of the `medium` preset is worth 5 points of AUC less than on 240x360, one
            of the `fine` preset none.
        flow_of: `next` pairs the clip with the motion into the newest frame, which the motion branch has not seen;
            `seen` with the motion between the last two frames it has seen (the seed's Eq. 3).
        flow_carry: share of the running average that is carried along the flow itself; 0 takes each flow as it is.
        flow_steady: how many times its own swing is taken off the length of the carried flow; 0 takes nothing off. What is
            not carried has no swing.
        flow_first_swing: share of its own length that a flow without a history is taken to swing by: a first one, of a source or
            after a gap, and what comes in, see `flow_outside`. The swing of what moves in Ped2's training video is 0.29 of its
            speed (median; quartiles 0.19 and 0.43). With 0 the first frames that have a score are among the fastest tenth
            three times as often as the others, with 0.3 as often.
        flow_outside: what comes from outside of the picture begins `anew`, as a first flow does; or is given the average and the
            swing that the `border` had.
    """

    height: int = Field(128, ge=32, le=2048, multiple_of=8)
    width: int = Field(192, ge=32, le=2048, multiple_of=8)
    channels: Literal[1, 3] = 1
    n_past: int = Field(4, ge=2, le=32)
    flow_height: int = Field(128, ge=32, le=2048)
    flow_width: int = Field(192, ge=32, le=2048)
    flow_of: Literal["next", "seen"] = "next"
    flow_carry: float = Field(0.7, ge=0, lt=1)
    flow_steady: float = Field(0.7, ge=0, le=10)
    flow_first_swing: float = Field(0.3, ge=0, le=10)
    flow_outside: Literal["anew", "border"] = "anew"


ADDED: Mapping[str, float | str] = {"flow_steady": 0.0, "flow_first_swing": 0.0, "flow_outside": "border"}
"""Settings of clips that came later, each with the value that makes clips as they were before: what was written without
them was made with it."""


class Prepared(NamedTuple):
    """One frame as the model will see it, before pixels become floats.

    Attributes:
        picture: uint8 (C, H, W).
        flow: float16 (2, H, W), displacement from the frame before in pixels of the model's size.
        shown: float16 (S, h, w), a map for each of `types.SHOWN`.
    """

    picture: NDArray[np.uint8]
    flow: NDArray[np.float16]
    shown: NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One picture of a source beside the one before it: what is measured on it needs nothing else.

    Attributes:
        working: uint8 (H', W', 3), RGB, of the flow's size.
        previous: the working picture before it; None for a first one.
        small: uint8 (C, H, W), where it was needed already.
        still: nothing has moved: the flow is taken as zero.
        index, time_s: of the frame.
    """

    working: NDArray[np.uint8]
    previous: NDArray[np.uint8] | None
    small: NDArray[np.uint8] | None = None
    still: bool = False
    index: int = 0
    time_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What one look gave.

    Attributes:
        picture: uint8 (C, H, W).
        flow: float32 (H, W, 2), pixels of the model's size, not carried yet; None for a first picture.
        still, index, time_s: of the look.
    """

    picture: NDArray[np.uint8]
    flow: NDArray[np.float32] | None
    still: bool
    index: int
    time_s: float


class Preparation:
    """Frames of one source, in order, to prepared frames. Keeps the last picture and the carried flow.

    `push` does three steps. `look` and `settle` keep state and take the frames in order; `measure`, the costly one, keeps
    none, so that several threads may measure several frames.

    Args:
        rate_hz: frames per second; `DEFAULT_RATE_HZ` where nobody knows.
    """

    def __init__(self, settings: ClipSettings, estimator: FlowEstimator, rate_hz: float | None = None) -> None:
        self.settings = settings
        self.estimator = estimator
        self._restlessness = Restlessness(settings.height, settings.width, rate_hz or DEFAULT_RATE_HZ)
        self.reset()

    def reset(self) -> None:
        """Forget the source; the next frame is a first one."""
        self.forget_picture()
        self.forget_flow()

    def forget_picture(self) -> None:
        """What the next `look` sees is a first picture."""
        self._previous: NDArray[np.uint8] | None = None

    def forget_flow(self) -> None:
        """What `settle` takes next is not carried on."""
        self._carried: Carried | None = None
        self._restlessness.reset()

    def push(self, image: NDArray[np.uint8]) -> Prepared:
        """Prepare the next picture; the flow of a first picture is zero.

        Shapes:
            image: uint8 (H', W', 3), RGB, any size.
        """
        return self.settle(self.measure(self.look(image)))

    def look(self, image: NDArray[np.uint8]) -> Look:
        """Put the next picture beside the one before it."""
        spec = self.settings
        working = resize(image, (spec.flow_height, spec.flow_width))
        previous, self._previous = self._previous, working
        return Look(working, previous)

    def small(self, working: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The model's picture. Shapes: working uint8 (H', W', 3); returns uint8 (C, H, W)."""
        spec = self.settings
        picture = resize(working, (spec.height, spec.width))
        if spec.channels == 1:
            return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[None], dtype=np.uint8)
        return np.ascontiguousarray(picture.transpose(2, 0, 1))

    def measure(self, look: Look) -> Measured:
        """The costly part of a look: the model's picture and the flow."""
        picture = self.small(look.working) if look.small is None else look.small
        flow = None
        if look.previous is not None and not look.still:
            flow = self._flow(look.previous, look.working)
        return Measured(picture, flow, look.still, look.index, look.time_s)

    def settle(self, measured: Measured) -> Prepared:
        """Carry the flow on, and keep of it what the training is given."""
        flow = self.carry(measured)
        return Prepared(measured.picture, np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float16), self.shown)

    @property
    def shown(self) -> NDArray[np.float16]:
        """What the video shows up to what was carried last. Shapes: float16 (S, h, w), a new array."""
        return self._restlessness.shown()

    def carry(self, measured: Measured) -> NDArray[np.float32]:
        """Carry the flow on. Shapes: returns float32 (H, W, 2), pixels of the model's size."""
        spec, flow = self.settings, measured.flow
        if flow is None:
            self._carried = (
                None if self._carried is None or not measured.still else fade(self._carried, spec.flow_carry)
            )
        elif not spec.flow_carry:
            return flow
        else:
            anew = spec.flow_outside == "anew"
            self._carried = carry(self._carried, flow, spec.flow_carry, spec.flow_first_swing, anew=anew)
        self._restlessness.push(self._carried, measured.picture)
        if self._carried is None:
            return np.zeros((spec.height, spec.width, 2), np.float32)
        return steady(self._carried, spec.flow_steady) if spec.flow_steady else self._carried.mean

    def _flow(self, previous: NDArray[np.uint8], working: NDArray[np.uint8]) -> NDArray[np.float32]:
        spec = self.settings
        flow = self.estimator.estimate(previous, working)
        if (spec.flow_height, spec.flow_width) != (spec.height, spec.width):
            size = (spec.width, spec.height)
            flow = np.asarray(cv2.resize(flow, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
            flow *= np.array([spec.width / spec.flow_width, spec.height / spec.flow_height], np.float32)
        return flow


def to_floats(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels 0 to 255 to [-1, 1].

    >>> to_floats(np.array([0, 255], np.uint8))
    array([-1.,  1.], dtype=float32)
    """
    return pictures.astype(np.float32) / np.float32(127.5) - np.float32(1)


def as_kept(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """The flow as float16 keeps it for the training, rounded to it without going there: a third of the time.

    float32 has 13 bits of fraction more; half of the last kept bit, less one where that is 0, carries where it is to be
    rounded up. Numbers under float16's smallest normal are rounded to its steps by a sum that has no smaller ones.

    >>> as_kept(np.array([1 / 3], np.float32)) == np.array([1 / 3], np.float16)
    array([ True])
    """
    bits = flow.view(np.uint32)
    kept = bits >> np.uint32(13)
    kept &= np.uint32(1)
    kept += np.uint32(0xFFF)
    kept += bits
    kept &= np.uint32(0xFFFFE000)
    rounded = kept.view(np.float32)
    size = np.abs(flow)
    np.copyto(rounded, (flow + np.float32(0.75)) - np.float32(0.75), where=size < np.float32(2**-14))
    if size.max(initial=0) >= 65520:
        np.copyto(rounded, np.copysign(np.float32(np.inf), flow), where=size >= np.float32(65520))
    return rounded


class ClipBuilder:
    """Frames of one source, in order, to clips: None until enough consecutive frames are there.

    The steps of `push` are those of `Preparation`: `look` and `add` take the frames in order, `measure` keeps no state.

    Args:
        gate: tells still frames, whose flow is then taken as zero; None measures every frame.
        rate_hz: frames per second; `DEFAULT_RATE_HZ` where nobody knows.
    """

    def __init__(
        self,
        settings: ClipSettings,
        estimator: FlowEstimator,
        gate: StaticFrameGate | None = None,
        rate_hz: float | None = None,
    ) -> None:
        self.settings = settings
        self.preparation = Preparation(settings, estimator, rate_hz)
        self.gate = gate
        self.measure = self.preparation.measure
        self._pictures: deque[Folding] = deque(maxlen=settings.n_past + 1)
        self._motions: deque[Folding] = deque(maxlen=2)
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self.preparation.reset()
        self._pictures.clear()
        self._last_seen: int | None = None
        self._last_added: int | None = None
        if self.gate is not None:
            self.gate.reset()

    def push(self, frame: Frame) -> Clip | None:
        """The clip whose newest frame this is; None until `n_past` consecutive frames came before it."""
        return self.add(self.measure(self.look(frame)))

    def look(self, frame: Frame) -> Look:
        """Put the next frame beside the one before it, unless there is a gap between them."""
        if self._last_seen is not None and frame.index != self._last_seen + 1:
            self.preparation.forget_picture()
            if self.gate is not None:
                self.gate.reset()
        look = self.preparation.look(frame.image)
        self._last_seen = frame.index
        small, still = None, False
        if self.gate is not None:
            small = self.preparation.small(look.working)
            still = self.gate.is_still(small)
        return Look(look.working, look.previous, small, still, frame.index, frame.time_s)

    def add(self, measured: Measured) -> Clip | None:
        """Take what was measured on the next frame into the window; after a gap the window starts anew."""
        if self._last_added is None or measured.index != self._last_added + 1:
            self._pictures.clear()
            self.preparation.forget_flow()
            measured = replace(measured, flow=None)
        flow = as_kept(self.preparation.carry(measured))
        self._pictures.append(Folding(to_floats(measured.picture)))
        self._motions.append(Folding(flow.transpose(2, 0, 1)))
        self._last_added = measured.index
        if len(self._pictures) <= self.settings.n_past:
            return None
        motion = self._motions[-1 if self.settings.flow_of == "next" else -2]
        shown = self.preparation.shown.astype(np.float32)
        return Clip(list(self._pictures), motion, measured.index, measured.time_s, shown)


def assemble(window: list[Prepared], settings: ClipSettings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The arrays of a clip from its `n_past + 1` prepared frames.

    Shapes:
        returns: float32 (T + 1, C, H, W) in [-1, 1]; float32 (2, H, W), pixels.
    """
    flow = window[-1 if settings.flow_of == "next" else -2].flow
    return to_floats(np.stack([prepared.picture for prepared in window])), flow.astype(np.float32)
