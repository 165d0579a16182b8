"""Suppression of what an operator marked as normal: at each place, each channel must exceed what the event reached there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.live.config import Zone
from comemory.live.scoring.zones import ZoneMask, patch_centres
from comemory.scoring import Calibration, PatchFilter, PatchMap, TailScale, patch_map

ROWS, COLUMNS = 12, 16
"""The grid of a signature: coarse enough that the same event, a little beside, falls into the same cells."""

MIN_LEVEL = 0.7
"""Level below which a place was normal during an event, and is no part of it: one normal frame in five reaches it."""

MARGIN = 0.3
"""How far a place may exceed what was marked as normal, in log10 units: twice as rare."""


def score_channels(calibration: Calibration) -> tuple[str, ...]:
    """The channels that make the score, in the order of a signature."""
    return (*calibration.settings.motion, *calibration.settings.appearance)


class Signature:
    """Where an event was, and how rare each channel was there; stored as `StoredEvent.cells`.

    Ours: for each channel, the level of the event's largest patch in each of 12 x 16 cells of the image.

    Args:
        calibration: of the bundle.
        size: (height, width) of the model's image.
    """

    def __init__(self, calibration: Calibration, size: tuple[int, int]) -> None:
        self.calibration, self.size = calibration, size
        self.reset()

    def reset(self) -> None:
        """Start another event."""
        self._largest = {name: np.full((ROWS, COLUMNS), -np.inf) for name in score_channels(self.calibration)}

    def add(self, maps: Mapping[str, NDArray[np.float32]]) -> None:
        """Add the evidence maps of the event's next frame."""
        for channel, largest in self._largest.items():
            patches = patch_map(maps, channel)
            rows, columns = _cells(patches, self.size)
            np.maximum.at(largest, (rows, columns), patches.values)

    def cells(self) -> tuple[float, ...]:
        """Rows, columns, number of channels, then the levels by channel, row and column; 0 where it was normal."""
        levels = []
        for channel, largest in self._largest.items():
            scale = self.calibration.scales[channel]
            scaled = scale(np.maximum(largest, scale.knots[0]))
            levels.append(np.where(scaled >= MIN_LEVEL, scaled, 0.0))
        return (float(ROWS), float(COLUMNS), float(len(levels)), *np.round(np.stack(levels), 2).ravel().tolist())


def parse_cells(cells: Sequence[float] | None, n_channels: int) -> NDArray[np.float64] | None:
    """Read the levels of a signature.

    Shapes: returns float64 (channels, rows, columns); None for no signature, or one of another kind of model.
    """
    if cells is None or tuple(cells[:3]) != (ROWS, COLUMNS, n_channels):
        return None
    values = np.asarray(cells[3:], np.float64)
    if values.size != n_channels * ROWS * COLUMNS or not np.isfinite(values).all():
        return None
    return values.reshape(n_channels, ROWS, COLUMNS)


class SuppressionFilter:
    """Allows the patches that lie in no zone and are rarer than what was marked as normal at their place.

    Ours: a patch does not count while its channel stays within `MARGIN` of the highest level that a normal event had in
    its cell or a neighbouring one. Other places, other channels and higher levels count as before.

    Args:
        calibration: of the bundle.
        size: (height, width) of the model's image.
        zones: polygons in which nothing counts.
        normal: signatures of the events that were marked as normal.
    """

    def __init__(
        self,
        calibration: Calibration,
        size: tuple[int, int],
        zones: Sequence[Zone] = (),
        normal: Iterable[Sequence[float] | None] = (),
    ) -> None:
        self.size = size
        self._zones = ZoneMask(zones, size)
        names = score_channels(calibration)
        levels = np.zeros((len(names), ROWS, COLUMNS))
        for cells in normal:
            if (parsed := parse_cells(cells, len(names))) is not None:
                levels = np.maximum(levels, parsed)
        self._floors = {
            name: _to_values(calibration.scales[name], _dilated(levels[k]))
            for k, name in enumerate(names)
            if levels[k].any()
        }

    @property
    def patch_filter(self) -> PatchFilter | None:
        """The filter for `Detector.step`; None where every patch counts."""
        return self._allows if self._zones.zones or self._floors else None

    def _allows(self, channel: str, patches: PatchMap) -> NDArray[np.bool_]:
        allowed = self._zones(patches)
        floor = self._floors.get(channel)
        if floor is not None:
            allowed = allowed & (patches.values > floor[_cells(patches, self.size)])
        return allowed


def _cells(patches: PatchMap, size: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The row and the column of the cell that each patch's centre lies in."""
    x, y = patch_centres(patches, size)
    rows = np.minimum((y * ROWS).astype(np.intp), ROWS - 1)
    columns = np.minimum((x * COLUMNS).astype(np.intp), COLUMNS - 1)
    return np.broadcast_arrays(rows, columns)  # type: ignore[return-value]


def _dilated(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each cell's level, or the highest of the cells around it; 0 where there was none."""
    padded = np.pad(levels, 1)
    near = [padded[y : y + ROWS, x : x + COLUMNS] for y in range(3) for x in range(3)]
    return np.asarray(np.max(near, axis=0))


def _to_values(scale: TailScale, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of a statistic whose level is `MARGIN` above the given ones; -inf where a level is 0.

    The scale has no closed inverse, so values are found by doubling the range, then by bisection: 60 halvings reach the
    precision of float64.
    """
    wanted = levels + MARGIN
    low, high = np.full(levels.shape, scale.knots[0]), np.full(levels.shape, scale.knots[-1] + scale.excess)
    for _ in range(200):
        short = scale(high) < wanted
        if not short.any():
            break
        high = np.where(short, scale.knots[0] + 2 * (high - scale.knots[0]), high)
    for _ in range(60):
        middle = (low + high) / 2
        under = scale(middle) < wanted
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.where(levels > 0, high, -np.inf)
