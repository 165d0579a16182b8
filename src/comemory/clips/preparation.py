"""One frame after the other to the network's image and the filtered flow.

Shape suffixes: H W pixels of the network's image, H' W' of the image on which the flow is estimated, C channels, S input
maps, h w cells of `types.CELL` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.clips.agitation import Agitation
from comemory.clips.config import ClipSettings
from comemory.clips.flow_filter import FlowAverage, decay_average, shrink_vectors, update_average
from comemory.types import FlowEstimator
from comemory.video.image_folder import DEFAULT_RATE_HZ
from comemory.video.resize import resize


class PreparedFrame(NamedTuple):
    """One frame as a training stores it, before pixels become floats.

    Attributes:
        image: uint8 (C, H, W).
        flow: float16 (2, H, W), filtered displacement (dx, dy) from the frame before, in pixels of the network's image.
        input_maps: float16 (S, h, w), one map for each of `types.INPUT_MAPS`.
    """

    image: NDArray[np.uint8]
    flow: NDArray[np.float16]
    input_maps: NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class FramePair:
    """A frame and the one before it: all that its features depend on.

    Attributes:
        image: uint8 (H', W', 3), RGB, of the flow's size.
        previous: uint8 (H', W', 3), the image before it; None for the first frame and after a gap.
        model_image: uint8 (C, H, W), where it is known already.
        is_static: nothing has moved; no flow is estimated.
        index: of the frame.
        time_s: of the frame.
        flow_scale: factor on the flow, for frames that are not one training interval apart.
    """

    image: NDArray[np.uint8]
    previous: NDArray[np.uint8] | None
    model_image: NDArray[np.uint8] | None = None
    is_static: bool = False
    index: int = 0
    time_s: float = 0.0
    flow_scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class FrameFeatures:
    """What was computed from one pair of frames.

    Attributes:
        image: uint8 (C, H, W), the network's image.
        flow: float32 (H, W, 2), pixels of the network's image, not filtered yet; None without a frame before, or static.
        is_static: of the pair.
        index: of the frame.
        time_s: of the frame.
    """

    image: NDArray[np.uint8]
    flow: NDArray[np.float32] | None
    is_static: bool
    index: int
    time_s: float


class FramePreparer:
    """Prepares the frames of one source, in their order. Its state is the last image, the averaged flow and agitation.

    `prepare` has three steps. `pair` and `finish` have state and take the frames in order. `compute_features`, the
    expensive one, has none: several threads may compute the features of several frames.

    Args:
        settings: sizes and filter of the flow.
        estimator: of the flow.
        rate_hz: frames per second; `DEFAULT_RATE_HZ` where it is not known.
    """

    def __init__(self, settings: ClipSettings, estimator: FlowEstimator, rate_hz: float | None = None) -> None:
        self.settings = settings
        self.estimator = estimator
        self._agitation = Agitation(settings.height, settings.width, rate_hz or DEFAULT_RATE_HZ)
        self.reset()

    def reset(self) -> None:
        """Forget the source: the next frame is the first of another one."""
        self.reset_image()
        self.reset_flow()

    def reset_image(self) -> None:
        """Let the next `pair` have no frame before it."""
        self._previous: NDArray[np.uint8] | None = None

    def reset_flow(self) -> None:
        """Let the next `finish` or `filter_flow` start a new average."""
        self._average: FlowAverage | None = None
        self._agitation.reset()

    def prepare(self, image: NDArray[np.uint8], flow_scale: float = 1.0) -> PreparedFrame:
        """Prepare the next frame. The flow of the first one is zero.

        Args:
            image: of the next frame.
            flow_scale: factor on its flow, see `FramePair`.

        Shapes:
            image: uint8 (any height, any width, 3), RGB.
        """
        return self.finish(self.compute_features(replace(self.pair(image), flow_scale=flow_scale)))

    def pair(self, image: NDArray[np.uint8]) -> FramePair:
        """Resize the next frame for the flow, and pair it with the one before."""
        spec = self.settings
        resized = resize(image, (spec.flow_height, spec.flow_width))
        previous, self._previous = self._previous, resized
        return FramePair(resized, previous)

    def model_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an image to the network's size and channels. Shapes: uint8 (H', W', 3) to uint8 (C, H, W)."""
        spec = self.settings
        resized = resize(image, (spec.height, spec.width))
        if spec.channels == 1:
            return np.asarray(cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)[None], dtype=np.uint8)
        return np.ascontiguousarray(resized.transpose(2, 0, 1))

    def compute_features(self, pair: FramePair) -> FrameFeatures:
        """Compute the network's image and the flow of a pair. Has no state."""
        image = self.model_image(pair.image) if pair.model_image is None else pair.model_image
        flow = None
        if pair.previous is not None and not pair.is_static:
            flow = self._estimate(pair.previous, pair.image, pair.flow_scale)
        return FrameFeatures(image, flow, pair.is_static, pair.index, pair.time_s)

    def finish(self, features: FrameFeatures) -> PreparedFrame:
        """Filter the flow of the next frame, and pack the frame for a training."""
        flow = self.filter_flow(features)
        packed = np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float16)
        return PreparedFrame(features.image, packed, self.input_maps)

    @property
    def input_maps(self) -> NDArray[np.float16]:
        """The input maps up to the newest frame whose flow was filtered. Shapes: float16 (S, h, w), a new array."""
        return self._agitation.input_maps()

    def filter_flow(self, features: FrameFeatures) -> NDArray[np.float32]:
        """Filter the flow of the next frame. Shapes: returns float32 (H, W, 2), pixels of the network's image."""
        spec, flow = self.settings, features.flow
        if flow is not None and not spec.flow_ema_decay:
            return flow
        self._average = self._updated_average(flow, is_static=features.is_static)
        self._agitation.update(self._average, features.image)
        if self._average is None:
            return np.zeros((spec.height, spec.width, 2), np.float32)
        return shrink_vectors(self._average, spec.flow_shrinkage) if spec.flow_shrinkage else self._average.mean

    def _updated_average(self, flow: NDArray[np.float32] | None, *, is_static: bool) -> FlowAverage | None:
        spec = self.settings
        if flow is not None:
            return update_average(self._average, flow, spec.flow_ema_decay, spec.flow_initial_deviation)
        if self._average is None or not is_static:
            return None
        return decay_average(self._average, spec.flow_ema_decay)

    def _estimate(
        self, previous: NDArray[np.uint8], image: NDArray[np.uint8], flow_scale: float
    ) -> NDArray[np.float32]:
        """Estimate the flow and bring it to the network's size: its vectors shrink with the image."""
        spec = self.settings
        flow = self.estimator.estimate(previous, image)
        if flow_scale != 1.0:
            flow = flow * np.float32(flow_scale)
        if (spec.flow_height, spec.flow_width) != (spec.height, spec.width):
            size = (spec.width, spec.height)
            flow = np.asarray(cv2.resize(flow, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
            flow *= np.array([spec.width / spec.flow_width, spec.height / spec.flow_height], np.float32)
        return flow
