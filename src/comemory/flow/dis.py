"""Dense inverse search (DIS): the default flow estimator, a few milliseconds on one core."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.flow import FlowSettings, check_pair

MIN_SIDE = 32
"""Shorter sides are padded to this. For small images OpenCV chooses the depth of its pyramid by the longer side alone, and
reads outside of a narrow image: undefined values for 9 x 200, a crash for 20 x 200 (4.10 to 5.0)."""


class Preset(NamedTuple):
    """How thoroughly to search.

    Attributes:
        base: preset of OpenCV; it provides what is None below.
        finest_scale: number of halvings of the image at the end of the search.
        coarsest_scale: number of halvings at its beginning.
        iterations: gradient descent steps for each patch and scale.
        refinements: variational smoothing passes over the whole field.
    """

    base: int
    finest_scale: int | None = None
    coarsest_scale: int | None = None
    iterations: int | None = None
    refinements: int | None = None


PRESETS = {
    "ultrafast": Preset(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST),
    "medium": Preset(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
    "lean": Preset(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, finest_scale=0, coarsest_scale=2, iterations=4, refinements=0),
    "fine": Preset(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, finest_scale=0, coarsest_scale=2, iterations=4, refinements=1),
}
"""`fine` and `lean` search an image of the network's size down to single pixels; OpenCV's presets stop at coarser scales.
On 128x192 `fine` costs less than half of `medium` on 240x360, and measures the speed of a small walker as well."""


_local = threading.local()
MAX_ENGINES = 4
"""Number of OpenCV engines that each thread caches."""


class Dis:
    """Dense inverse search on grey images (Kroeger et al., ECCV 2016), as implemented by OpenCV.

    Source: thesis, Eq. (11): f(I[t-1], I[t]). Ours: the thesis leaves f open; this one needs no weights and no GPU.

    Each call starts from zero flow. Each thread has its own engines, because an engine has buffers. They are cached: making one
    for each call costs 5 % of it, mostly for memory.

    Args:
        settings: its `preset` is used.
    """

    name = "dis"

    def __init__(self, settings: FlowSettings) -> None:
        self._preset = PRESETS[settings.preset]

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Estimate the flow; see `types.FlowEstimator`. Images may have any size from one pixel on.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2), (dx, dy) in pixels.

        Raises:
            ConfigError: they are not two RGB images of one size.
        """
        check_pair(previous, current)
        height, width = previous.shape[:2]
        grey = _grey(previous)
        flow = self._engine(grey.shape).calc(grey, _grey(current), None)
        return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)

    def _engine(self, size: tuple[int, ...]) -> Any:
        """This thread's engine for one image size: an engine that was used on smaller images searches larger ones less deep."""
        engines: dict[tuple[Preset, tuple[int, ...]], Any] = _local.__dict__.setdefault("engines", {})
        key = (self._preset, size)
        engine = engines.pop(key, None) or self._make()
        engines[key] = engine
        if len(engines) > MAX_ENGINES:
            del engines[next(iter(engines))]
        return engine

    def _make(self) -> Any:
        preset = self._preset
        engine: Any = cv2.DISOpticalFlow.create(preset.base)
        if preset.finest_scale is not None:
            engine.setFinestScale(preset.finest_scale)
        if preset.coarsest_scale is not None:
            engine.setCoarsestScale(preset.coarsest_scale)
        if preset.iterations is not None:
            engine.setGradientDescentIterations(preset.iterations)
        if preset.refinements is not None:
            engine.setVariationalRefinementIterations(preset.refinements)
        return engine


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    bottom, right = max(0, MIN_SIDE - grey.shape[0]), max(0, MIN_SIDE - grey.shape[1])
    if bottom or right:
        grey = cv2.copyMakeBorder(grey, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(grey, dtype=np.uint8)
