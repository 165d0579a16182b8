"""Frames of one source to clips, for training, scoring, streaming and export alike."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from comemory.clips.config import ClipSettings
from comemory.clips.layout import round_to_float16, to_floats
from comemory.clips.preparation import FrameFeatures, FramePair, FramePreparer
from comemory.clips.static_gate import StaticFrameGate
from comemory.types import Clip, FlowEstimator, Frame, PixelArray


class ClipBuilder:
    """Builds the clips of one source from its frames, in their order.

    `add_frame` has the three steps of `FramePreparer`: `pair` and `append` take the frames in order, `compute_features`
    has no state, so that several threads may run it.

    Args:
        settings: what a clip is made of.
        estimator: of the flow.
        gate: detects static frames, for which no flow is estimated; None estimates every flow.
        rate_hz: frames per second; `DEFAULT_RATE_HZ` where it is not known.
    """

    def __init__(
        self,
        settings: ClipSettings,
        estimator: FlowEstimator,
        gate: StaticFrameGate | None = None,
        rate_hz: float | None = None,
    ) -> None:
        self.settings = settings
        self.preparer = FramePreparer(settings, estimator, rate_hz)
        self.gate = gate
        self.compute_features = self.preparer.compute_features
        self._images: deque[PixelArray] = deque(maxlen=settings.n_past + 1)
        self._flows: deque[PixelArray] = deque(maxlen=2)
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self.preparer.reset()
        self._images.clear()
        self._last_paired: int | None = None
        self._last_appended: int | None = None
        if self.gate is not None:
            self.gate.reset()

    def add_frame(self, frame: Frame) -> Clip | None:
        """Add the next frame. Returns the clip that it completes; None until `n_past` consecutive frames came before it."""
        return self.append(self.compute_features(self.pair(frame)))

    def pair(self, frame: Frame, flow_scale: float = 1.0) -> FramePair:
        """Pair the next frame with the one before it; after a gap in the index it has none.

        Args:
            frame: the next one.
            flow_scale: factor on the flow of this pair, for frames that are not one training interval apart.
        """
        if self._last_paired is not None and frame.index != self._last_paired + 1:
            self.preparer.reset_image()
            if self.gate is not None:
                self.gate.reset()
        pair = self.preparer.pair(frame.image)
        self._last_paired = frame.index
        model_image, is_static = None, False
        if self.gate is not None:
            model_image = self.preparer.model_image(pair.image)
            is_static = self.gate.update(model_image)
        return FramePair(pair.image, pair.previous, model_image, is_static, frame.index, frame.time_s, flow_scale)

    def append(self, features: FrameFeatures) -> Clip | None:
        """Append the features of the next frame to the window; after a gap a new window starts. See `add_frame`."""
        if self._last_appended is None or features.index != self._last_appended + 1:
            self._images.clear()
            self.preparer.reset_flow()
            features = replace(features, flow=None)
        flow = round_to_float16(self.preparer.filter_flow(features))
        self._images.append(PixelArray(to_floats(features.image)))
        self._flows.append(PixelArray(flow.transpose(2, 0, 1)))
        self._last_appended = features.index
        if len(self._images) <= self.settings.n_past:
            return None
        motion = self._flows[-1 if self.settings.flow_of == "next" else -2]
        input_maps = self.preparer.input_maps.astype(np.float32)
        return Clip(list(self._images), motion, features.index, features.time_s, input_maps)
