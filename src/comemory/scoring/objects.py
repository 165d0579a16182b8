"""Moving objects without a detector: regions that differ from the background, followed from frame to frame.

`training.scene.fit_normal_scene` learns a scene from normal video: its background, and how tall those are who move in
it. An `ObjectTracker` follows the objects of one source. It is causal, and takes the network's image and the flow of its
cells.

Shape suffixes: H W pixels of the model's image, h w cells of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError
from comemory.types import CELL, Box

MIN_CHANGE = 12.0
"""Smallest difference from the background that makes a pixel foreground, grey levels."""

NOISE_FACTOR = 4.0
"""The same in standard deviations of the background's noise around the pixel; the larger of the two holds."""

MIN_AREA = 18 / (128 * 192)
"""Smallest object, as a share of the image: 18 pixels of a 128x192 image."""

BACKGROUND_S = 20.0
"""Time constant with which the background follows the image, seconds: faster than daylight, slower than passers-by."""

ABSORB_S = 60.0
"""Time constant with which an object that stands still becomes background, seconds."""

STILL_SPEED = 0.05
"""Flow below which foreground counts as still, pixels a frame."""

MIN_HEIGHT = 6 / 128
"""Smallest expected height of an object, as a share of the image's height: keeps ratios finite at the horizon."""

TRUSTED_AREA = 0.1
"""Area, in squares of the expected height, from which the motion of an object is fully trusted. A person covers 0.2 to
0.3; what is smaller is a fragment, and its motion counts in proportion."""

MIN_OVERLAP = 0.2
"""Smallest intersection over union with which a region continues a track."""

LOST_S = 0.5
"""How long a track that is not seen can be continued, seconds."""

MIN_WALKING = 0.2
"""Directional speed from which an object of normal video tells how tall those are who walk there."""

MIN_OBJECTS = 20
"""Fewer objects than this say nothing about heights: a fifth of the image's height is expected everywhere then."""

N_BACKGROUND_FRAMES = 200
"""The background is fitted on about this many frames, spread over the training video."""


@dataclass(frozen=True, slots=True, eq=False)
class EmptyScene:
    """What normal video shows of a fixed camera's scene.

    Attributes:
        background: float32 (H, W), the scene without anybody, grey levels.
        noise: float32 (H, W), standard deviation of a pixel of the background, grey levels.
        height_offset: expected height of an object whose foot is in the image's first row, pixels.
        height_slope: expected growth of the height for each row that the foot is lower, pixels.
    """

    background: NDArray[np.float32]
    noise: NDArray[np.float32]
    height_offset: float
    height_slope: float

    def expected_height(self, bottom: float) -> float:
        """The height of a normal object that ends above row `bottom`, pixels."""
        return max(self.height_offset + self.height_slope * bottom, MIN_HEIGHT * len(self.background))

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """The arrays that a bundle stores."""
        heights = np.array([self.height_offset, self.height_slope], np.float32)
        return {"background": self.background, "noise": self.noise, "heights": heights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]]) -> EmptyScene:
        """The scene from the arrays of a bundle.

        Raises:
            ConfigError: an array is missing, has the wrong shape, or is not finite.
        """
        try:
            background, noise, heights = arrays["background"], arrays["noise"], arrays["heights"]
        except KeyError as error:
            raise ConfigError(f"the scene lacks {error.args[0]!r}") from None
        if background.ndim != 2 or background.shape != noise.shape or heights.shape != (2,):
            raise ConfigError(f"the scene has arrays of shapes {background.shape}, {noise.shape} and {heights.shape}")
        if not all(np.isfinite(array).all() for array in (background, noise, heights)):
            raise ConfigError("the scene holds numbers that are not finite")
        return cls(background.astype(np.float32), noise.astype(np.float32), float(heights[0]), float(heights[1]))


class MovingObject(NamedTuple):
    """One object in one frame.

    Attributes:
        label: its number in `ObjectTracker.silhouettes`.
        track: number of its track, unique within a source.
        age: frames since the track began.
        box: pixels of the model's image.
        area: pixels of its silhouette.
        expected_height: of a normal object that stands there, pixels.
        descent: downward speed of its upper third, in expected heights a second, at least 0.
        directional_speed: its largest patch, in multiples of what is normal in that row and direction.
        agitation: its largest patch, square roots of pixels.
    """

    label: int
    track: int
    age: int
    box: Box
    area: int
    expected_height: float
    descent: float
    directional_speed: float
    agitation: float

    @property
    def height_ratio(self) -> float:
        """Its height over the expected one."""
        return (self.box[3] - self.box[1]) / self.expected_height

    @property
    def aspect(self) -> float:
        """Its width over its height."""
        return (self.box[2] - self.box[0]) / (self.box[3] - self.box[1])


class _Track(NamedTuple):
    box: tuple[float, float, float, float]
    age: int
    last_frame: int


class ObjectTracker:
    """Finds and follows the objects of one source. Its state: the background as it is now, and the tracks.

    Args:
        scene: fitted on normal video.
        rate_hz: frames per second.

    Attributes:
        silhouettes: int32 (H, W) of the newest frame: the label of the object at each pixel; 0 is background. Regions too
            small for an object have labels too.
    """

    def __init__(self, scene: EmptyScene, rate_hz: float) -> None:
        self.scene, self.rate_hz = scene, rate_hz
        height, width = scene.background.shape
        self._size: tuple[int, int] = (int(height), int(width))
        around = cv2.blur(scene.noise, (5, 5))
        self._threshold = np.maximum(np.float32(MIN_CHANGE), np.float32(NOISE_FACTOR) * around)
        scale = height / 128
        # Opening removes specks; closing joins a head with its legs, so the gap is taller than wide.
        self._speck = np.ones((max(2, round(2 * scale)),) * 2, np.uint8)
        self._gap = np.ones((max(3, round(5 * scale)), max(3, round(3 * scale))), np.uint8)
        self._rim = np.ones((3, 3), np.uint8)
        self._min_area = MIN_AREA * height * width
        follow = -math.expm1(-1 / (rate_hz * BACKGROUND_S))
        absorb = -math.expm1(-1 / (rate_hz * ABSORB_S))
        self._rates = np.array([follow, 0.0, absorb], np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the source."""
        self._background = self.scene.background.copy()
        self._tracks: dict[int, _Track] = {}
        self._frame = self._n_tracks = 0
        self.silhouettes, self._n_labels = np.zeros(self._size, np.int32), 1

    def update(
        self, image: NDArray[np.uint8], flow_2HW: NDArray[np.float32], patches: Mapping[str, NDArray[np.float64]]
    ) -> list[MovingObject]:
        """The objects of the next frame.

        Args:
            image: uint8 (H, W), grey levels.
            flow_2HW: float32 (2, H, W), the filtered flow, pixels a frame.
            patches: `directional_speed` and `agitation`, the values of all patches: float (P, Q), where the patch at row y,
                column x begins at that cell.
        """
        foreground = self._foreground(image, flow_2HW)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
        self.silhouettes, self._n_labels = np.asarray(labels, np.int32), count
        found = [number for number in range(1, count) if stats[number, cv2.CC_STAT_AREA] >= self._min_area]
        boxes = [_box(stats[number]) for number in found]
        objects = []
        for label, box, (track, age) in zip(found, boxes, self._match(boxes), strict=True):
            measured, velocity = self._measure(
                label, box, int(stats[label, cv2.CC_STAT_AREA]), flow_2HW, patches, track, age
            )
            self._tracks[track] = _Track(_moved(box, velocity), age, self._frame)
            objects.append(measured)
        oldest = self._frame - LOST_S * self.rate_hz
        self._tracks = {number: track for number, track in self._tracks.items() if track.last_frame >= oldest}
        self._frame += 1
        return objects

    def paint(self, objects: Sequence[MovingObject], values: Sequence[float]) -> NDArray[np.float32]:
        """A map with the value of an object in every cell that its silhouette touches, 0 elsewhere.

        Shapes: float32 (1, 1, h, w).
        """
        by_label = np.zeros(self._n_labels, np.float32)
        for one, value in zip(objects, values, strict=True):
            by_label[one.label] = value
        painted = by_label[self.silhouettes]
        # The largest of each cell: slices are five times as fast as a maximum over two axes of a four-dimensional view.
        rows = np.maximum.reduce([painted[k::CELL] for k in range(CELL)])
        cells = np.maximum.reduce([rows[:, k::CELL] for k in range(CELL)])
        return np.asarray(cells[None, None], np.float32)

    def _foreground(self, image: NDArray[np.uint8], flow_2HW: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The silhouettes, uint8 (H, W). Then the background follows the image where there are none."""
        plain = image.astype(np.float32)
        change = plain / np.float32(brightness_ratio(plain, self._background)) - self._background
        mask = (np.abs(change) > self._threshold).view(np.uint8)
        mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, self._speck), np.uint8)
        mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, self._gap), np.uint8)
        is_still = cv2.magnitude(flow_2HW[0], flow_2HW[1]) < STILL_SPEED
        # By whether a pixel is covered, and then still: the background follows, stays, or absorbs what stands there.
        state = cv2.dilate(mask, self._rim) * (np.uint8(1) + is_still)
        self._background += self._rates[state] * change
        return mask

    def _measure(
        self,
        label: int,
        box: Box,
        area: int,
        flow_2HW: NDArray[np.float32],
        patches: Mapping[str, NDArray[np.float64]],
        track: int,
        age: int,
    ) -> tuple[MovingObject, tuple[float, float]]:
        """The object, and its mean velocity in pixels a frame."""
        left, top, right, bottom = box
        mask = self.silhouettes[top:bottom, left:right] == label
        across, down = flow_2HW[:, top:bottom, left:right]
        upper = mask[: max(1, (bottom - top) // 3)]
        falling = float(down[: len(upper)][upper].mean()) if upper.any() else 0.0
        expected = self.scene.expected_height(bottom)
        trust = min(1.0, area / (TRUSTED_AREA * expected**2))
        descent = max(0.0, falling * self.rate_hz / expected * trust)
        found = MovingObject(
            label=label,
            track=track,
            age=age,
            box=box,
            area=area,
            expected_height=expected,
            descent=descent,
            directional_speed=self._largest(patches["directional_speed"], box),
            agitation=self._largest(patches["agitation"], box),
        )
        return found, (float(across[mask].mean()), float(down[mask].mean()))

    def _largest(self, patches: NDArray[np.float64], box: Box) -> float:
        """The largest of the patches whose upper left half lies in the box."""
        rows, columns = patches.shape
        half = (self._size[0] // CELL - rows + 1) // 2
        top, left = min(max(0, box[1] // CELL - half), rows - 1), min(max(0, box[0] // CELL - half), columns - 1)
        bottom, right = max(top + 1, -(-box[3] // CELL) - half), max(left + 1, -(-box[2] // CELL) - half)
        return float(patches[top:bottom, left:right].max())

    def _match(self, boxes: Sequence[Box]) -> list[tuple[int, int]]:
        """The track and its age for each box: largest overlaps first, each track once."""
        overlaps = [
            (-overlap, number, track)
            for number, box in enumerate(boxes)
            for track, known in self._tracks.items()
            if (overlap := _overlap(box, known.box)) > MIN_OVERLAP
        ]
        chosen: dict[int, int] = {}
        for _, number, track in sorted(overlaps):
            if number not in chosen and track not in chosen.values():
                chosen[number] = track
        matched = []
        for number in range(len(boxes)):
            if number in chosen:
                matched.append((chosen[number], self._tracks[chosen[number]].age + 1))
            else:
                matched.append((self._n_tracks, 0))
                self._n_tracks += 1
        return matched


def brightness_ratio(image: NDArray[np.float32], background: NDArray[np.float32]) -> float:
    """How many times brighter an image is than the background, by the median of every fourth pixel."""
    return float(np.median((image[2::4, 2::4] + 4) / (background[2::4, 2::4] + 4)))


def fit_background(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The median image and the noise around it, without changes of brightness.

    Shapes: images uint8 (n, H, W); returns float32 (H, W) each.

    >>> background, noise = fit_background(np.full((3, 8, 8), 50, np.uint8))
    >>> float(background[0, 0]), float(noise[0, 0])
    (50.0, 0.0)
    """
    plain = images.astype(np.float32)
    background = np.median(plain, axis=0)
    for _ in range(2):  # the brightness of an image needs a background, and the background even images
        gains = np.array([brightness_ratio(image, background) for image in plain], np.float32)
        even = plain / gains[:, None, None]
        background = np.median(even, axis=0)
    # 1.4826 times the median absolute deviation is the standard deviation of a Gaussian, whoever walks through.
    noise = 1.4826 * np.median(np.abs(even - background), axis=0)
    return background.astype(np.float32), noise.astype(np.float32)


def fit_heights(objects: Iterable[MovingObject], size: tuple[int, int]) -> tuple[float, float]:
    """How tall those are who move, by the row of their foot: offset and slope of a line.

    Ours: on a plane, height in the image is linear in the row of the foot. Least absolute deviations, weighted by area so
    that fragments count little, by iteratively reweighted least squares.

    Args:
        objects: of normal video.
        size: height and width of the image, pixels.
    """
    height, width = size
    inside = [
        one
        for one in objects
        if one.age >= 2
        and one.box[0] > 0
        and one.box[1] > 0
        and one.box[2] < width
        and one.box[3] < height
        and one.directional_speed > MIN_WALKING
    ]
    if len(inside) < MIN_OBJECTS:
        return 0.2 * height, 0.0
    bottoms = np.array([one.box[3] for one in inside], np.float64)
    heights = np.array([one.box[3] - one.box[1] for one in inside], np.float64)
    areas = np.array([one.area for one in inside], np.float64)
    design, weights = np.stack([np.ones_like(bottoms), bottoms], axis=1), areas
    for _ in range(10):
        root = np.sqrt(weights)
        fitted = np.linalg.lstsq(design * root[:, None], heights * root, rcond=None)[0]
        weights = areas / np.maximum(np.abs(heights - design @ fitted), 1.0)
    return float(fitted[0]), float(fitted[1])


def _box(stats: NDArray[Any]) -> Box:
    left, top, width, height = (int(value) for value in stats[:4])
    return left, top, left + width, top + height


def _moved(box: Box, velocity: tuple[float, float]) -> tuple[float, float, float, float]:
    """Where the box should be in the next frame."""
    return box[0] + velocity[0], box[1] + velocity[1], box[2] + velocity[0], box[3] + velocity[1]


def _overlap(a: Box, b: tuple[float, float, float, float]) -> float:
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
