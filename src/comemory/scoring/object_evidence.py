"""The evidence of moving objects: maps that say how fast each falls and how far it is from all normal ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError
from comemory.scoring.channels import patch_map
from comemory.scoring.directional import N_DIRECTIONS, directional_speed
from comemory.scoring.normal_objects import NormalObjects, object_features
from comemory.scoring.objects import EmptyScene, MovingObject, ObjectTracker
from comemory.types import CELL, Box

PATCH_CHANNELS = ("directional_speed:8", "agitation:12")
"""The channels whose largest patch inside an object is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class NormalScene:
    """What normal video shows of a camera's scene and of the objects in it; it is part of the bundle.

    Attributes:
        scene: background and heights.
        levels: float32 (D, h), the normal top speed in each direction and row, see `directional`.
        objects: the memory of normal objects; None while it is fitted.
    """

    scene: EmptyScene
    levels: NDArray[np.float32]
    objects: NormalObjects | None = None

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """The arrays that a bundle stores."""
        objects = {} if self.objects is None else self.objects.to_arrays()
        return {**self.scene.to_arrays(), "directional_levels": self.levels, **objects}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]]) -> NormalScene:
        """The memory from the arrays of a bundle. Raises ConfigError: an array is missing or damaged."""
        scene, objects = EmptyScene.from_arrays(arrays), NormalObjects.from_arrays(arrays)
        return cls(scene, check_levels(arrays.get("directional_levels"), len(scene.background)), objects)


def check_levels(levels: NDArray[np.float32] | None, image_height: int) -> NDArray[np.float32]:
    """The levels, if they are positive numbers for each direction and row of cells. Raises ConfigError otherwise."""
    expected = (N_DIRECTIONS, image_height // CELL)
    if levels is None or levels.shape != expected or not (np.isfinite(levels) & (levels > 0)).all():
        raise ConfigError(f"the scene needs positive directional levels of shape {expected}")
    return np.asarray(levels, np.float32)


class ObjectEvidence:
    """Finds the objects of one source's frames, in order, and makes their evidence.

    Attributes:
        objects: of the newest frame.

    Args:
        memory: of the camera's scene.
        rate_hz: frames per second.
    """

    def __init__(self, memory: NormalScene, rate_hz: float) -> None:
        self.memory = memory
        self._tracker = ObjectTracker(memory.scene, rate_hz)
        self.objects: list[MovingObject] = []

    def reset(self) -> None:
        """Forget the source."""
        self._tracker.reset()
        self.objects = []

    def update(
        self, image_CHW: NDArray[np.uint8], flow_2HW: NDArray[np.float32], input_maps: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """The evidence maps `descent` and `object_distance` of the next frame.

        Args:
            image_CHW: uint8, grey or RGB, of the model's size.
            flow_2HW: float32, the filtered flow into this frame, pixels a frame.
            input_maps: `agitation` and `change_confidence`, float32 (1, 1, h, w).

        Shapes: returns float32 (1, 1, h, w) each.
        """
        cells = cell_flow(flow_2HW)
        speed = directional_speed(cells, self.memory.levels)[None] * input_maps["change_confidence"]
        maps = {"directional_speed": speed, "agitation": input_maps["agitation"]}
        patches = {channel.partition(":")[0]: patch_map(maps, channel).values for channel in PATCH_CHANNELS}
        self.objects = self._tracker.update(to_grey(image_CHW), flow_2HW, patches)
        descents = [one.descent for one in self.objects]
        return {
            "descent": self._tracker.paint(self.objects, descents),
            "object_distance": self._tracker.paint(self.objects, self.distances()),
        }

    def features(self) -> NDArray[np.float32]:
        """The features of the newest objects. Shapes: float32 (K, F)."""
        height = len(self.memory.scene.background)
        rows = [object_features(one, height) for one in self.objects]
        return np.array(rows, np.float32).reshape(len(rows), -1)

    def distances(self) -> list[float]:
        """Distances of the K newest objects to the normal ones, in standard deviations; 0 without a memory of them."""
        if self.memory.objects is None or not self.objects:
            return [0.0] * len(self.objects)
        return [float(distance) for distance in self.memory.objects.distances(self.features())]


def cell_flow(flow_2HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of the flow over cells. Shapes: (2, H, W); returns float32 (2, h, w)."""
    _, height, width = flow_2HW.shape
    size = (width // CELL, height // CELL)
    return np.stack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in flow_2HW]).astype(np.float32)


def to_grey(image_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels of an image. Shapes: uint8 (1 or 3, H, W); returns uint8 (H, W)."""
    if len(image_CHW) == 1:
        return np.asarray(image_CHW[0], np.uint8)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image_CHW.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY), np.uint8)


def object_box(objects: Sequence[MovingObject], box: Box) -> Box:
    """The box of the object that a patch lies on, or the patch itself where there is none.

    An object that contains the patch's centre, with a margin of a cell, is meant; of several the smallest.
    """
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    around = [
        one.box
        for one in objects
        if one.box[0] - CELL <= x <= one.box[2] + CELL and one.box[1] - CELL <= y <= one.box[3] + CELL
    ]
    return min(around, key=lambda found: (found[2] - found[0]) * (found[3] - found[1]), default=box)
