"""Dense inverse search: the default flow, a few milliseconds on one core."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.flow import FlowSettings, check_pair

SMALLEST = 32
"""Shorter sides are padded to this. OpenCV chooses the depth of its pyramid by the longer side alone where a picture is
small, and then reads outside of a narrow one: undefined values for 9 x 200, a crash for 20 x 200 (4.10 to 5.0)."""


class Preset(NamedTuple):
    """How hard to search.

    Attributes:
        base: OpenCV's preset; what is None below is its.
        finest_scale, coarsest_scale: halvings of the picture at the end and at the beginning of the search.
        iterations: gradient descents for each patch and scale.
        refinements: passes of smoothing over the whole field.
    """

    base: int
    finest_scale: int | None = None
    coarsest_scale: int | None = None
    iterations: int | None = None
    refinements: int | None = None


PRESETS = {
    "ultrafast": Preset(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST),
    "fast": Preset(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    "medium": Preset(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
    "lean": Preset(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, finest_scale=0, coarsest_scale=2, iterations=4, refinements=0),
    "fine": Preset(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, finest_scale=0, coarsest_scale=2, iterations=4, refinements=1),
}
"""`fine` searches a small picture, one of the model's own size, down to its pixels, where the others stop short: on
128x192 it costs under half of `medium` on 240x360, and a small walker's speed is as well told."""


_local = threading.local()
N_KEPT = 4
"""Engines that a thread keeps, those used last."""


class Dis:
    """Dense inverse search on grey pictures (Kroeger et al., ECCV 2016), as OpenCV has it.

    Source: seed, Eq. (11): f(I[t-1], I[t]). Ours: the seed leaves f open; this one needs no weights and no GPU.

    Every call starts from zero flow. Each thread has engines of its own, so that threads do not meet in their buffers;
    making one for every call costs a twentieth of it, most of that in fresh memory.
    """

    name = "dis"

    def __init__(self, settings: FlowSettings) -> None:
        self._preset = PRESETS[settings.preset]

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Displacement of every pixel of `previous` on its way to `current`; any size from one pixel on.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2), (dx, dy) in pixels.

        Raises:
            ConfigError: not two RGB pictures of one size.
        """
        check_pair(previous, current)
        height, width = previous.shape[:2]
        grey = _grey(previous)
        flow = self._engine(grey.shape).calc(grey, _grey(current), None)
        return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)

    def _engine(self, size: tuple[int, ...]) -> Any:
        """This thread's for pictures of a size: one that has seen smaller ones searches larger ones less deep."""
        engines: dict[tuple[Preset, tuple[int, ...]], Any] = _local.__dict__.setdefault("engines", {})
        key = (self._preset, size)
        engine = engines.pop(key, None) or self._made()
        engines[key] = engine
        if len(engines) > N_KEPT:
            del engines[next(iter(engines))]
        return engine

    def _made(self) -> Any:
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
    bottom, right = max(0, SMALLEST - grey.shape[0]), max(0, SMALLEST - grey.shape[1])
    if bottom or right:
        grey = cv2.copyMakeBorder(grey, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(grey, dtype=np.uint8)
