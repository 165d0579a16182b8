"""Ordinary video with objects pasted into it, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from comemory.research.pseudo_anomalies.objects import Cutout, background, cutouts, paste, tubes
from comemory.research.pseudo_anomalies.perturbations import ACTS, USUAL, Step, usual
from comemory.types import Frame

LONGEST = 48
"""Frames of a tube at the most."""
SHORTEST = 16


class Stock:
    """The objects of one stretch, cut out once for all videos that are made of it."""

    def __init__(self) -> None:
        self._tubes: list[list[Cutout]] | None = None

    def of(self, pictures: NDArray[np.uint8]) -> list[list[Cutout]]:
        """The longest tubes there are. Shapes: pictures: uint8 (n, H, W, 3)."""
        if self._tubes is None:
            still = background(pictures)
            found = [cutouts(picture, still) for picture in pictures]
            for n_frames in (LONGEST, 32, SHORTEST):
                if len(made := tubes(found, n_frames)) >= 3:
                    break
            self._tubes = made
        return self._tubes


class PseudoSource:
    """One stretch of an ordinary video in which objects of the same video do what they never did.

    Rendered as a whole, because each frame is made from all of them. Videos of one stretch and one seed have the same objects
    at the same times, whatever their kinds: what differs between them is what the objects do.

    Args:
        frames: gives the ordinary frames, uint8 (H, W, 3), all of one size.
        kinds: of `acts.ACTS`; one is drawn for each act. `acts.USUAL` alone makes a video in which all is ordinary.
        seed: of everything drawn.
        density: odd acts that are on at a time, on average.
        stock: of these frames; give one to all videos of a stretch.
    """

    def __init__(
        self,
        name: str,
        frames: Iterable[Frame],
        rate_hz: float | None,
        *,
        kinds: Sequence[str],
        seed: Sequence[int],
        density: float = 0.5,
        stock: Stock | None = None,
    ) -> None:
        self.name, self.rate_hz = name, rate_hz
        self._frames = frames
        self._kinds, self._seed = tuple(kinds), tuple(seed)
        self._density, self._stock = density, stock or Stock()

    def __iter__(self) -> Iterator[Frame]:
        for index, picture in enumerate(self._rendered()[0]):
            yield Frame(picture, index / (self.rate_hz or 25.0), index)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """The pixels of frame `index` that do not belong: bool (H, W)."""
        packed, width = self._masks
        return np.unpackbits(packed[index], axis=-1, count=width).astype(np.bool_)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """bool (n_frames,): whether something in the frame does not belong."""
        return np.asarray(self._masks[0].any(axis=(1, 2)))

    @cached_property
    def _masks(self) -> tuple[NDArray[np.uint8], int]:
        """The masks, eight pixels in a byte, and their width. The pictures are rendered anew when they are asked for."""
        masks = self._rendered()[1]
        return np.packbits(masks, axis=-1), masks.shape[2]

    def _rendered(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pictures, uint8 (n, H, W, 3), and masks, bool (n, H, W)."""
        pictures = np.stack([frame.image for frame in self._frames])
        masks = np.zeros(pictures.shape[:3], np.bool_)
        if stock := self._stock.of(pictures):
            for start, steps, odd in self._acts(stock, len(pictures), pictures.shape[1:3]):
                for picture, mask, step in zip(pictures[start:], masks[start:], steps, strict=False):
                    covered = paste(picture, step.cut, step.x, step.y, step.scale)
                    mask &= ~covered
                    if odd:
                        mask |= covered
        return pictures, masks

    def _acts(
        self, stock: Sequence[Sequence[Cutout]], n_frames: int, size: tuple[int, int]
    ) -> Iterator[tuple[int, list[Step], bool]]:
        """When each act begins, its steps, and whether it is an odd one. As many ordinary ones as odd ones."""
        n_acts = max(1, round(self._density * n_frames / (LONGEST / 2)))
        for number in range(n_acts):
            rng = np.random.default_rng([*self._seed, number])
            (ordinary, odd), starts = (
                rng.integers(len(stock), size=2),
                rng.integers(max(1, n_frames - SHORTEST), size=2),
            )
            kind = self._kinds[int(rng.integers(len(self._kinds)))]
            yield int(starts[0]), usual(stock[ordinary], LONGEST, size, rng), False
            act = usual if kind == USUAL else ACTS[kind]
            yield int(starts[1]), act(stock[odd], LONGEST, size, rng), kind != USUAL
