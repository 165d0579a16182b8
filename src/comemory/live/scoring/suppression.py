"""What an operator called normal: how far each place may go, for each kind of evidence, before it counts again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.live.config import Zone
from comemory.live.scoring.zones import ZoneMask, patch_centres
from comemory.scoring import Calibration, PatchFilter, PatchMap, TailScale, patch_map

ROWS, COLUMNS = 12, 16
MIN_LEVEL = 0.7
"""Decades under which a place was ordinary during an event, and is not part of it."""
MARGIN = 0.3
"""Decades that a place may pass what was called normal: twice as rare."""


def score_channels(calibration: Calibration) -> tuple[str, ...]:
    """The channels that make the score, in the order of a signature."""
    return (*calibration.settings.motion, *calibration.settings.appearance)


class Signature:
    """Where an event was, and how rare each channel was there: what `StoredEvent.cells` holds.

    Ours: for each channel the largest patch of the event in each of 12 x 16 cells of the picture, in decades of rarity.
    """

    def __init__(self, calibration: Calibration, size: tuple[int, int]) -> None:
        self.calibration, self.size = calibration, size
        self.reset()

    def reset(self) -> None:
        """Begin another event."""
        self._largest = {name: np.full((ROWS, COLUMNS), -np.inf) for name in score_channels(self.calibration)}

    def add(self, maps: Mapping[str, NDArray[np.float32]]) -> None:
        """Take the evidence of the event's next frame."""
        for channel, largest in self._largest.items():
            patches = patch_map(maps, channel)
            rows, columns = _cells(patches, self.size)
            np.maximum.at(largest, (rows, columns), patches.values)

    def cells(self) -> tuple[float, ...]:
        """Rows, columns, number of channels, then the decades by channel, row and column; 0 where it was ordinary."""
        decades = []
        for channel, largest in self._largest.items():
            scale = self.calibration.scales[channel]
            scaled = scale(np.maximum(largest, scale.knots[0]))
            decades.append(np.where(scaled >= MIN_LEVEL, scaled, 0.0))
        return (float(ROWS), float(COLUMNS), float(len(decades)), *np.round(np.stack(decades), 2).ravel().tolist())


def parse_cells(cells: Sequence[float] | None, n_channels: int) -> NDArray[np.float64] | None:
    """The decades of a signature, (channels, rows, columns); None where it is none, or of another kind of model."""
    if cells is None or tuple(cells[:3]) != (ROWS, COLUMNS, n_channels):
        return None
    values = np.asarray(cells[3:], np.float64)
    if values.size != n_channels * ROWS * COLUMNS or not np.isfinite(values).all():
        return None
    return values.reshape(n_channels, ROWS, COLUMNS)


class SuppressionFilter:
    """Which patches may win: those in no zone that are rarer than what was called normal at their place.

    Ours: a patch whose channel stays within `MARGIN` decades of the largest value that a normal event had in its cell, or
    in one beside it, does not count. Other places, other channels and rarer values count as before.

    Args:
        calibration: of the bundle.
        size: (height, width) of the model's picture.
        zones: in which nothing counts.
        normal: signatures of the events that were called normal.
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
        decades = np.zeros((len(names), ROWS, COLUMNS))
        for cells in normal:
            if (found := parse_cells(cells, len(names))) is not None:
                decades = np.maximum(decades, found)
        self._floors = {
            name: _raw(calibration.scales[name], _spread(decades[k]))
            for k, name in enumerate(names)
            if decades[k].any()
        }

    @property
    def patch_filter(self) -> PatchFilter | None:
        """What the judge asks; None where every patch counts."""
        return self._keep if self._zones.zones or self._floors else None

    def _keep(self, channel: str, patches: PatchMap) -> NDArray[np.bool_]:
        kept = self._zones(patches)
        floor = self._floors.get(channel)
        if floor is not None:
            kept = kept & (patches.values > floor[_cells(patches, self.size)])
        return kept


def _cells(patches: PatchMap, size: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The row and the column of the cell that each patch's centre lies in."""
    x, y = patch_centres(patches, size)
    rows = np.minimum((y * ROWS).astype(np.intp), ROWS - 1)
    columns = np.minimum((x * COLUMNS).astype(np.intp), COLUMNS - 1)
    return np.broadcast_arrays(rows, columns)  # type: ignore[return-value]


def _spread(decades: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each cell's decades, or those of the cells around it where they are more; 0 where nothing was."""
    padded = np.pad(decades, 1)
    near = [padded[y : y + ROWS, x : x + COLUMNS] for y in range(3) for x in range(3)]
    return np.asarray(np.max(near, axis=0))


def _raw(scale: TailScale, decades: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of a statistic that are as rare as these decades and `MARGIN` more; lowest where they are 0."""
    wanted = decades + MARGIN
    low, high = np.full(decades.shape, scale.knots[0]), np.full(decades.shape, scale.knots[-1] + scale.excess)
    for _ in range(200):
        short = scale(high) < wanted
        if not short.any():
            break
        high = np.where(short, scale.knots[0] + 2 * (high - scale.knots[0]), high)
    for _ in range(60):
        middle = (low + high) / 2
        under = scale(middle) < wanted
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.where(decades > 0, high, -np.inf)
